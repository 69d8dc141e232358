/** What people have today to policy documents, with everything there is to say about it: the front door of this folder. */
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatDiagnostic, hasErrors } from '../policy/diagnostic.ts'
import { renderDocument } from '../policy/edit.ts'
import { loadPolicies } from '../policy/load.ts'
import type { Model } from '../policy/model.ts'
import type { Document } from '../policy/schema.ts'
import type { As } from './allow.ts'
import { type Compared, compare } from './compare.ts'
import type { Surroundings } from './conditions.ts'
import { detectFormat, type Format } from './format.ts'
import { readIptables } from './iptables-save.ts'
import { readNft } from './nft-json.ts'
import { tellOtherHooks } from './other-hooks.ts'
import { drawPicture } from './picture.ts'
import type { Space } from './ranges.ts'
import { Budget } from './region.ts'
import { relaysOf } from './relay-list.ts'
import { ImportError, type Remark, Remarks } from './remark.ts'
import { tellUnused, writeDocuments } from './to-documents.ts'
import { Units } from './units.ts'

export interface ImportOptions extends Surroundings {
  /** null: by its look. */
  readonly format: Format | null
  /** What a source becomes that may send to anywhere; `either`: what fits. */
  readonly as: As
  /** The gateway's own addresses; null: not known. */
  readonly local: Space | null
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface Imported {
  readonly format: Format
  readonly documents: readonly Document[]
  /** Texts of policy files, each within its limit: `egress25 check` has nothing against them together. */
  readonly files: readonly PolicyFile[]
  readonly remarks: readonly Remark[]
  readonly compared: Compared
}

export interface PolicyFile {
  readonly name: string
  readonly text: string
}

export const MOST_BYTES = 64 * 1024 * 1024

/** Steps of set arithmetic: some seconds. */
const WORK = 150_000_000
/** Below what a policy file may be. */
const MOST_CHARACTERS = 3 * 1024 * 1024

/**
 * Imports a text of at most 64 MiB. Takes some seconds at most.
 * @throws ImportError when the text cannot be imported at all; its message is for the user
 */
export async function importText(text: string, options: ImportOptions): Promise<Imported> {
  try {
    return await importChecked(text, options)
  } catch (error) {
    // Of the stack: nothing here descends far, but JSON and YAML may, as far as a hostile text wants.
    if (error instanceof RangeError) throw new ImportError('the input nests too deeply, or holds too much')
    throw error
  }
}

async function importChecked(text: string, options: ImportOptions): Promise<Imported> {
  if (text.length > MOST_BYTES) throw new ImportError('the input is larger than 64 MiB')
  if (text.includes('\0')) throw new ImportError('the input holds NUL characters: it is no text')
  const format = options.format ?? detectFormat(text)
  const remarks = new Remarks()
  if (format === 'relays') {
    const documents = relaysOf(text, remarks)
    if (documents.length === 0) throw new ImportError('there is no address in the input')
    const files = filesOf(documents)
    await load(files, options.now)
    return { format, documents, files, remarks: remarks.list(), compared: { pairs: 0, differences: 0 } }
  }
  const read = format === 'nft' ? readNft : readIptables
  const firewall = read(text, options, remarks)
  const units = new Units(firewall)
  const budget = new Budget(WORK)
  const elsewhere = tellOtherHooks(firewall, remarks)
  const picture = drawPicture(firewall, units, options.local, budget, remarks)
  const { documents, used } = writeDocuments(picture, options.as, budget, remarks)
  tellUnused(units.allBut(elsewhere), used, remarks)
  const files = filesOf(documents)
  if (files.reduce((sum, file) => sum + file.text.length, 0) > MOST_CHARACTERS) {
    const message = 'these are more documents than one policy file may hold: write them with --output'
    remarks.add('warning', 'large-output', '', message)
  }
  const model = await load(files, options.now)
  const compared = compare(firewall, model, picture, options.local, options.now, remarks)
  return { format, documents, files, remarks: remarks.list(), compared }
}

/** By kind, and in several files where one would be too large. */
function filesOf(documents: readonly Document[]): PolicyFile[] {
  const files: { name: string; text: string }[] = []
  const PLURALS = {
    policy: 'policies',
    relay: 'relays',
    exemption: 'exemptions',
    list: 'lists',
    test: 'tests',
  }
  let nth = 1
  for (const document of documents) {
    const text = renderDocument(document)
    const name = PLURALS[document.kind]
    const last = files.at(-1)
    if (last?.name.replace(/-\d+$/, '') === name && last.text.length + text.length < MOST_CHARACTERS) {
      last.text += `---\n${text}`
      continue
    }
    nth = last?.name.replace(/-\d+$/, '') === name ? nth + 1 : 1
    files.push({ name: nth === 1 ? name : `${name}-${nth}`, text })
  }
  return files.map(({ name, text }) => ({ name: `${name}.yaml`, text }))
}

/** By the project's own loader: what it does not take must never reach anybody. */
async function load(files: readonly PolicyFile[], now: number): Promise<Model> {
  const empty = await mkdtemp(join(tmpdir(), 'egress25-import-'))
  try {
    const overlay = new Map(files.map(({ name, text }) => [name, text]))
    const { model, diagnostics } = await loadPolicies(empty, { now, overlay })
    if (model === null || hasErrors(diagnostics)) {
      const first = diagnostics.find(({ severity }) => severity === 'error')
      const what = first === undefined ? '' : `: ${formatDiagnostic(first)}`
      throw new ImportError(
        `the documents made of this do not pass egress25 check, which is a mistake of egress25${what}`,
      )
    }
    return model
  } finally {
    await rmdir(empty)
  }
}
