/** The only module of the policy layer that touches the disk. */
import type { Dirent } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { type Diagnostic, type DiagnosticCode, diagnostic } from './diagnostic.ts'

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

/** Texts to be read in place of what the disk has; null: as if the file were not there. */
export type Overlay = ReadonlyMap<string, string | null>

const NO_OVERLAY: Overlay = new Map()

/** A directory that is not there is the caller's mistake, not a fault in a policy. */
export class DirectoryError extends Error {}

/**
 * All `*.yaml` and `*.yml` files below the directory, sorted by path. Hidden files and folders (`.git`) are passed
 * over; links to files are followed, links to folders are not, so that no loop can form.
 * @throws DirectoryError when the directory itself cannot be read
 */
export async function readYamlFiles(
  directory: string,
  overlay: Overlay = NO_OVERLAY,
): Promise<{ files: TextFile[]; diagnostics: Diagnostic[] }> {
  const info = await stat(directory).catch((error: Error) => {
    throw new DirectoryError(`cannot read the policy directory ${directory}: ${error.message}`)
  })
  if (!info.isDirectory()) throw new DirectoryError(`${directory} is not a directory`)
  const diagnostics: Diagnostic[] = []
  const paths: string[] = []
  await findYaml(directory, '', 0, paths, diagnostics)
  const files: TextFile[] = []
  const planned = [...overlay.keys()].filter(isYaml)
  for (const path of new Set([...paths, ...planned].sort())) {
    const replaced = overlay.get(path)
    if (replaced === null) continue
    const result =
      replaced === undefined ? await readText(directory, path, LIMITS.yamlBytes) : { text: replaced }
    if ('text' in result) files.push({ path, text: result.text })
    else diagnostics.push(result.diagnostic)
  }
  return { files, diagnostics }
}

/** A text file inside the policy directory, of at most so many bytes. */
export async function readText(directory: string, path: string, maxBytes: number): Promise<ReadResult> {
  try {
    // One handle for the size and the bytes: a file that grows meanwhile cannot slip past the limit.
    await using handle = await open(join(directory, path), 'r')
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
    return fault(path, 'unreadable-file', `the file cannot be read: ${(error as Error).message}`)
  }
}

async function findYaml(
  root: string,
  folder: string,
  depth: number,
  paths: string[],
  diagnostics: Diagnostic[],
): Promise<void> {
  if (depth > LIMITS.depth) {
    diagnostics.push(at(folder, 'too-complex', `folders nest deeper than ${LIMITS.depth}`))
    return
  }
  let entries: Dirent[]
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true })
  } catch (error) {
    diagnostics.push(at(folder, 'unreadable-file', `the folder cannot be read: ${(error as Error).message}`))
    return
  }
  for (const entry of entries) {
    const path = posix.join(folder, entry.name)
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory()) await findYaml(root, path, depth + 1, paths, diagnostics)
    else if (isYaml(entry.name)) {
      if (paths.length === LIMITS.files) {
        diagnostics.push(at(path, 'file-too-large', `the directory holds more than ${LIMITS.files} files`))
        return
      }
      paths.push(path)
    }
  }
}

function isYaml(name: string): boolean {
  return /\.ya?ml$/.test(name)
}

function fault(path: string, code: DiagnosticCode, message: string): { diagnostic: Diagnostic } {
  return { diagnostic: at(path, code, message) }
}

function at(path: string, code: DiagnosticCode, message: string): Diagnostic {
  return diagnostic({ file: path === '' ? '.' : path, line: 1, column: 1 }, code, message)
}
