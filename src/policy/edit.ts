/** Changes of one document in a file's text; every other document, comment and blank line stays as it is. */
import { isDeepStrictEqual } from 'node:util'
import {
  isAlias,
  isCollection,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type Pair,
  parseDocument,
  stringify,
  visit,
  type YAMLMap,
  type YAMLSeq,
  Document as YamlDocument,
} from 'yaml'
import type { Document } from './schema.ts'
import type { Span } from './yaml-source.ts'

/** A document as people write it: short sequences of addresses on one line. */
export function renderDocument(document: Document): string {
  return stringify(document, { lineWidth: 0, defaultKeyType: 'PLAIN' })
}

/**
 * What does not differ keeps its text, inside of the document too. Where that cannot be had, it keeps its comments; where
 * neither can, the document is written anew.
 */
export function replaceDocument(text: string, span: Span, document: Document): string {
  const whole = text.slice(span.contentStart, span.contentEnd)
  const isCrLf = hasOnlyCrLf(text)
  const content = isCrLf ? whole.replaceAll('\r\n', '\n') : whole
  const edited = editMapping(content, document) ?? editNodes(content, document) ?? renderDocument(document)
  const after = isCrLf ? edited.replaceAll('\n', '\r\n') : edited
  return text.slice(0, span.contentStart) + after + text.slice(span.contentEnd)
}

/** Whether every line of a text ends as on Windows. */
function hasOnlyCrLf(text: string): boolean {
  return text.includes('\r\n') && !/(?<!\r)\n/.test(text)
}

