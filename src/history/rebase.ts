/** Puts our own commits on top of somebody else's, when they touch other documents. */
import { addCommits, type NewCommit } from './commit.ts'
import { documentsOf } from './history.ts'
import { ConflictError } from './history-error.ts'
import { replay } from './merge.ts'
import type { Blob, Repository } from './repository.ts'
import { listRevisions } from './revisions.ts'

/** Where the commits lie until the branch moves there. */
const REF = 'refs/egress25/rebased'
const MOST = 1_000

/**
 * Answers the revision that has theirs first, and then ours, each with its author, time and message.
 * @throws ConflictError when both change the same document, or the same lines, or ours were merged by hand
 */
export async function rebase(
  repository: Repository,
  { base, ours, theirs }: { base: string; ours: string; theirs: string },
): Promise<string> {
  const [mine, others] = await Promise.all(
    [ours, theirs].map(async (tip) => documentsOf(repository, await repository.differences(base, tip))),
  )
  const names = new Set(others?.map(({ kind, name }) => `${kind} ${name}`))
  const clash = mine?.filter(({ kind, name }) => names.has(`${kind} ${name}`)) ?? []
  if (clash.length > 0) {
    const what = clash
      .map(({ kind, name }) => `${kind} ${name}`)
      .slice(0, 5)
      .join(', ')
    throw new ConflictError(
      `changed both here and at the remote: ${what}`,
      clash.map(({ file }) => file),
    )
  }
  const log = await listRevisions(repository, { from: ours, skip: 0, limit: MOST, path: null })
  const chain = log
    .slice(
      0,
      log.findIndex(({ id }) => id === base),
    )
    .reverse()
  if (chain.some(({ parents }) => parents.length !== 1) || chain[0]?.parents[0] !== base)
    throw new ConflictError('what is here and not at the remote was merged by hand; push it by hand', [])
  const files = new Map<string, Blob>(await repository.files(theirs))
  const commits: NewCommit[] = []
  for (const { id, parents, author, committer, time } of chain) {
    const changed = await replay(repository, parents[0] ?? null, id, files)
    for (const { path, mode, content } of changed) {
      if (content === null) files.delete(path)
      else files.set(path, { mode, id: await repository.store(content) })
    }
    const message = await repository.messageOf(id)
    commits.push({ author, committer, time, message, files: changed })
  }
  await repository.git.run(['update-ref', '-d', REF])
  const ids = await addCommits(repository, REF, theirs, commits)
  return ids.at(-1) ?? theirs
}
