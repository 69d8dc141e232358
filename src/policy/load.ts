/** A policy directory to a model and diagnostics: the front door of the policy layer. */
import { buildModel, type LocatedDocument } from './build-model.ts'
import { crossCheck } from './cross-check.ts'
import { type Diagnostic, diagnostic, hasErrors, sortDiagnostics } from './diagnostic.ts'
import { checkDocument } from './document.ts'
import { withExcerpt } from './excerpt.ts'
import { FileMemory, isYaml, LIMITS, type Overlay, readText, readYamlFiles } from './files.ts'
import { type ListFile, parseListFile } from './list-file.ts'
import { danglingLists } from './list-references.ts'
import type { Model, Named } from './model.ts'
import { type Prefix, parsePrefix } from './prefix.ts'
import { PrefixSet } from './prefix-set.ts'
import { parseYaml, type SourceDocument } from './yaml-source.ts'

export interface Loaded {
  /** null when there are errors: a directory with a mistake in it is not applied in part. */
  readonly model: Model | null
  /** All of them, in the order of files and lines. */
  readonly diagnostics: readonly Diagnostic[]
  /** The documents that are sound by themselves, for listings. */
  readonly documents: readonly LocatedDocument[]
  /** The prefixes of each list by its name. */
  readonly lists: ReadonlyMap<string, PrefixSet>
  /** The texts of the YAML files by their paths. */
  readonly files: ReadonlyMap<string, string>
}

/** Nobody reads more of them at once, and each costs a walk to its line. */
const MAX_EXCERPTS = 100

export interface LoadOptions {
  /** Milliseconds since the epoch: for the warning about expired exemptions, nothing else depends on it. */
  readonly now: number
  /** Files to be read from memory: what the directory would be after a change. */
  readonly overlay?: Overlay
  /** What the gateway calls outside, for the warning about policies that govern everybody. */
  readonly outsideInterfaces?: readonly string[]
  /** Of the same directory; without it, everything is read. */
  readonly memory?: LoadMemory
  /** What was loaded of it a moment ago, without an overlay: its YAML files are taken as they were then. */
  readonly before?: Loaded | undefined
}

/** What one file has in it, by itself. */
interface CheckedFile {
  readonly path: string
  readonly text: string
  readonly diagnostics: readonly Diagnostic[]
  /** All, also those with mistakes. */
  readonly sources: readonly SourceDocument[]
  readonly documents: readonly LocatedDocument[]
  /** False when a policy may be missing. */
  readonly isWhole: boolean
}

/** What earlier loads have made of files: a load then costs what has changed since. */
export class LoadMemory {
  readonly yaml: FileMemory<CheckedFile>
  readonly lists: FileMemory<ListFile>

  /** `racy`: see FileMemory. */
  constructor(racy?: number) {
    this.yaml = new FileMemory(racy)
    this.lists = new FileMemory(racy)
  }
}

/**
 * Reads and checks all documents below a directory.
 * @throws DirectoryError when the directory cannot be read at all
 */
export async function loadPolicies(
  directory: string,
  { now, overlay, outsideInterfaces = [], memory, before }: LoadOptions,
): Promise<Loaded> {
  const known = before === undefined ? undefined : READ.get(before)
  const read =
    known === undefined
      ? await readYamlFiles(directory, checkFile, { overlay, memory: memory?.yaml })
      : { files: withOverlay(known, overlay), diagnostics: [] }
  const { files } = read
  const diagnostics = [...read.diagnostics, ...files.flatMap((file) => file.diagnostics)]
  const documents = files.flatMap((file) => file.documents)
  const sources = files.flatMap((file) => file.sources)
  // With a policy missing, nobody could say whom the others leave ungoverned.
  let policiesAreWhole = read.diagnostics.length === 0 && files.every(({ isWhole }) => isWhole)
  const listFaults = danglingLists(sources)
  const lists = await loadLists(directory, { overlay, memory }, documents, listFaults)
  if (listFaults.length > 0) policiesAreWhole = false
  const { model, diagnostics: unresolved } = buildModel(documents, lists)
  const byOrigin = new Map(documents.map((located) => [located.source.origin, located]))
  const located = ({ origin }: Named) => byOrigin.get(origin)
  const crossed = crossCheck(model, { now, outsideInterfaces, policiesAreWhole, located })
  const texts = new Map(files.map(({ path, text }) => [path, text]))
  const all = sortDiagnostics([...diagnostics, ...listFaults, ...unresolved, ...crossed]).map((one, index) =>
    index < MAX_EXCERPTS ? withExcerpt(one, texts.get(one.file)) : one,
  )
  const loaded = { model: hasErrors(all) ? null : model, diagnostics: all, documents, lists, files: texts }
  if (overlay === undefined && read.diagnostics.length === 0) READ.set(loaded, files)
  return loaded
}