/** null when nothing but comments would be left: then the file itself should go. */
export function removeDocument(text: string, span: Span): string | null {
  const rest = text.slice(0, span.start) + text.slice(span.end)
  return rest.replace(/^(#.*|---|\.\.\.)?\s*$/gm, '').trim() === '' ? null : rest
}

type Mapping = Readonly<Record<string, unknown>>

/** null: it is written in a way that is not edited here, such as all on one line, or what changes has anchors. */
function editMapping(content: string, wanted: Mapping): string | null {
  const doc = parseDocument(content, { stringKeys: true, schema: 'core' })
  const { contents } = doc
  if (doc.errors.length > 0 || !isMap(contents) || contents.flow === true) return null
  const places = placesOf(contents)
  if (places === null) return null
  const before = doc.toJS() as Mapping
  let edited = ''
  let at = 0
  for (const { pair, key, start, end } of places) {
    edited += content.slice(at, start)
    at = start
    if (!Object.hasOwn(wanted, key)) {
      // With the rest of its line, where a comment on it may stand.
      at = lineEnd(content, end)
      continue
    }
    if (!isDeepStrictEqual(before[key], wanted[key])) {
      if (hasReferences(pair)) return null
      edited += renderPair(pair, wanted[key], indentsSequences(content, start, pair))
      // The value of a block (`|`) ends behind its last line.
      at = content[end - 1] === '\n' ? end - 1 : end
    }
  }
  edited += content.slice(at)
  const added = Object.entries(wanted).filter(([key]) => !Object.hasOwn(before, key))
  if (added.length > 0) {
    const more = stringify(Object.fromEntries(added), { lineWidth: 0, flowCollectionPadding: false })
    edited = `${edited.replace(/\n*$/, '\n')}${more}`
  }
  return says(edited, wanted) ? edited : null
}

/** The same with the layout of the library, which keeps comments and anchors. null: an anchor says something else now. */
function editNodes(content: string, wanted: Mapping): string | null {
  const doc = parseDocument(content, { stringKeys: true, schema: 'core' })
  if (doc.errors.length > 0 || !isMap(doc.contents)) return null
  changeNode(doc, doc.contents, wanted)
  try {
    const edited = doc.toString({ lineWidth: 0, flowCollectionPadding: false })
    return says(edited, wanted) ? edited : null
  } catch {
    // An alias of what is no longer there.
    return null
  }
}

interface Place {
  readonly pair: Pair
  readonly key: string
  /** Offsets of the key, and of the end of its value. */
  readonly start: number
  readonly end: number
}

function placesOf({ items }: YAMLMap): Place[] | null {
  const places: Place[] = []
  for (const pair of items) {
    const { key, value } = pair
    if (!isScalar(key) || !key.range || !isNode(value) || !value.range) return null
    places.push({ pair, key: String(key.value), start: key.range[0], end: value.range[1] })
  }
  return places
}

/** An anchor may be used elsewhere. */
function hasReferences({ value }: Pair): boolean {
  if (!isNode(value)) return false
  let found = false
  visit(value, (_, node) => {
    if (!isAlias(node) && !((isScalar(node) || isCollection(node)) && node.anchor !== undefined))
      return undefined
    found = true
    return visit.BREAK
  })
  return found
}

/** The key with its new value; what stays of a sequence or a mapping keeps its comments. */
function renderPair(pair: Pair, value: unknown, indentSeq: boolean): string {
  const doc = new YamlDocument()
  pair.value = changeNode(doc, pair.value, value)
  if (isNode(pair.key)) {
    pair.key.commentBefore = null
    pair.key.spaceBefore = false
  }
  // What stands behind the value is kept as text.
  if (isNode(pair.value)) pair.value.comment = null
  const map = doc.createNode({}) as YAMLMap
  map.items.push(pair)
  doc.contents = map
  return doc.toString({ lineWidth: 0, flowCollectionPadding: false, indentSeq }).replace(/\n+$/, '')
}

function changeNode(doc: YamlDocument, node: unknown, value: unknown): unknown {
  if (isNode(node) && isDeepStrictEqual(node.toJS(doc), value)) return node
  if (isSeq(node) && Array.isArray(value)) changeEntries(doc, node, value)
  else if (isMap(node) && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const wanted = new Map(Object.entries(value))
    for (const { key } of [...node.items]) if (!wanted.has(String(key))) node.delete(key)
    for (const [key, one] of wanted) node.set(key, changeNode(doc, node.get(key, true), one))
  } else {
    const created = doc.createNode(value)
    if (isScalar(node) && isScalar(created)) {
      created.comment = node.comment ?? null
      if (node.type?.startsWith('QUOTE') && typeof value === 'string') created.type = node.type
    }
    return created
  }
  return node
}

function changeEntries(doc: YamlDocument, sequence: YAMLSeq, wanted: readonly unknown[]): void {
  const left = new Map<string, unknown[]>()
  for (const node of sequence.items) {
    const id = JSON.stringify(isNode(node) ? node.toJS(doc) : node)
    const same = left.get(id)
    if (same === undefined) left.set(id, [node])
    else same.push(node)
  }
  sequence.items = wanted.map(
    (value) =>
      left.get(JSON.stringify(value))?.shift() ?? doc.createNode(value, { flow: sequence.flow === true }),
  )
}

/** Whether entries stand further right than the key of their sequence. */
function indentsSequences(content: string, start: number, { value }: Pair): boolean {
  if (!isSeq(value) || value.flow === true || !value.range) return true
  const column = value.range[0] - (content.lastIndexOf('\n', value.range[0] - 1) + 1)
  return column > start - (content.lastIndexOf('\n', start - 1) + 1)
}

function lineEnd(content: string, offset: number): number {
  // A block's value ends behind its last line.
  if (offset > 0 && content[offset - 1] === '\n') return offset
  const end = content.indexOf('\n', offset)
  return end < 0 ? content.length : end + 1
}

/** Whether the text is one document that says just this. */
function says(text: string, wanted: Mapping): boolean {
  const doc = parseDocument(text, { stringKeys: true, schema: 'core' })
  if (doc.errors.length > 0 || doc.warnings.length > 0) return false
  try {
    return isDeepStrictEqual(doc.toJS(), { ...wanted })
  } catch {
    // An alias whose anchor has gone with what had it.
    return false
  }
}
