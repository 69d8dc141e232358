/** `egress25 import FILE`: what people have today as policy documents, and all that could not be translated. */
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { As } from '../import/allow.ts'
import { joinSpaces, parseCallerPrefixes } from '../import/conditions.ts'
import { FORMATS, type Format } from '../import/format.ts'
import { type Imported, importText, MOST_BYTES } from '../import/import.ts'
import type { Space } from '../import/ranges.ts'
import { formatRemark, ImportError } from '../import/remark.ts'
import { complain, EXIT, type Exit, printJson } from './outcome.ts'

export interface ImportCommandOptions {
  readonly json: boolean
  readonly format?: string
  readonly as?: string
  readonly output?: string
  readonly local?: readonly string[]
  readonly behind?: readonly string[]
}

class UsageError extends Error {}

/** Exit status 0 when all was translated, 1 when something was not, 2 for wrong usage or an unreadable input. */
export async function importFile(file: string, options: ImportCommandOptions): Promise<Exit> {
  const name = file === '-' ? 'standard input' : file
  try {
    const { format, as, local, behind } = readOptions(options)
    const text = await readInput(file)
    const userName = await readUserNames()
    const imported = await importText(text, { format, as, local, behind, userName, now: Date.now() })
    if (options.output !== undefined) await writeDirectory(options.output, imported)
    tell(name, imported, options)
    return imported.remarks.some(({ severity }) => severity === 'error') ? EXIT.no : EXIT.done
  } catch (error) {
    if (error instanceof ImportError) complain(`egress25: ${name}: ${error.message}`)
    else if (error instanceof UsageError) complain(`egress25: ${error.message}`)
    else if (isSystemError(error))
      complain(`egress25: cannot read or write ${error.path ?? name}: ${error.code}`)
    else throw error
    return EXIT.usage
  }
}

function tell(
  name: string,
  { documents, files, remarks }: Imported,
  { json, output }: ImportCommandOptions,
): void {
  if (json) {
    printJson({ documents, remarks })
    return
  }
  if (output === undefined) process.stdout.write(files.map(({ text }) => text).join('---\n'))
  for (const remark of remarks) complain(formatRemark(name, remark))
}

function readOptions(options: ImportCommandOptions) {
  const { format = null, as = 'either', local, behind = [] } = options
  if (format !== null && !FORMATS.includes(format as Format)) {
    throw new UsageError(`--format is one of ${FORMATS.join(', ')}, not ${format}`)
  }
  if (!['relay', 'exemption', 'either'].includes(as)) {
    throw new UsageError(`--as is relay or exemption, not ${as}`)
  }
  return {
    format: format as Format | null,
    as: as as As,
    local: local === undefined ? null : joinSpaces(local.map((text) => prefixesOf('--local', text))),
    behind: readBehind(behind),
  }
}

/** `IFACE=PREFIX,PREFIX`, any number of times. */
function readBehind(list: readonly string[]): Map<string, Space> {
  const behind = new Map<string, Space>()
  for (const text of list) {
    const [, name = '', prefixes = ''] = /^([^=\s/]{1,15})=(.+)$/.exec(text) ?? []
    if (name === '') throw new UsageError(`--behind takes INTERFACE=PREFIX,…, not ${text}`)
    const space = prefixesOf('--behind', prefixes)
    const known = behind.get(name)
    behind.set(name, known === undefined ? space : joinSpaces([known, space]))
  }
  return behind
}

function prefixesOf(option: string, text: string): Space {
  const space = parseCallerPrefixes(text)
  if (space === null) throw new UsageError(`${option}: ${text} is no list of addresses and prefixes`)
  return space
}

/** Up to the limit and one byte, so that a device or a pipe without an end does no harm. */
async function readInput(file: string): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  const stream = file === '-' ? process.stdin : (await open(file, 'r')).createReadStream()
  for await (const chunk of stream) {
    chunks.push(chunk as Uint8Array)
    size += (chunk as Uint8Array).length
    if (size > MOST_BYTES) throw new ImportError('the input is larger than 64 MiB')
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch {
    throw new ImportError('the input is not UTF-8 text')
  }
}

/** Rules know numbers, policies names: those of this machine, as passwd(5) has them. */
async function readUserNames(): Promise<(uid: number) => string | null> {
  const text = await readFile('/etc/passwd', 'utf8').catch(() => '')
  const names = new Map<number, string>()
  for (const line of text.split('\n')) {
    const [name, , uid] = line.split(':')
    if (name !== undefined && uid !== undefined && /^\d+$/.test(uid) && !names.has(Number(uid))) {
      names.set(Number(uid), name)
    }
  }
  return (uid) => names.get(uid) ?? null
}

/** Into a directory that is made for it: nothing that is there is ever written over. */
async function writeDirectory(directory: string, { files }: Imported): Promise<void> {
  await mkdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST')
      throw new UsageError(`${directory} is there already: --output makes a new directory`)
    throw error
  })
  for (const { name, text } of files) await writeFile(join(directory, name), text, { flag: 'wx' })
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}
