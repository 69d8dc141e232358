/** The only module of the policy layer that touches the disk. */
import { type BigIntStats, constants, type Dirent } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join, posix, sep } from 'node:path'
import { type Diagnostic, type DiagnosticCode, diagnostic } from './diagnostic.ts'
import { findUnseen } from './unseen.ts'

/** What became of a file's text, or why it could not be read. */
export type Taken<T> = { readonly value: T } | { readonly diagnostic: Diagnostic }

/** Makes something of a text; the path is relative to the policy directory, with `/`. */
export type Take<T> = (path: string, text: string) => T

export const LIMITS = {
  yamlBytes: 4 * 1024 * 1024,
  listBytes: 128 * 1024 * 1024,
  files: 100_000,
  depth: 32,
} as const

/** Files that are read side by side: one after the other, most of the time is spent waiting for each. */
const AT_ONCE = 32

/** Texts to be read in place of what the disk has; null: as if the file were not there. */
export type Overlay = ReadonlyMap<string, string | null>

const NO_OVERLAY: Overlay = new Map()

/**
 * What was made of files before, by their paths. A file that has not changed since is not read again: what it became
 * is the same object as before.
 */
export class FileMemory<T> {
  readonly #known = new Map<string, { readonly stamp: string; readonly value: T }>()
  readonly #racy: number

  /**
   * Clocks of file systems tick coarsely: a file that was written twice within a tick looks the same. Of one that
   * changed less than so many milliseconds ago nothing is kept.
   */
  constructor(racy = 2_000) {
    this.#racy = racy
  }

  recall(path: string, stamp: string): T | null {
    const known = this.#known.get(path)
    return known?.stamp === stamp ? known.value : null
  }

  /** `changed` is in milliseconds since the epoch. */
  keep(path: string, stamp: string, changed: number, value: T): void {
    if (Date.now() - changed >= this.#racy) this.#known.set(path, { stamp, value })
  }

  /** Forgets all files but these. */
  keepOnly(paths: ReadonlySet<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path)
  }
}

/** A directory that is not there is the caller's mistake, not a fault in a policy. */
export class DirectoryError extends Error {}

/**
 * Takes all `*.yaml` and `*.yml` files below the directory, sorted by path. Hidden files and folders (`.git`) are
 * passed over; links to files within the directory are followed, links to folders are not, so that no loop can form.
 * @throws DirectoryError when the directory itself cannot be read
 */
export async function readYamlFiles<T>(
  directory: string,
  take: Take<T>,
  { overlay = NO_OVERLAY, memory }: { overlay?: Overlay | undefined; memory?: FileMemory<T> | undefined },
): Promise<{ files: T[]; diagnostics: Diagnostic[] }> {
  const unreadable = (error: unknown): never => {
    throw new DirectoryError(`cannot read the policy directory ${directory}: ${reasonOf(error)}`)
  }
  const root = await realpath(directory).catch(unreadable)
  const info = await stat(root).catch(unreadable)
  if (!info.isDirectory()) throw new DirectoryError(`${directory} is not a directory`)
  const diagnostics: Diagnostic[] = []
  const found: Found[] = []
  if (!(await findYaml(root, '', 0, found, diagnostics).catch(unreadable))) return { files: [], diagnostics }
  const isLink = new Map(found.map((one) => [one.path, one.isLink]))
  const planned = [...overlay.keys()].filter(isYaml)
  const wanted = [...new Set([...isLink.keys(), ...planned])]
    .sort()
    .filter((path) => overlay.get(path) !== null)
  memory?.keepOnly(new Set(wanted))
  const read = (path: string): Taken<T> | Promise<Taken<T>> => {
    const replaced = overlay.get(path)
    if (replaced != null) return { value: take(path, replaced) }
    return readWithin(root, { path, isLink: isLink.get(path) ?? true }, LIMITS.yamlBytes, take, memory)
  }
  const files: T[] = []
  for (let at = 0; at < wanted.length; at += AT_ONCE) {
    for (const result of await Promise.all(wanted.slice(at, at + AT_ONCE).map(read))) {
      if ('value' in result) files.push(result.value)
      else diagnostics.push(result.diagnostic)
    }
  }
  return { files, diagnostics }
}

/** A pipe must not make the reader wait for a writer, nor a terminal become ours; a link has been followed already. */
const READ_ONLY = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW

/**
 * Takes a text file inside the policy directory, of at most so many bytes. A link is followed within the directory,
 * and not out of it: whoever may write policies must not learn from a diagnostic what stands in a file of somebody
 * else's.
 */
