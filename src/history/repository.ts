/** The git repository of a policy directory: what is committed, and what stands in the work tree. Reads only. */
import { createHash } from 'node:crypto'
import { access, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Git } from './git.ts'
import { GitError, NoRevisionError } from './history-error.ts'

/** Where the work tree is. */
export interface Head {
  /** Such as `refs/heads/main`; null: the head is detached, somebody looks at an old revision. */
  readonly branch: string | null
  /** null: nothing is committed yet. */
  readonly commit: string | null
}

/** A file between two revisions; null: it is not there. */
export interface FileDifference {
  readonly path: string
  readonly before: Blob | null
  readonly after: Blob | null
}

export interface Blob {
  /** Such as `100644`. */
  readonly mode: string
  readonly id: string
}

/** What stands in a work tree, and is not committed, or not what is committed. */
export interface Edited {
  readonly path: string
  readonly what: 'changed' | 'added' | 'removed' | 'staged'
}

/** Files that are there while somebody is in the middle of something. */
const UNDER_WAY: Readonly<Record<string, string>> = {
  'rebase-merge': 'a rebase is under way',
  'rebase-apply': 'a rebase is under way',
  MERGE_HEAD: 'a merge is under way',
  CHERRY_PICK_HEAD: 'a cherry-pick is under way',
  REVERT_HEAD: 'a revert is under way',
  'index.lock': 'another git is at work',
}

export class Repository {
  readonly git: Git
  readonly #folder: string
  readonly #hash: string
  /** Names of filters that the repository's configuration has a program for. They are not run. */
  readonly #filters: readonly string[]

  private constructor(git: Git, folder: string, hash: string, filters: readonly string[]) {
    this.git = git.with(withoutFilters(filters))
    this.#folder = folder
    this.#hash = hash
    this.#filters = filters
  }

  /**
   * The repository whose work tree is the directory; null when there is none.
   * @throws GitError when git is missing, or the repository is none to be trusted
   */
  static async open(git: Git): Promise<Repository | null> {
    const { directory } = git
    if (!(await exists(join(directory, '.git')))) return null
    // What a repository's configuration says may be run, so it must be somebody's who may run things here.
    for (const path of [directory, join(directory, '.git')]) {
      const { uid } = await stat(path)
      if (uid !== 0 && uid !== process.getuid?.())
        throw new GitError(`${path} belongs to another user (${uid}), so its repository is not used`)
    }
    const [folder = '', format = '', top = ''] = (
      await git.read(['rev-parse', '--absolute-git-dir', '--show-object-format', '--show-toplevel'])
    ).split('\n')
    if (!isAbsolute(folder) || (await realpath(directory)) !== (await realpath(top)))
      throw new GitError(`${directory} is not the top of its git work tree`)
    const { stdout } = await git.run(['config', '-z', '--name-only', '--get-regexp', '^filter\\.'], {
      answers: [1],
    })
    const filters = records(stdout).flatMap((key) => /^filter\.(.*)\.[^.]*$/s.exec(key)?.[1] ?? [])
    return new Repository(git, folder, format, [...new Set(filters)])
  }

  /** `.git`, as an absolute path. */
  get folder(): string {
    return this.#folder
  }

