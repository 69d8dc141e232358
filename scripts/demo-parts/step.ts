// What a step of the demo is: it really sends something, then asks both ends what came of it. The client's
// word alone proves nothing, and neither does a silent server.
import type { Lab } from '../lab/lab.ts'
import type { Identity, MailHost } from '../lab/mail.ts'
import type { Probe } from '../lab/probe.ts'
import type { Explanation, Service } from './service.ts'

/** All that a step works with. */
export interface Scene {
  readonly lab: Lab
  readonly service: Service
  readonly client: Probe
  readonly internet: MailHost
  readonly relays: MailHost
  readonly identity: Identity
  /** Tells the audience what is going on, where a step takes long. */
  readonly say: (line: string) => void
}

/** From where to where. */
export interface Way {
  readonly who: string
  readonly from: string
  readonly to: string
}

export interface Step extends Way {
  readonly port: number
  play(scene: Scene): Promise<Outcome>
}

export interface Outcome {
  /** The service's own explanation, in short. */
  readonly policy: string
  readonly happened: string
  /** Connections that went through, and connections that were refused. */
  readonly passed: number
  readonly refused: number
  /** What was not as the policy says; nothing when all was. */
  readonly faults: readonly string[]
}

export type Row = Way & Outcome & { readonly port: number }

/** Plays a step. What it throws is its fault, and the show goes on. */
export async function play(step: Step, scene: Scene): Promise<Row> {
  const { who, from, to, port } = step
  try {
    return { who, from, to, port, ...(await step.play(scene)) }
  } catch (error) {
    const faults = [error instanceof Error ? error.message : String(error)]
    return { who, from, to, port, policy: '', happened: 'went wrong', passed: 0, refused: 0, faults }
  }
}

/** `block (residential)`. */
export function verdictWord({ verdict, document }: Explanation): string {
  return document ? `${verdict} (${document.name})` : verdict
}

/** The fault, if it is one, that the service explains another verdict. */
export function explanationFaults({ verdict, reason }: Explanation, expected: string): string[] {
  return verdict === expected ? [] : [`the service explains it otherwise: ${verdict}, ${reason}`]
}

let subjects = 0

/** A subject that no other message has. */
export function freshSubject(): string {
  return `demo ${++subjects}`
}