export async function readText<T>(
  directory: string,
  path: string,
  maxBytes: number,
  take: Take<T>,
  memory?: FileMemory<T>,
  isGone = false,
): Promise<Taken<T>> {
  if (isGone) return fault(path, 'unreadable-file', 'the file cannot be read: it is to be removed')
  const root = await realpath(directory).catch(() => null)
  return root === null
    ? fault(path, 'unreadable-file', 'the policy directory is gone')
    : readWithin(root, { path, isLink: true }, maxBytes, take, memory)
}

interface Found {
  readonly path: string
  /** Or may be one, or stands in a folder that may be one. */
  readonly isLink: boolean
}

/** `root` has no links in it. */
async function readWithin<T>(
  root: string,
  { path, isLink }: Found,
  maxBytes: number,
  take: Take<T>,
  memory: FileMemory<T> | undefined,
): Promise<Taken<T>> {
  if (isUnspeakable(path))
    return fault(path, 'unreadable-file', 'its name holds characters that cannot be seen')
  let text: string
  let info: BigIntStats
  try {
    const real = isLink ? await realpath(join(root, path)) : join(root, path)
    if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      return fault(path, 'unreadable-file', 'this is a link that leads out of the policy directory')
    }
    if (memory !== undefined) {
      const known = memory.recall(path, stampOf(await stat(real, { bigint: true })))
      if (known !== null) return { value: known }
    }
    // One handle for the size and the bytes: a file that grows meanwhile cannot slip past the limit.
    await using handle = await open(real, READ_ONLY)
    info = await handle.stat({ bigint: true })
    const size = Number(info.size)
    if (!info.isFile()) return fault(path, 'unreadable-file', 'this is not a regular file')
    if (size > maxBytes) {
      return fault(path, 'file-too-large', `the file has ${size} bytes; at most ${maxBytes} are read`)
    }
    const bytes = new Uint8Array(size)
    const { bytesRead } = await handle.read(bytes, 0, size, 0)
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead))
    if (text.includes('\0')) return fault(path, 'bad-encoding', 'the file holds NUL characters')
  } catch (error) {
    if (error instanceof TypeError) return fault(path, 'bad-encoding', 'the file is not UTF-8 text')
    return fault(path, 'unreadable-file', `the file cannot be read: ${reasonOf(error)}`)
  }
  const value = take(path, text)
  memory?.keep(path, stampOf(info), Math.max(Number(info.mtimeMs), Number(info.ctimeMs)), value)
  return { value }
}

/** What changes whenever a file does: git looks at the same. */
function stampOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
}

/** False: there are too many, which is said; the rest was not looked for. @throws Error when the root cannot be read */
async function findYaml(
  root: string,
  folder: string,
  depth: number,
  found: Found[],
  diagnostics: Diagnostic[],
): Promise<boolean> {
  if (depth > LIMITS.depth) {
    diagnostics.push(at(folder, 'too-complex', `folders nest deeper than ${LIMITS.depth}`))
    return true
  }
  let entries: Dirent[]
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true })
  } catch (error) {
    if (folder === '') throw error
    diagnostics.push(at(folder, 'unreadable-file', `the folder cannot be read: ${reasonOf(error)}`))
    return true
  }
  for (const entry of entries) {
    const path = posix.join(folder, entry.name)
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory()) {
      if (!(await findYaml(root, path, depth + 1, found, diagnostics))) return false
    } else if (isYaml(entry.name)) {
      if (found.length === LIMITS.files) {
        diagnostics.push(at('', 'file-too-large', `the directory holds more than ${LIMITS.files} files`))
        return false
      }
      found.push({ path, isLink: !entry.isFile() })
    }
  }
  return true
}

export function isYaml(name: string): boolean {
  return /\.ya?ml$/.test(name)
}

/** A name cannot have lines or tabs either: a diagnostic begins with it. */
function isUnspeakable(path: string): boolean {
  return /[\t\n\r]/.test(path) || findUnseen(path) !== null
}

/** Without the path, which the system's sentence repeats after the reason, as absolute as it has become on the way. */
function reasonOf(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  const reason = message.split(', ')[0] ?? message
  // Whoever asks the service to read may well be allowed to.
  return code === 'EACCES' ? `${reason} to ${ourName()}` : reason
}

function ourName(): string {
  try {
    return `the user ${userInfo().username}`
  } catch {
    return `the user with the number ${process.geteuid?.()}`
  }
}

function fault(path: string, code: DiagnosticCode, message: string): { diagnostic: Diagnostic } {
  return { diagnostic: at(path, code, message) }
}

function at(path: string, code: DiagnosticCode, message: string): Diagnostic {
  const file = path === '' ? '.' : [...path].map((one) => (isUnspeakable(one) ? '\ufffd' : one)).join('')
  return diagnostic({ file, line: 1, column: 1 }, code, message)
}
