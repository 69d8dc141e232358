/**
 * `egress25 exempt`: exemptions, one by one. Through the service, which brings them into force at once; without it they
 * are files in the policy directory, and the next apply brings them.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { mustBeAbsent } from '../client/client.ts'
import { readConfig } from '../config/config.ts'
import { ConfigError } from '../config-error.ts'
import {
  completeDocument,
  DocumentError,
  deleteChange,
  findDocument,
  putChange,
} from '../control/changes/document-change.ts'
import { stageChange } from '../control/changes/stage-change.ts'
import type { Diagnostic } from '../policy/diagnostic.ts'
import type { FileChange } from '../policy/file-change.ts'
import { parseDuration } from '../policy/formats.ts'
import { type Loaded, loadPolicies } from '../policy/load.ts'
import { runPolicyTests } from '../policy/policy-tests.ts'
import type { Document, ExemptionDocument } from '../policy/schema.ts'
import { ask, askForAll, type Common, reasonHeader, sayThatFilesAreRead } from './ask.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, coloured, printRows, visible, wantsJson } from './table.ts'

export interface AddOptions extends Common {
  readonly name?: string
  readonly to?: readonly string[]
  readonly for?: string
  readonly until?: string
  readonly rate?: string
  readonly reason?: string
  readonly owner?: string
  readonly ticket?: string
  /** Although a host has an open incident; says why with `reason`. */
  readonly overrideIncident?: boolean
}

export interface ExtendOptions extends Common {
  readonly for?: string
  readonly until?: string
  readonly reason?: string
  readonly overrideIncident?: boolean
}

const ROUTE = '/v1/exemptions'
const LONGEST_NAME = 48

const pathOf = (name: string) => `${ROUTE}/${encodeURIComponent(name)}`

/** @throws ConfigError */
export async function addExemption(sources: readonly string[], options: AddOptions): Promise<Exit> {
  const { json, config } = options
  const name = options.name ?? nameOf(sources[0] ?? '')
  const expires = endOf(options, Date.now())
  const written = exemptionFields(sources, options, expires)
  const document = soundExemption(name, written)
  try {
    return await put({ json, config }, name, written, { 'if-none-match': '*' }, options)
  } catch (error) {
    mustBeAbsent(error)
  }
  return inDirectory(options, `written: exemption ${name}`, (loaded) => {
    if (findDocument(loaded, 'exemption', name) !== null) {
      complain(`egress25: there is an exemption ${name} already; give this one another --name`)
      return null
    }
    return putChange(null, () => '', document)
  })
}

/** Gives an exemption another end, and leaves the rest of it as it is. @throws ConfigError, UnreachableError */
export async function extendExemption(name: string, options: ExtendOptions): Promise<Exit> {
  const { json, config } = options
  const expires = endOf(options, Date.now())
  if (expires === null) throw new ConfigError('say how long, with --for 30d or --until 2026-12-31T00:00:00Z')
  const found = await ask<ExemptionDocument>({ json, config }, { path: pathOf(name) })
  if ('exit' in found) return found.exit
  const { kind: _kind, name: _name, ...rest } = found.body
  const exit = await put(
    { json, config },
    name,
    { ...rest, expires },
    { 'if-match': found.etag ?? '' },
    options,
  )
  const before = rest.expires
  if (exit === EXIT.done && (before === undefined || Date.parse(before) > Date.parse(expires)))
    complain(
      `egress25: that is sooner than before: it ${before === undefined ? 'had no end' : `ended ${before}`}`,
    )
  return exit
}

async function put(
  common: Common,
  name: string,
  body: object,
  precondition: Readonly<Record<string, string>>,
  { reason, overrideIncident }: Pick<ExtendOptions, 'reason' | 'overrideIncident'>,
): Promise<Exit> {
  const answer = await ask<ExemptionDocument>(common, {
    method: 'PUT',
    path: `${pathOf(name)}${overrideIncident === true ? '?override_incident=true' : ''}`,
    body,
    headers: { ...precondition, ...reasonHeader(reason) },
  })
  if ('exit' in answer) return answer.exit
  if (common.json) printJson(answer.body)
  else {
    const { expires } = answer.body
    print(`in force: exemption ${name}, ${expires === undefined ? 'without an end' : `until ${expires}`}`)
    await tellWarnings(common, name)
  }
  return EXIT.done
}

