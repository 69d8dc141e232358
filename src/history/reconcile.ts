/**
 * After a crash, before anything is applied: a change of several files is there whole, or not at all; and what the
 * journal has of changes that never happened is dropped.
 *
 * Changes wait for each other, so only the latest in the journal, or the latest group of changes that were made at once, can
 * have been cut short: in files that have their new
 * text the kernel had agreed, and the rest follows; with all files as before, nothing was acknowledged. A file that is neither was
 * edited by hand since: on top of the change, or, where what was to have its name still lies beside it, in place of it.
 */
import { mkdir, readFile, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { stagedFor, syncFolder, writeFileAtomically } from '../kernel/atomic-file.ts'
import type { ChangeRecord } from './change-record.ts'
import { followInIndex } from './commit.ts'
import type { AdvanceRecord, Journal, JournalEntry } from './journal.ts'
import type { Repository } from './repository.ts'

interface Target {
  readonly path: string
  readonly before: string | null
  readonly after: string | null
  readonly mode: number
  content(): Promise<string | Uint8Array>
}

/** Answers the changes that have yet to be committed. @throws Error when files cannot be written */
export async function reconcile(
  repository: Repository,
  journal: Journal,
): Promise<{ number: number; record: ChangeRecord }[]> {
  const left: { number: number; record: ChangeRecord }[] = []
  const entries = journal.all()
  const latest = entries.at(-1)
  for (const { number, entry } of entries) {
    if (entry.kind === 'advance') {
      await finishAdvance(repository, entry)
      journal.remove([number])
      continue
    }
    const { kind: _, group, ...record } = entry
    const isLatest = number === latest?.number || (group !== undefined && group === groupOf(latest?.entry))
    if (isLatest && (await finish(repository, targetsOf(repository, record))) === 'never-happened') {
      journal.remove([number])
    } else left.push({ number, record })
  }
  return left
}

function groupOf(entry: JournalEntry | undefined): string | undefined {
  return entry?.kind === 'commit' ? entry.group : undefined
}

function targetsOf(repository: Repository, { files }: ChangeRecord): Target[] {
  return files.map(({ path, before, text }) => ({
    path,
    before,
    after: text === null ? null : repository.blobId(text),
    mode: 0o644,
    content: async () => text ?? '',
  }))
}

async function finishAdvance(repository: Repository, { from, to }: AdvanceRecord): Promise<void> {
  const differences = await repository.differences(from, to)
  const targets = differences.map(({ path, before, after }) => ({
    path,
    before: before?.id ?? null,
    after: after?.id ?? null,
    mode: after?.mode === '100755' ? 0o755 : 0o644,
    content: async () => (await repository.contents([after?.id ?? ''])).get(after?.id ?? '') ?? '',
  }))
  if ((await finish(repository, targets)) === 'never-happened') return
  await moveBranch(repository, { from, to })
}

/** The branch goes on to a revision whose files stand in the work tree already. */
export async function moveBranch(repository: Repository, { from, to }: AdvanceRecord): Promise<void> {
  const { branch, commit } = await repository.head()
  if (branch !== null && commit === from)
    await repository.git.read(['update-ref', '-m', 'egress25', branch, to, ...(from === null ? [] : [from])])
  const files = (await repository.differences(from, to)).map(({ path, before, after }) => ({
    path,
    before: before?.id ?? null,
    after,
  }))
  await followInIndex(repository, from, files).catch(() => {})
}

/** Files are completed only where nobody has edited them. */
async function finish(
  repository: Repository,
  targets: readonly Target[],
): Promise<'happened' | 'never-happened'> {
  const found = await Promise.all(
    targets
      .filter(({ before, after }) => before !== after)
      .map(async (target) => ({ target, ...(await look(repository, target)) })),
  )
  if (found.every(({ isPending }) => isPending)) return 'never-happened'
  for (const { target, isAsBefore } of found) {
    if (!isAsBefore) continue
    const path = join(repository.git.directory, target.path)
    if (target.after === null) {
      await unlink(path)
      await syncFolder(dirname(path))
    } else {
      await mkdir(dirname(path), { recursive: true })
      await writeFileAtomically(path, await target.content(), target.mode)
    }
  }
  return 'happened'
}

/** How a file is, and whether it has certainly not been changed by us. */
async function look(
  repository: Repository,
  { path, before, after }: Target,
): Promise<{ isAsBefore: boolean; isPending: boolean }> {
  const whole = join(repository.git.directory, path)
  const idOf = async (file: string) => {
    const bytes = await readFile(file).catch(() => null)
    return bytes === null ? null : repository.blobId(bytes)
  }
  const bytes = await readFile(whole).catch(() => null)
  const id = bytes === null ? null : repository.blobId(bytes)
  if (id === before) return { isAsBefore: true, isPending: true }
  // What was pulled is told by what git keeps of it.
  if (id !== after && bytes !== null && before !== null && (await repository.idKept(path, bytes)) === before)
    return { isAsBefore: true, isPending: true }
  if (id === after || after === null) return { isAsBefore: false, isPending: false }
  const staged = await Promise.all((await stagedFor(whole)).map(idOf))
  return { isAsBefore: false, isPending: staged.includes(after) }
}
