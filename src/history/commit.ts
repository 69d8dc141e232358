/**
 * Makes commits, any number of them with one process, through git-fast-import(1): it touches neither the work tree nor
 * the index, and moves the branch only when that still is where the commits begin.
 */
import type { ChangeRecord, Signature } from './change-record.ts'
import { GitError } from './history-error.ts'
import { type Blob, type Repository, records } from './repository.ts'

export interface NewCommit {
  readonly author: Signature
  readonly committer: Signature
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly message: string
  readonly files: readonly {
    readonly path: string
    readonly mode?: string
    readonly content: string | Uint8Array | null
  }[]
}

/**
 * Commits one after the other on top of a commit, or as the first ones. Answers their ids.
 * @throws GitError when the ref has moved meanwhile, or the repository cannot be written; then it is as before
 */
export async function addCommits(
  { git }: Repository,
  ref: string,
  parent: string | null,
  commits: readonly NewCommit[],
): Promise<string[]> {
  const parts: (string | Uint8Array)[] = []
  const data = (content: string | Uint8Array) => {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    parts.push(`data ${bytes.length}\n`, bytes, '\n')
  }
  for (const [index, { author, committer, time, message, files }] of commits.entries()) {
    const when = `${Math.floor(time / 1_000)} +0000`
    parts.push(`commit ${ref}\nmark :${index + 1}\n`)
    parts.push(`author ${author.name} <${author.email}> ${when}\n`)
    parts.push(`committer ${committer.name} <${committer.email}> ${when}\n`)
    data(message)
    if (index === 0 && parent !== null) parts.push(`from ${parent}\n`)
    for (const { path, mode = '100644', content } of files) {
      if (content === null) parts.push(`D ${quotePath(path)}\n`)
      else {
        parts.push(`M ${mode} inline ${quotePath(path)}\n`)
        data(content)
      }
    }
    parts.push('\n')
  }
  for (const index of commits.keys()) parts.push(`get-mark :${index + 1}\n`)
  parts.push('done\n')
  const input = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
  const ids = (await git.read(['fast-import', '--quiet', '--done', '--date-format=raw'], { input }))
    .split('\n')
    .filter((line) => line !== '')
  if (ids.length !== commits.length) throw new GitError('git fast-import: it did not say what it has made')
  return ids
}

/** The commit that a change becomes. */
export function commitOf(record: ChangeRecord, message: string, committer: Signature): NewCommit {
  const files = record.files.map(({ path, text }) => ({ path, content: text }))
  return { author: record.author, committer, time: record.time, message, files }
}

/**
 * Tells the index of files that were committed past it. What somebody has staged of them stays staged.
 * @param files what the index is expected to have, and what was committed
 * @param parent what it was committed on top of; where that has a file otherwise than expected, so may the index
 */
export async function followInIndex(
  repository: Repository,
  parent: string | null,
  files: readonly { readonly path: string; readonly before: string | null; readonly after: Blob | null }[],
): Promise<void> {
  const { git, noId } = repository
  const listed = await git.read(['ls-files', '-s', '-z', '--', ...files.map(({ path }) => path)])
  const staged = new Map(
    records(listed).map((line) => {
      const [, id = '', path = ''] = /^\d+ ([0-9a-f]+) \d\t(.*)$/s.exec(line) ?? []
      return [path, id]
    }),
  )
  const others = files.filter(({ path, before }) => (staged.get(path) ?? null) !== before)
  const committed = await (others.length === 0
    ? new Map<string, Blob>()
    : repository.files(
        parent,
        others.map(({ path }) => path),
      ))
  const lines = files.flatMap(({ path, before, after }) => {
    const known = staged.get(path) ?? null
    if (known !== before && known !== committed.get(path)?.id) return []
    return [`${after === null ? `0 ${noId}` : `${after.mode} ${after.id}`}\t${path}\0`]
  })
  if (lines.length > 0) await git.read(['update-index', '-z', '--index-info'], { input: lines.join('') })
}

function quotePath(path: string): string {
  return `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
}