/** An exemption that does nothing is in force, too; whoever made it should hear of it. */
async function tellWarnings(common: Common, name: string): Promise<void> {
  const answer = await ask<{ warnings: readonly Diagnostic[] }>(common, { path: '/v1/status' })
  if ('exit' in answer) return
  const meant = new RegExp(`exemption ${name}(?![a-z0-9-])`)
  for (const { message } of answer.body.warnings) if (meant.test(message)) complain(`egress25: ${message}`)
}

export async function revokeExemption(
  name: string,
  { json, config, reason }: Common & { readonly reason?: string },
): Promise<Exit> {
  try {
    const headers = reasonHeader(reason)
    const answer = await ask<null>({ json, config }, { method: 'DELETE', path: pathOf(name), headers })
    if ('exit' in answer) return answer.exit
    if (!json) print(`revoked: exemption ${name}; its connections end with their next packet`)
    return EXIT.done
  } catch (error) {
    mustBeAbsent(error)
  }
  return inDirectory({ json, config }, `removed: exemption ${name}`, (loaded, textOf) => {
    const found = findDocument(loaded, 'exemption', name)
    if (found !== null) return deleteChange(found, textOf)
    complain(`egress25: there is no exemption ${name}`)
    return null
  })
}

export async function listExemptions(common: Common): Promise<Exit> {
  const answer = await askForAll<ExemptionDocument>(common, ROUTE).catch(
    filesInstead(common, (items) => ({ body: { items, next: null } })),
  )
  if ('exit' in answer) return answer.exit
  printRows(answer.body, COLUMNS, { json: common.json, none: 'no exemptions' })
  return EXIT.done
}

export async function showExemption(name: string, common: Common): Promise<Exit> {
  const answer = await ask<ExemptionDocument>(common, { path: pathOf(name) }).catch(
    filesInstead(common, (items) => {
      const body = items.find((one) => one.name === name)
      if (body !== undefined) return { body }
      complain(`egress25: there is no exemption ${name}`)
      return { exit: EXIT.no }
    }),
  )
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else {
    for (const [key, value] of Object.entries(answer.body)) {
      print(
        `${coloured(key.padEnd(12), 'dim')}  ${visible(Array.isArray(value) ? value.join(', ') : String(value))}`,
      )
    }
  }
  return EXIT.done
}

/** Without the service the files say what is to be, which is said. */
function filesInstead<Found>({ config }: Common, find: (items: ExemptionDocument[]) => Found) {
  return async (error: unknown): Promise<Found> => {
    const { policyDirectory, compile } = await readConfig(config)
    sayThatFilesAreRead(error, policyDirectory)
    const { outsideInterfaces } = compile
    const { documents } = await loadPolicies(policyDirectory, { now: Date.now(), outsideInterfaces })
    const items = documents.flatMap(({ document }) => (document.kind === 'exemption' ? [document] : []))
    return find(items.sort((a, b) => (a.name < b.name ? -1 : 1)))
  }
}

