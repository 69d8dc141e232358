/** The words of alerts, by language: shipped ones, and those of the operator in their place. Checked before use. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import mustache from 'mustache'
import { type TProperties, type TSchema, Type } from 'typebox'
import { ConfigError } from '../config-error.ts'
import { INCIDENT_KINDS } from '../detect/incident.ts'
import { type Diagnostic, diagnostic } from '../policy/diagnostic.ts'
import { checkShape } from '../policy/shape.ts'
import { parseYaml, type SourceDocument } from '../policy/yaml-source.ts'
import { ROOT } from '../root.ts'
import { templateFaults } from './check-template.ts'
import type { Text } from './message.ts'
import { TEXT_VARIABLES, type TextName, type Variables, type View, WORD_VARIABLES } from './text-variables.ts'

export interface Texts {
  readonly language: string
  render<N extends TextName>(name: N, view: View<(typeof TEXT_VARIABLES)[N]>): Text
  /** A word of a table; the key itself where there is none. */
  word(table: 'kinds' | 'certainty' | 'fate' | 'because' | 'events', key: string): string
  /** What to do about an incident of the kind: of a machine, or of a user of one. */
  advice(kind: string, isUser: boolean): string
  /** Such as `user alice on 192.0.2.5`. */
  localUser(user: string, address: string): string
  /** Such as `40 mail servers`. */
  servers(count: number): string
}

type Template = { readonly subject: string; readonly text: string }

interface Language {
  readonly texts: Readonly<Record<TextName, Template>>
  readonly words: Readonly<Record<string, string | Readonly<Record<string, string>>>>
}

const SHIPPED = join(ROOT, 'src/alerts/texts')
const FALLBACK = 'en'

const MOST_SUBJECT = 200

/** In a language that has no words for it. */
const LOCAL_USER = '{{user}} ({{address}})'

const line = (maxLength = 500) => Type.String({ format: 'text', minLength: 1, maxLength })
const table = (...keys: readonly string[]) => part(Object.fromEntries(keys.map((key) => [key, line()])))
const part = (properties: TProperties) => Type.Object(properties, { additionalProperties: false })

const TEXT = part({ subject: line(), text: line(20_000) })
const WORDS = {
  kinds: table(...INCIDENT_KINDS),
  certainty: table('likely', 'definite'),
  fate: table('block', 'redirect', 'observe', 'allow'),
  advice: table(...INCIDENT_KINDS),
  because: table('group', 'limit', 'quiet-hours', 'backlog', 'silence'),
  events: table(
    ...['opened', 'updated', 'resolved', 'reminder', 'exemption-lapses', 'exemption-lapsed'],
    ...['exemption-revoked', 'table-contested', 'table-uncontested', 'preflight-appeared', 'preflight-gone'],
  ),
  // Languages of operators may have been written without these.
  local_advice: Type.Optional(table('spam-bot', 'misconfigured-client', 'scanner')),
  local_user: Type.Optional(line()),
  one_server: line(),
  many_servers: line(),
}
const NAMES = Object.keys(TEXT_VARIABLES) as TextName[]
const WHOLE = part({
  texts: part(Object.fromEntries(NAMES.map((name) => [name, TEXT]))),
  words: part(WORDS),
})
/** Of a shipped language an operator's file may replace as little as one sentence. */
const PARTIAL = optional(WHOLE) as TSchema

/**
 * Texts of all languages that channels use. A file `LANGUAGE.yaml` in the directory replaces what is in it.
 * @throws ConfigError with every mistake, by file, line and column
 */
export async function loadTexts(
  directory: string | null,
  languages: readonly string[],
): Promise<ReadonlyMap<string, Texts>> {
  const files = directory === null ? [] : await listed(directory)
  const shipped = await listed(SHIPPED)
  const wanted = new Set([FALLBACK, ...languages, ...files.map(languageOf)])
  const diagnostics: Diagnostic[] = []
  const texts = new Map<string, Texts>()
  for (const language of wanted) {
    const isShipped = shipped.includes(`${language}.yaml`)
    const ours = isShipped ? await read(join(SHIPPED, `${language}.yaml`), WHOLE) : null
    const theirs =
      directory !== null && files.includes(`${language}.yaml`)
        ? await read(join(directory, `${language}.yaml`), isShipped ? PARTIAL : WHOLE)
        : null
    if (ours === null && theirs === null) {
      const where = directory === null ? 'a directory of alert_texts' : directory
      throw new ConfigError(
        `there are no texts in the language ${language}: write ${language}.yaml in ${where}`,
      )
    }
    for (const one of [ours, theirs]) diagnostics.push(...(one?.diagnostics ?? []))
    if (diagnostics.length === 0)
      texts.set(language, textsOf(language, merged(ours?.value, theirs?.value) as Language))
  }
  if (diagnostics.length > 0) throw new ConfigError('the texts of alerts have mistakes', diagnostics)
  return texts
}

