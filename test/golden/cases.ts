/**
 * The golden cases: each folder here has `policies/`, the script they compile to (`expected.nft`), and packets with
 * their verdicts (`packets.yaml`); and, where the case is about the gateway itself, its configuration
 * (`gateway.yaml`). This module reads them; it changes nothing.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import type { CompileOptions } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { parseConfig } from '../../src/config/config.ts'
import { runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import type { Diagnostic } from '../../src/policy/diagnostic.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { type Model, relayUsers } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'

/** What a real connection meets. */
export type Outcome = 'connected' | 'reset' | 'timeout'

export interface GoldenPacket {
  readonly source: Prefix
  readonly destination: Prefix
  readonly from: string
  readonly to: string
  readonly port: number
  /** The local user who sends, on the gateway itself; null: forwarded. */
  readonly user: string | null
  readonly verdict: (typeof VERDICTS)[number]
  /** null: what follows from the verdict and the policy's action. Said where that is not plain to see. */
  readonly expect: Outcome | null
}

export interface GoldenCase {
  readonly name: string
  readonly diagnostics: readonly Diagnostic[]
  /** The compiled policies; null when there are errors. */
  readonly compiled: Compiled | null
  /** What `expected.nft` says; null when it is not there. */
  readonly expected: string | null
  readonly packets: readonly GoldenPacket[]
}

export interface Compiled {
  readonly model: Model
  readonly gateway: CompileOptions
  readonly ruleset: Ruleset
  readonly text: string
}

/** Where the cases are. */
export const FOLDER = fileURLToPath(new URL('.', import.meta.url))

/** The names of the cases, in their order. */
export async function caseNames(): Promise<string[]> {
  const entries = await readdir(FOLDER, { withFileTypes: true })
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}

/** The file that holds the script a case must compile to. */
export function expectedFile(name: string): string {
  return join(FOLDER, name, 'expected.nft')
}

/** Reads one case, and compiles it for a time (milliseconds since the epoch); `compiler` may be a broken one. */
export async function readCase(
  name: string,
  now: number,
  compiler = compile,
  folder = join(FOLDER, name),
): Promise<GoldenCase> {
  const { model, diagnostics } = await loadPolicies(join(folder, 'policies'), { now })
  const packets = readPackets(await readFile(join(folder, 'packets.yaml'), 'utf8'))
  const expected = await readFile(join(folder, 'expected.nft'), 'utf8').catch(() => null)
  if (model === null) return { name, diagnostics, compiled: null, expected, packets }
  const gateway = await readOptions(folder, model)
  const ruleset = compiler(model, gateway)
  const compiled = { model, gateway, ruleset, text: renderReplacement(ruleset).text }
  return { name, diagnostics, compiled, expected, packets }
}

async function readOptions(folder: string, model: Model): Promise<CompileOptions> {
  const file = join(folder, 'gateway.yaml')
  const text = await readFile(file, 'utf8').catch(() => '{}')
  return { ...parseConfig(file, text).compile, uids: await findUserIds(relayUsers(model), runProcess) }
}

const KEYS = new Set(['from', 'to', 'port', 'user', 'verdict', 'expect'])
const VERDICTS = ['allow', 'block', 'redirect', 'observe', 'ungoverned'] as const
const OUTCOMES = ['connected', 'reset', 'timeout'] as const

/** Strict, because a slip in here would be a packet that proves nothing. */
function readPackets(text: string): GoldenPacket[] {
  const entries: unknown = parse(text, { strict: true })
  if (!Array.isArray(entries) || entries.length === 0)
    throw new Error('packets.yaml holds no list of packets')
  return entries.map((entry: Record<string, unknown>, index) => {
    const fail = (what: string) => new Error(`packet ${index + 1} in packets.yaml: ${what}`)
    const stray = Object.keys(entry).find((key) => !KEYS.has(key))
    if (stray !== undefined) throw fail(`unknown key ${stray}`)
    const { from, to, port, user = null, verdict, expect = null } = entry
    const source = parseAddress(String(from))
    const destination = parseAddress(String(to))
    if (source === null || destination?.family !== source.family) throw fail(`bad addresses ${from}, ${to}`)
    if (typeof port !== 'number') throw fail(`bad port ${port}`)
    const knownVerdict = VERDICTS.find((word) => word === verdict)
    if (knownVerdict === undefined) throw fail(`bad verdict ${verdict}`)
    const knownOutcome = OUTCOMES.find((word) => word === expect) ?? null
    if (expect !== knownOutcome) throw fail(`bad expect ${expect}`)
    return {
      source,
      destination,
      from: String(from),
      to: String(to),
      port,
      user: user === null ? null : String(user),
      verdict: knownVerdict,
      expect: knownOutcome,
    }
  })
}
