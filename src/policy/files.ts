/** The only module of the policy layer that touches the disk. */
import { constants, type Dirent } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import { join, posix, sep } from 'node:path'
import { type Diagnostic, type DiagnosticCode, diagnostic } from './diagnostic.ts'
import { findUnseen } from './unseen.ts'

export interface TextFile {
  /** Relative to the policy directory, with `/`. */
  readonly path: string
  readonly text: string
}

export type ReadResult = { readonly text: string } | { readonly diagnostic: Diagnostic }

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

/** A directory that is not there is the caller's mistake, not a fault in a policy. */
export class DirectoryError extends Error {}

/**
 * All `*.yaml` and `*.yml` files below the directory, sorted by path. Hidden files and folders (`.git`) are passed
 * over; links to files within the directory are followed, links to folders are not, so that no loop can form.
 * @throws DirectoryError when the directory itself cannot be read
 */
export async function readYamlFiles(
  directory: string,
  overlay: Overlay = NO_OVERLAY,
): Promise<{ files: TextFile[]; diagnostics: Diagnostic[] }> {
  const unreadable = (error: unknown) => {
    throw new DirectoryError(`cannot read the policy directory ${directory}: ${reasonOf(error)}`)
  }
  const root = await realpath(directory).catch(unreadable)
  const info = await stat(root).catch(unreadable)
  if (!info.isDirectory()) throw new DirectoryError(`${directory} is not a directory`)
  const diagnostics: Diagnostic[] = []
  const paths: string[] = []
  if (!(await findYaml(root, '', 0, paths, diagnostics))) return { files: [], diagnostics }
  const planned = [...overlay.keys()].filter(isYaml)
  const wanted = [...new Set([...paths, ...planned].sort())].filter((path) => overlay.get(path) !== null)
  const read = (path: string): ReadResult | Promise<ReadResult> => {
    const replaced = overlay.get(path)
    return replaced == null ? readWithin(root, path, LIMITS.yamlBytes) : { text: replaced }
  }
  const files: TextFile[] = []
  for (let at = 0; at < wanted.length; at += AT_ONCE) {
    const some = wanted.slice(at, at + AT_ONCE)
    const results = await Promise.all(some.map(read))
    for (const [index, path] of some.entries()) {
      const result = results[index]
      if (result === undefined) continue
      if ('text' in result) files.push({ path, text: result.text })
      else diagnostics.push(result.diagnostic)
    }
  }
  return { files, diagnostics }
}

/** A pipe must not make the reader wait for a writer, nor a terminal become ours; a link has been followed already. */
const READ_ONLY = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW

/**
 * A text file inside the policy directory, of at most so many bytes. A link is followed within the directory, and not
 * out of it: whoever may write policies must not learn from a diagnostic what stands in a file of somebody else's.
 */
export async function readText(directory: string, path: string, maxBytes: number): Promise<ReadResult> {
  const root = await realpath(directory).catch(() => null)
  return root === null
    ? fault(path, 'unreadable-file', 'the policy directory is gone')
    : readWithin(root, path, maxBytes)
}

/** `root` has no links in it. */
async function readWithin(root: string, path: string, maxBytes: number): Promise<ReadResult> {
  if (isUnspeakable(path))
    return fault(path, 'unreadable-file', 'its name holds characters that cannot be seen')
  try {
    const real = await realpath(join(root, path))
    if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      return fault(path, 'unreadable-file', 'this is a link that leads out of the policy directory')
    }
    // One handle for the size and the bytes: a file that grows meanwhile cannot slip past the limit.
    await using handle = await open(real, READ_ONLY)
    const info = await handle.stat()
    if (!info.isFile()) return fault(path, 'unreadable-file', 'this is not a regular file')
    if (info.size > maxBytes) {
      return fault(path, 'file-too-large', `the file has ${info.size} bytes; at most ${maxBytes} are read`)
    }
    const bytes = new Uint8Array(info.size)
    const { bytesRead } = await handle.read(bytes, 0, info.size, 0)
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead))
    if (text.includes('\0')) return fault(path, 'bad-encoding', 'the file holds NUL characters')
    return { text }
  } catch (error) {
    if (error instanceof TypeError) return fault(path, 'bad-encoding', 'the file is not UTF-8 text')
    return fault(path, 'unreadable-file', `the file cannot be read: ${reasonOf(error)}`)
  }
}

/** False: there are too many, which is said; the rest was not looked for. */
async function findYaml(
  root: string,
  folder: string,
  depth: number,
  paths: string[],
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
    diagnostics.push(at(folder, 'unreadable-file', `the folder cannot be read: ${reasonOf(error)}`))
    return true
  }
  for (const entry of entries) {
    const path = posix.join(folder, entry.name)
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory()) {
      if (!(await findYaml(root, path, depth + 1, paths, diagnostics))) return false
    } else if (isYaml(entry.name)) {
      if (paths.length === LIMITS.files) {
        diagnostics.push(at('', 'file-too-large', `the directory holds more than ${LIMITS.files} files`))
        return false
      }
      paths.push(path)
    }
  }
  return true
}

function isYaml(name: string): boolean {
  return /\.ya?ml$/.test(name)
}

/** A name cannot have lines or tabs either: a diagnostic begins with it. */
function isUnspeakable(path: string): boolean {
  return /[\t\n\r]/.test(path) || findUnseen(path) !== null
}

/** Without the path, which the system's sentence repeats after the reason, as absolute as it has become on the way. */
function reasonOf(error: unknown): string {
  const { message } = error as Error
  return message.split(', ')[0] ?? message
}

function fault(path: string, code: DiagnosticCode, message: string): { diagnostic: Diagnostic } {
  return { diagnostic: at(path, code, message) }
}

function at(path: string, code: DiagnosticCode, message: string): Diagnostic {
  const file = path === '' ? '.' : [...path].map((one) => (isUnspeakable(one) ? '\ufffd' : one)).join('')
  return diagnostic({ file, line: 1, column: 1 }, code, message)
}