function textsOf(language: string, { texts, words }: Language): Texts {
  const number = new Intl.NumberFormat(language)
  return {
    language,
    render(name, view) {
      const { subject, text } = texts[name]
      return { subject: subjectOf(fill(subject, view)), lines: linesOf(fill(text, view)) }
    },
    word(table, key) {
      const found = words[table]
      return typeof found === 'object' ? (found[key] ?? key) : key
    },
    advice(kind, isUser) {
      const { advice, local_advice: local } = words
      const found = [isUser ? local : undefined, advice].flatMap((table) =>
        typeof table === 'object' ? [table[kind]] : [],
      )
      return found.find((text) => text !== undefined) ?? kind
    },
    localUser: (user, address) => fill(String(words['local_user'] ?? LOCAL_USER), { user, address }),
    servers: (count) =>
      count === 1
        ? String(words['one_server'])
        : fill(String(words['many_servers']), { count: number.format(count) }),
  }
}

/** Plain text: nothing is escaped for HTML. */
function fill(template: string, view: unknown): string {
  return mustache.render(template, clean(view), {}, { escape: String })
}

/** What others wrote, such as a customer's name, must not break lines, let alone terminals and mail headers. */
function clean(view: unknown): unknown {
  if (typeof view === 'string') return view.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
  if (Array.isArray(view)) return view.map(clean)
  if (typeof view !== 'object' || view === null) return view
  return Object.fromEntries(Object.entries(view).map(([key, value]) => [key, clean(value)]))
}

function subjectOf(text: string): string {
  const subject = text.replace(/\s+/g, ' ').trim()
  return subject.length > MOST_SUBJECT ? `${subject.slice(0, MOST_SUBJECT - 1)}…` : subject
}

/** What a section left behind that held nothing is no paragraph. */
function linesOf(text: string): string[] {
  return text
    .replace(/[^\S\n]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim()
    .split('\n')
}

interface Read {
  readonly value: unknown
  readonly diagnostics: readonly Diagnostic[]
}

async function read(path: string, schema: TSchema): Promise<Read> {
  const written = await readFile(path, 'utf8').catch((error: Error) => {
    throw new ConfigError(`cannot read the texts ${path}: ${error.message}`)
  })
  const { documents, diagnostics } = parseYaml(path, written)
  const [document] = documents
  if (document === undefined) {
    const empty = diagnostic({ file: path, line: 1, column: 1 }, 'not-a-document', 'there are no texts in it')
    return { value: null, diagnostics: diagnostics.length > 0 ? diagnostics : [empty] }
  }
  const problems = checkShape(schema, document.value).map(({ code, message, ...place }) =>
    diagnostic(document.locate(place), code, message),
  )
  const found = [...diagnostics, ...problems]
  if (found.length === 0) found.push(...faultsOf(document, written.split('\n')))
  return { value: document.value, diagnostics: found }
}

function faultsOf(document: SourceDocument, lines: readonly string[]): Diagnostic[] {
  const { texts = {}, words = {} } = document.value as Partial<Language>
  const templates: [string, string, Variables][] = [
    ...Object.entries(texts).flatMap(([name, parts]): [string, string, Variables][] =>
      Object.entries(parts as Partial<Template>).map(([key, template]) => [
        `/texts/${name}/${key}`,
        template,
        TEXT_VARIABLES[name as TextName],
      ]),
    ),
    ...Object.entries(WORD_VARIABLES).flatMap(([name, variables]): [string, string, Variables][] =>
      name in words ? [[`/words/${name}`, String(words[name]), variables]] : [],
    ),
  ]
  return templates.flatMap(([pointer, template, variables]) =>
    templateFaults(template, variables).map(({ offset, message }) => {
      const { file, line, column } = document.locate({ pointer })
      const before = template.slice(0, offset).split('\n')
      // The text of a block begins in the line after its mark.
      const isBlock = /[|>][-+0-9]*\s*(#.*)?$/.test(lines[line - 1] ?? '')
      const row = line + before.length - (isBlock ? 0 : 1)
      const at = { file, line: row, column: row === line ? column : (before.at(-1)?.length ?? 0) + 1 }
      return diagnostic(at, 'bad-text', message)
    }),
  )
}

async function listed(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: Error) => {
    throw new ConfigError(`cannot read the texts in ${directory}: ${error.message}`)
  })
  return names.filter((name) => name.endsWith('.yaml')).sort()
}

function languageOf(file: string): string {
  return file.slice(0, -'.yaml'.length)
}

/** The second over the first, mapping by mapping. */
function merged(a: unknown, b: unknown): unknown {
  if (b === undefined || b === null) return a
  if (typeof a !== 'object' || a === null || typeof b !== 'object') return b
  const keys = new Set([...Object.keys(a), ...Object.keys(b)])
  return Object.fromEntries([...keys].map((key) => [key, merged(Reflect.get(a, key), Reflect.get(b, key))]))
}

function optional(schema: TSchema): TSchema {
  const { properties } = schema as { properties?: TProperties }
  if (properties === undefined) return schema
  return part(
    Object.fromEntries(Object.entries(properties).map(([key, one]) => [key, Type.Optional(optional(one))])),
  )
}
