/**
 * After a crash, before anything is applied: a change of several files is there whole, or not at all; and what the
 * journal has of changes that never happened is dropped.
 *
 * Changes wait for each other, so only the latest in the journal, or the latest group of changes that were made at once, can
 * have been cut short: in files that have their new
 * text the kernel had agreed, and the rest follows; with all files as before, nothing was acknowledged.
 */
import { mkdir, readFile, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder, writeFileAtomically } from '../kernel/atomic-file.ts'
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
  await followInIndex(repository, files).catch(() => {})
}

async function finish(
  repository: Repository,
  targets: readonly Target[],
): Promise<'happened' | 'never-happened'> {
  const found = await Promise.all(
    targets.map(async (target) => {
      const bytes = await readFile(join(repository.git.directory, target.path)).catch(() => null)
      return { target, id: bytes === null ? null : repository.blobId(bytes) }
    }),
  )
  const isThere = found.some(({ target, id }) => id === target.after && target.before !== target.after)
  if (!isThere && found.every(({ target, id }) => id === target.before)) return 'never-happened'
  // A file that is neither what it was nor what it shall be was edited by hand since, and stays.
  for (const { target, id } of found) {
    if (id !== target.before || target.before === target.after) continue
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
