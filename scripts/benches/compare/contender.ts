// What a contender of the comparison is: a program that blocks port 25 for everybody but those on a list.
import type { Lab } from '../../lab/lab.ts'

export interface Contender {
  readonly name: string
  /** Makes ready what is not measured, such as services that have to run. Nothing is blocked yet. */
  open(place: Place): Promise<Ready>
}

export interface Place {
  readonly lab: Lab
  /** A folder of its own, on a disk. */
  readonly folder: string
  readonly prefixes: readonly string[]
}

/** Runs a program in the gateway to its end. @throws OverLimit, or Error when it ends with another status than 0 */
export type Run = (argv: readonly string[]) => Promise<void>

export interface Ready {
  /** All that a user runs until the rules are in force. */
  first(run: Run): Promise<void>
  /** Makes ready what is not measured of `oneMore`. */
  readonly between?: () => Promise<void>
  /** All that a user runs to let one more host through. */
  oneMore(run: Run, host: string): Promise<void>
}

/** It took longer than anybody is made to wait here. */
export class OverLimit extends Error {}
