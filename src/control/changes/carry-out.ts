/**
 * Changes that were checked, made: in the journal, in the kernel, in their files, in this order.
 *
 * What is written comes first, beside the files, where most that can go wrong with a disk goes wrong while nothing has
 * changed. The journal comes before the kernel, so that a crash from then on is brought to its end by the next start. The
 * kernel comes before the names: it may refuse, and a file that has its name is in force at the next start, whoever was
 * told otherwise. When a name cannot be given then, that change alone is taken back from the kernel.
 */

import type { ChangeKeeper, Remembered } from '../../history/change-keeper.ts'
import type { FileChange } from '../../policy/file-change.ts'
import type { MadeChange } from './change.ts'
import { HalfPlacedError, placeAll, stageAll, UnwritableError } from './stage-change.ts'

/** Files and rules differ after a change that went wrong more than once: it says how. */
export class HalfMadeError extends Error {}

export interface CarryOut {
  readonly directory: string
  readonly keeper: ChangeKeeper | undefined
  /** Brings them all into force, at once. @throws KernelError */
  readonly enforce: () => Promise<unknown>
  /** Brings into force what is left, when these files alone have changed. */
  readonly enforceOnly: (files: readonly FileChange[]) => Promise<unknown>
}

/**
 * Answers for each change why it was not made; null: it was.
 * @throws UnwritableError, or what a journal throws: nothing has changed; or what `enforce` throws: so have no files
 */
export async function carryOut(
  changes: readonly MadeChange[],
  { directory, keeper, enforce, enforceOnly }: CarryOut,
): Promise<(Error | null)[]> {
  const staged = await stageAll(
    directory,
    changes.map(({ files }) => files),
  )
  let remembered: readonly (Remembered | null)[] = []
  try {
    const each = () => changes.map(({ remember }) => remember())
    remembered = keeper === undefined ? each() : keeper.together(each)
    await enforce()
  } catch (error) {
    for (const one of staged) await one.discard()
    for (const one of remembered) one?.cancel()
    throw error
  }
  const faults = await placeAll(staged)
  const made = changes.filter((_, index) => faults[index] === null)
  const stays =
    made.length === changes.length
      ? null
      : await enforceOnly(made.flatMap(({ files }) => files)).then(
          () => null,
          (error: Error) => error,
        )
  const answers: (Error | null)[] = []
  for (const [index, fault] of faults.entries()) {
    if (fault !== null) remembered[index]?.cancel()
    answers.push(fault === null ? await done(remembered[index] ?? null) : answerFor(fault, stays))
  }
  return answers
}

async function done(remembered: Remembered | null): Promise<Error | null> {
  try {
    await remembered?.done()
    return null
  } catch (error) {
    return error as Error
  }
}

/** @param stays why the kernel could not be told that the change is not to be */
function answerFor(fault: Error, stays: Error | null): Error {
  const { message } = fault
  if (stays !== null) {
    return new HalfMadeError(
      `${message}; the change is in force until the next start all the same: ${stays.message}`,
    )
  }
  if (fault instanceof HalfPlacedError) {
    return new HalfMadeError(
      `${message}; it is not in force, but what is in these files will be at the next start`,
    )
  }
  return new UnwritableError(`${message}; nothing was changed`)
}