/** The files behind what was loaded, where all of them could be read. */
const READ = new WeakMap<Loaded, readonly CheckedFile[]>()

function withOverlay(files: readonly CheckedFile[], overlay: Overlay = new Map()): CheckedFile[] {
  const added = [...overlay].flatMap(([path, text]) =>
    text === null || !isYaml(path) ? [] : [checkFile(path, text)],
  )
  const all = [...files.filter(({ path }) => !overlay.has(path)), ...added]
  return all.sort((a, b) => (a.path < b.path ? -1 : 1))
}

async function loadLists(
  directory: string,
  { overlay, memory }: { overlay: Overlay | undefined; memory: LoadMemory | undefined },
  documents: readonly LocatedDocument[],
  diagnostics: Diagnostic[],
): Promise<Map<string, PrefixSet>> {
  const lists = new Map<string, PrefixSet>()
  const files = new Set<string>()
  for (const { document, source } of documents) {
    if (document.kind !== 'list' || lists.has(document.name)) continue
    if (document.file === undefined) {
      lists.set(document.name, inlineList(document.prefixes ?? []))
      continue
    }
    const replaced = overlay?.get(document.file)
    const result =
      typeof replaced === 'string'
        ? { value: readList(document.file, replaced) }
        : await readText(
            directory,
            document.file,
            LIMITS.listBytes,
            readList,
            memory?.lists,
            replaced === null,
          )
    if ('diagnostic' in result) {
      // Said where the name of the file is written: that is what must be mended.
      const { code, severity, message } = result.diagnostic
      const at = source.locate({ pointer: '/file' })
      diagnostics.push({ ...at, code, severity, message: `${document.file}: ${message}` })
      lists.set(document.name, PrefixSet.of([]))
      continue
    }
    diagnostics.push(...result.value.diagnostics)
    lists.set(document.name, result.value.prefixes)
    files.add(document.file)
  }
  memory?.lists.keepOnly(files)
  return lists
}

function readList(path: string, text: string): ListFile {
  const { prefixes, diagnostics } = parseListFile(path, text)
  return { prefixes, diagnostics: diagnostics.map((one) => withExcerpt(one, text)) }
}

function checkFile(path: string, text: string): CheckedFile {
  const { documents: sources, diagnostics: faults } = parseYaml(path, text)
  const diagnostics = [...faults]
  const documents: LocatedDocument[] = []
  let isWhole = faults.length === 0
  for (const source of sources) {
    const checked = checkDocument(source.value)
    if ('document' in checked) {
      documents.push({ document: checked.document, source })
      continue
    }
    if (!isKindOf(source.value, ['relay', 'exemption', 'test'])) isWhole = false
    for (const problem of checked.problems) {
      diagnostics.push(diagnostic(source.locate(problem), problem.code, problem.message))
    }
  }
  return { path, text, diagnostics, sources, documents, isWhole }
}

/** What an inline list became, as long as its document lives. */
const INLINE = new WeakMap<readonly string[], PrefixSet>()

function inlineList(entries: readonly string[]): PrefixSet {
  const known = INLINE.get(entries) ?? PrefixSet.of(entries.map(parsePrefix) as Prefix[])
  INLINE.set(entries, known)
  return known
}

function isKindOf(value: unknown, kinds: readonly string[]): boolean {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : null
  return typeof kind === 'string' && kinds.includes(kind)
}