  /** What keeps us from committing now, in words; null: nothing. */
  async underWay(): Promise<string | null> {
    for (const [file, words] of Object.entries(UNDER_WAY)) {
      if (await exists(join(this.#folder, file))) return words
    }
    return null
  }

  async head(): Promise<Head> {
    const branch = (await this.git.run(['symbolic-ref', '-q', 'HEAD'], { answers: [1] })).stdout.trim()
    const commit = (
      await this.git.run(['rev-parse', '--verify', '-q', 'HEAD^{commit}'], { answers: [1] })
    ).stdout.trim()
    return { branch: branch === '' ? null : branch, commit: commit === '' ? null : commit }
  }

  /** The whole id of a revision that somebody named. @throws NoRevisionError */
  async resolve(revision: string): Promise<string> {
    const { code, stdout } = await this.git.run(
      ['rev-parse', '--verify', '-q', '--end-of-options', `${revision}^{commit}`],
      { answers: [1, 128] },
    )
    if (code !== 0) throw new NoRevisionError(`there is no revision ${revision}`)
    return stdout.trim()
  }

  /** The commit of a ref; null when there is none. */
  async commitOf(ref: string): Promise<string | null> {
    const args = ['rev-parse', '--verify', '-q', `${ref}^{commit}`]
    const { code, stdout } = await this.git.run(args, { answers: [1, 128] })
    return code === 0 ? stdout.trim() : null
  }

  async parents(commit: string): Promise<readonly string[]> {
    const line = (await this.git.read(['rev-list', '-n', '1', '--parents', commit])).trim()
    return line.split(' ').slice(1)
  }

  /** Whether everything in the one is also in the other. */
  async isAncestor(ancestor: string, commit: string): Promise<boolean> {
    const { code } = await this.git.run(['merge-base', '--is-ancestor', ancestor, commit], { answers: [1] })
    return code === 0
  }

  /** null: they have nothing in common. */
  async mergeBase(one: string, other: string): Promise<string | null> {
    const { code, stdout } = await this.git.run(['merge-base', one, other], { answers: [1] })
    return code === 0 ? stdout.trim() : null
  }

  /** How many commits are in the one and not in the other. */
  async countBetween(from: string, to: string): Promise<number> {
    return Number(await this.git.read(['rev-list', '--count', `${from}..${to}`]))
  }

  /** The files of a commit, all or those of some paths, with their blobs; of null none. */
  async files(commit: string | null, paths: readonly string[] = []): Promise<Map<string, Blob>> {
    if (commit === null) return new Map()
    const text = await this.git.read(['ls-tree', '-r', '-z', '--full-tree', commit, '--', ...paths], {
      maxOutput: 256 * 1024 * 1024,
    })
    return new Map(
      records(text).flatMap((line) => {
        const [, mode = '', id = '', path = ''] = /^(\d+) \w+ ([0-9a-f]+)\t(.*)$/s.exec(line) ?? []
        return path === '' ? [] : [[path, { mode, id }] as const]
      }),
    )
  }

  /** What differs between two commits; null is the empty tree. */
  async differences(before: string | null, after: string): Promise<FileDifference[]> {
    const from = before ?? (await this.emptyTree())
    const text = await this.git.read(['diff-tree', '-r', '-z', '--no-renames', '--full-index', from, after])
    const fields = records(text)
    const found: FileDifference[] = []
    for (let at = 0; at + 1 < fields.length; at += 2) {
      const [, oldMode = '', newMode = '', oldId = '', newId = ''] =
        /^:(\d+) (\d+) ([0-9a-f]+) ([0-9a-f]+) /.exec(fields[at] ?? '') ?? []
      found.push({
        path: fields[at + 1] ?? '',
        before: isNothing(oldId) ? null : { mode: oldMode, id: oldId },
        after: isNothing(newId) ? null : { mode: newMode, id: newId },
      })
    }
    return found
  }

  async emptyTree(): Promise<string> {
    return (await this.git.read(['hash-object', '-t', 'tree', '-w', '--stdin'])).trim()
  }

  /** The bytes of blobs by their ids. */
  async contents(ids: Iterable<string>): Promise<Map<string, Buffer>> {
    const wanted = [...new Set(ids)]
    if (wanted.length === 0) return new Map()
    const output = Buffer.from(
      await this.git.read(['cat-file', '--batch'], {
        input: `${wanted.join('\n')}\n`,
        encoding: 'latin1',
        maxOutput: 256 * 1024 * 1024,
      }),
      'latin1',
    )
    const found = new Map<string, Buffer>()
    for (let at = 0; at < output.length; ) {
      const end = output.indexOf(0x0a, at)
      const [, id = '', size = ''] = /^([0-9a-f]+) blob (\d+)$/.exec(output.toString('latin1', at, end)) ?? []
      if (id === '') throw new GitError('git cat-file: a file of the history is missing')
      found.set(id, output.subarray(end + 1, end + 1 + Number(size)))
      at = end + 1 + Number(size) + 1
    }
    return found
  }

  /** Keeps bytes as a file of no revision yet. Answers their id. */
  async store(content: Uint8Array): Promise<string> {
    return (await this.git.read(['hash-object', '-w', '--stdin'], { input: content })).trim()
  }

  /**
   * What git keeps of a file that says this in the work tree: line ends, for one, may differ from those there
   * (gitattributes(5), `text` and `eol`; core.autocrlf). Answers its id.
   */
  async idKept(path: string, content: string | Uint8Array, keep = false): Promise<string> {
    const args = ['hash-object', ...(keep ? ['-w'] : []), '--stdin', `--path=${path}`]
    return (await this.git.read(args, { input: content })).trim()
  }

  /** Which of the files git would give to a filter, a program of the repository's configuration. */
  async filtered(paths: readonly string[]): Promise<string[]> {
    if (this.#filters.length === 0 || paths.length === 0) return []
    const fields = records(await this.git.read(['check-attr', '-z', 'filter', '--', ...paths]))
    return paths.filter((path) => {
      const at = fields.findIndex((field, index) => index % 3 === 0 && field === path)
      return this.#filters.includes(fields[at + 2] ?? '')
    })
  }

  /** The whole message of a commit. */
  async messageOf(commit: string): Promise<string> {
    const text = await this.git.read(['log', '-n', '1', '--format=%B', commit])
    return `${text.trimEnd()}\n`
  }

  /** What differs from the commit, in the work tree or staged, by path. Costs a look at every file. */
  async edited(): Promise<Edited[]> {
    const text = await this.git.read([
      'status',
      '--porcelain=v1',
      '-z',
      '--no-renames',
      '--untracked-files=all',
      '--ignore-submodules=all',
    ])
    return (
      records(text)
        .map((line) => ({ path: line.slice(3), what: kindOf(line[0] ?? ' ', line[1] ?? ' ') }))
        // What is staged beside its file, for the moment of a change.
        .filter(({ path }) => !/\.\d+\.new$/.test(path))
    )
  }

  /** The id that stands for no file. */
  get noId(): string {
    return '0'.repeat(this.#hash === 'sha256' ? 64 : 40)
  }

  /** The id that git gives a file of these bytes. */
  blobId(content: string | Uint8Array): string {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    return createHash(this.#hash).update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  }
}

/** An empty program is none. */
function withoutFilters(filters: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    filters.flatMap((name) => [
      ...['clean', 'smudge', 'process'].map((key) => [`filter.${name}.${key}`, ''] as const),
      [`filter.${name}.required`, 'false'] as const,
    ]),
  )
}

function kindOf(staged: string, work: string): Edited['what'] {
  if (staged === '?' || (staged === 'A' && work === ' ')) return 'added'
  if (work === 'D' || staged === 'D') return 'removed'
  return work === ' ' ? 'staged' : 'changed'
}

/** The parts of an output that ends each with NUL. */
export function records(text: string): string[] {
  return text.split('\0').slice(0, -1)
}

function isNothing(id: string): boolean {
  return /^0+$/.test(id)
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