/** Changes a file as the service would: only when the policies stay sound and their tests pass. */
async function inDirectory(
  { json, config }: Common,
  done: string,
  plan: (loaded: Loaded, textOf: (path: string) => string) => FileChange | null,
): Promise<Exit> {
  const { policyDirectory: directory, compile } = await readConfig(config)
  const { outsideInterfaces } = compile
  const now = Date.now()
  const before = await loadPolicies(directory, { now, outsideInterfaces })
  const texts = new Map<string, string>()
  for (const { source } of before.documents) {
    const { file } = source.origin
    if (!texts.has(file)) texts.set(file, await readFile(join(directory, file), 'utf8'))
  }
  const change = plan(before, (path) => texts.get(path) ?? '')
  if (change === null) return EXIT.no
  const text = change.text === null ? null : Buffer.from(change.text).toString()
  const overlay = new Map([[change.path, text]])
  const after = await loadPolicies(directory, { now, outsideInterfaces, overlay })
  const failed = after.model === null ? [] : runPolicyTests(after.model, now).filter(({ passed }) => !passed)
  if (after.model === null || failed.length > 0) {
    if (json) printJson({ diagnostics: after.diagnostics })
    else complainOf(after.diagnostics)
    for (const { test, expectation, found } of failed) {
      const { origin, verdict } = expectation
      complain(`${origin.file}:${origin.line}: the test ${test} would fail: ${found.verdict}, not ${verdict}`)
    }
    complain('egress25: nothing was changed')
    return EXIT.no
  }
  await mkdir(join(directory, 'exemptions'), { recursive: true })
  const staged = await stageChange(directory, change)
  await staged.commit()
  if (json) printJson({ file: change.path, in_force: false })
  else print(`${done} (${change.path}); no service runs: sudo egress25 apply brings it into force`)
  return EXIT.done
}

/** The document as the options say it, without kind and name. */
export function exemptionFields(
  sources: readonly string[],
  { to, rate, reason, owner, ticket }: AddOptions,
  expires: string | null,
) {
  return {
    sources,
    ...(to === undefined ? {} : { destinations: to }),
    ...(rate === undefined ? {} : { rate }),
    ...(expires === null ? {} : { expires }),
    ...(reason === undefined ? {} : { reason }),
    ...(owner === undefined ? {} : { owner }),
    ...(ticket === undefined ? {} : { ticket }),
  }
}

/** By which argument each part of an exemption is given. */
const ARGUMENTS: Readonly<Record<string, string>> = {
  sources: 'SOURCE',
  destinations: '--to',
  expires: '--until',
}

/** The document that is meant. @throws ConfigError that names each argument that is wrong */
export function soundExemption(name: string, written: ReturnType<typeof exemptionFields>): Document {
  try {
    return completeDocument('exemption', name, written)
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error
    const faults = error.problems.map(({ pointer, message }) => {
      const [, key = ''] = pointer.split('/')
      return `${ARGUMENTS[key] ?? `--${key}`} ${message}`
    })
    throw new ConfigError(faults.join('; '))
  }
}

/** `--for 30d` counts from now. @throws ConfigError */
function endOf({ for: span, until }: Pick<AddOptions, 'for' | 'until'>, now: number): string | null {
  if (span !== undefined && until !== undefined) throw new ConfigError('--for and --until exclude each other')
  if (span === undefined) return until ?? null
  const milliseconds = parseDuration(span)
  if (milliseconds === null) throw noDuration(span)
  return new Date(Math.ceil((now + milliseconds) / 1_000) * 1_000).toISOString().replace('.000Z', 'Z')
}

export function noDuration(span: string): ConfigError {
  return new ConfigError(`--for ${span} is no duration like 12h or 30d`)
}

/** A name that says which machine, where nobody has given one. */
function nameOf(source: string): string {
  return `host-${source.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`.slice(0, LONGEST_NAME)
}

const COLUMNS: readonly Column<ExemptionDocument>[] = [
  { title: 'name', text: ({ name }) => name, style: () => 'bold' },
  { title: 'sources', text: ({ sources }) => shorten(sources) },
  {
    title: 'to',
    text: ({ destinations }) => (destinations === undefined ? 'anywhere' : shorten(destinations)),
  },
  { title: 'rate', text: ({ rate }) => rate ?? '' },
  {
    title: 'expires',
    text: ({ expires }) =>
      expires === undefined ? 'never' : ended(expires) ? `ended ${ago(expires, Date.now())}` : expires,
    style: ({ expires }) => (expires !== undefined && ended(expires) ? 'dim' : null),
  },
  { title: 'ticket', text: ({ ticket }) => ticket ?? '' },
  { title: 'owner', text: ({ owner }) => owner ?? '' },
]

const ended = (expires: string) => Date.parse(expires) <= Date.now()

function shorten(prefixes: readonly string[]): string {
  const [first = '', ...more] = prefixes
  return more.length === 0 ? first : `${first} and ${more.length} more`
}
