/** Reads the history: who changed what, when and why. */
import { ProcessError } from '../kernel/process.ts'
import { TRAILERS } from './change-record.ts'
import { GitError } from './history-error.ts'
import type { Repository } from './repository.ts'

export interface Revision {
  readonly id: string
  readonly parents: readonly string[]
  readonly author: { readonly name: string; readonly email: string }
  readonly committer: { readonly name: string; readonly email: string }
  /** When it was written, in milliseconds since the epoch. */
  readonly time: number
  readonly subject: string
  /** The message without the subject and the trailers. */
  readonly reason: string | null
  /** Of the request that made it; null: it was not made through the API. */
  readonly requestId: string | null
  /** The revision that it takes back. */
  readonly reverts: string | null
}

const trailer = (key: string) => `%(trailers:key=${key},valueonly,separator=%x20)`
const FIELDS = [
  '%H',
  '%P',
  '%an',
  '%ae',
  '%cn',
  '%ce',
  '%at',
  '%s',
  trailer(TRAILERS.request),
  trailer(TRAILERS.reverts),
  trailer(TRAILERS.change),
  '%b',
]
const FORMAT = `--format=${FIELDS.join('%x00')}`

/** A patch beyond it is left out: nobody reads it, and a list may have a million lines. */
const MAX_PATCH = 1024 * 1024

/** From a commit backwards, the latest first; of so many the first few are passed over. */
export async function listRevisions(
  { git }: Repository,
  { from, skip, limit, path }: { from: string; skip: number; limit: number; path: string | null },
): Promise<Revision[]> {
  const paths = path === null ? [] : [path]
  const text = await git.read([
    'log',
    '-z',
    `--skip=${skip}`,
    `--max-count=${limit}`,
    FORMAT,
    from,
    '--',
    ...paths,
  ])
  const fields = text.split('\0')
  const found: Revision[] = []
  for (let at = 0; at + FIELDS.length <= fields.length; at += FIELDS.length) {
    found.push(revisionOf(fields.slice(at, at + FIELDS.length)))
  }
  return found
}

/** What a revision changes against its first parent, as `git diff` shows it; null: it is too long. */
export async function patchOf({ git }: Repository, before: string, revision: string): Promise<string | null> {
  const args = [
    'diff-tree',
    '-r',
    '-p',
    '--no-color',
    '--no-ext-diff',
    '--no-textconv',
    '--no-renames',
    before,
    revision,
  ]
  try {
    return await git.read(args, { maxOutput: MAX_PATCH })
  } catch (error) {
    if (error instanceof GitError && error.cause instanceof ProcessError && error.cause.fault === 'output')
      return null
    throw error
  }
}

function revisionOf(fields: readonly string[]): Revision {
  const [
    id = '',
    parents = '',
    an = '',
    ae = '',
    cn = '',
    ce = '',
    time = '',
    subject = '',
    request,
    reverts,
    change,
    body = '',
  ] = fields
  const paragraphs = body.trim().split(/\n{2,}/)
  // What egress25 has committed ends with a paragraph for programs.
  if (change?.trim()) paragraphs.pop()
  const reason = paragraphs.join('\n\n').trim()
  return {
    id,
    parents: parents.split(' ').filter((one) => one !== ''),
    author: { name: an, email: ae },
    committer: { name: cn, email: ce },
    time: Number(time) * 1_000,
    subject,
    reason: reason === '' ? null : reason,
    requestId: request?.trim() || null,
    reverts: reverts?.trim() || null,
  }
}
