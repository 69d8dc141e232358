/**
 * The only place that starts `conntrack`: ends redirected connections that should be no more.
 *
 * Where a connection goes is decided with its first packet, and conntrack keeps to it, whatever becomes of the rules.
 * So after a change every redirected connection is asked anew, and forgotten by the kernel when the answer is another
 * one: its next packet then meets the rules as they are.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ruleset } from '../compile/ruleset.ts'
import { FAMILIES, type Family, formatAddress, type Prefix, parseAddress } from '../policy/prefix.ts'
import type { ProcessResult, ProcessRunner } from './process.ts'
import { isGoverned, type Redirection, redirectionOf } from './redirection.ts'

export interface Conntrack {
  /**
   * Ends what the ruleset after the change would send elsewhere than the one before it did; null: that is not known,
   * and any redirected connection of a governed host is judged by the new rules alone. Without redirecting in either
   * nothing is started. Takes at most some seconds; never throws.
   */
  endStale(before: Ruleset | null, after: Ruleset): Promise<void>
}

export interface ConntrackOptions {
  readonly run: ProcessRunner
  /** Milliseconds since the epoch: exemptions end by it. */
  readonly now: () => number
  readonly onEnded: (connections: number) => void
  /** Stale connections may be left. */
  readonly onFailed: (reason: string) => void
}

/** One direction of a connection, and where it was sent. */
interface Entry {
  readonly family: Family
  readonly source: Prefix
  readonly destination: Prefix
  readonly target: Prefix
  /** Arguments of conntrack(8) that match this entry and no other. */
  readonly match: readonly string[]
}

/** A listing of so many has about 20 MB. */
const MOST_ENTRIES = 100_000
const LIST_TIMEOUT = 10_000
/** conntrack 1.4.7 reads the kernel's whole table for each that it deletes: 0.2 s where that has 60,000. */
const DELETE_TIMEOUT = 10_000
const SMTP = ['-p', 'tcp', '--orig-port-dst', '25', '--dst-nat'] as const

export function openConntrack({ run, now, onEnded, onFailed }: ConntrackOptions): Conntrack {
  const list = async (family: Family): Promise<Entry[]> => {
    const listed = await run(['conntrack', '-L', '-f', `ipv${family}`, ...SMTP, '-o', 'extended'], {
      timeout: LIST_TIMEOUT,
    })
    if (listed.code !== 0) throw new Error(refusal(listed))
    return listed.stdout.split('\n').flatMap((line) => parseEntry(line, family) ?? [])
  }
  return {
    async endStale(before, after) {
      const was = before === null ? null : redirectionOf(before)
      const is = redirectionOf(after)
      if (before !== null && was === null && is === null) return
      try {
        const found = (await Promise.all(FAMILIES.map(list))).flat()
        if (found.length > MOST_ENTRIES) {
          onFailed(`only ${MOST_ENTRIES} of ${found.length} redirected connections were looked at`)
        }
        const entries = found.slice(0, MOST_ENTRIES)
        const time = now()
        const stale = entries.filter((entry) => isStale(entry, was, is, before === null ? after : null, time))
        if (stale.length === 0) return
        await runCommands(run, commands(entries, stale, after))
        onEnded(stale.length)
      } catch (error) {
        onFailed((error as Error).message)
      }
    },
  }
}

/** One process for all, which goes on when one of them finds its connection gone. */
async function runCommands(run: ProcessRunner, lines: readonly string[]): Promise<void> {
  // `-R -` would open /dev/stdin by its name, and Node's pipes are sockets, which cannot be opened.
  const folder = await mkdtemp(join(tmpdir(), 'egress25-conntrack-'))
  try {
    const file = join(folder, 'commands')
    await writeFile(file, lines.join(''))
    const ended = await run(['conntrack', '-R', file], { timeout: DELETE_TIMEOUT })
    if (ended.code !== 0) throw new Error(refusal(ended))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function isStale(
  { source, destination, target }: Entry,
  before: Redirection | null,
  after: Redirection | null,
  /** The new rules, when the old ones are not known. */
  judge: Ruleset | null,
  now: number,
): boolean {
  const is = (other: Prefix | null | undefined) => other?.address === target.address
  if (is(after?.target(source, destination, now))) return false
  // Others change destinations, too: a port that is forwarded to a mail server is none of our business.
  return judge === null ? is(before?.target(source, destination, now)) : isGoverned(judge, source)
}

/** Lines for `conntrack -R`. Where nothing goes to a target any more, one pass over the table ends all of it. */
function commands(entries: readonly Entry[], stale: readonly Entry[], after: Ruleset): string[] {
  const inUse = new Set(
    after.chains.flatMap(({ rules }) =>
      rules.flatMap((rule) => (rule.rule === 'send-to' ? formatAddress(rule.to) : [])),
    ),
  )
  const all = countByTarget(entries)
  const going = countByTarget(stale)
  const whole = [...going.keys()].filter(
    (target) => !inUse.has(target) && going.get(target) === all.get(target),
  )
  return [
    ...whole.map((target) => `-D ${SMTP.join(' ')} ${target}\n`),
    ...stale
      .filter(({ target }) => !whole.includes(formatAddress(target)))
      .map(({ match }) => `-D ${match.join(' ')}\n`),
  ]
}

function countByTarget(entries: readonly Entry[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { target } of entries) {
    const text = formatAddress(target)
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  return counts
}

/** A line of `conntrack -L -o extended`; null when it is something else. */
function parseEntry(line: string, family: Family): Entry | null {
  const values: Record<string, string[]> = {}
  for (const [, name = '', value = ''] of line.matchAll(/\b([a-z-]+)=(\S+)/g)) {
    values[name] ??= []
    values[name].push(value)
  }
  // Each of these is there twice: as the connection was opened, and as answers come.
  const [src, answerFrom] = values['src'] ?? []
  const [dst, answerTo] = values['dst'] ?? []
  const [sport, answerSport] = values['sport'] ?? []
  const [dport, answerDport] = values['dport'] ?? []
  const [source, destination, target] = [src, dst, answerFrom].map((text) => parseAddress(text ?? ''))
  if (!source || !destination || !target || !src || !dst || !sport || dport !== '25') return null
  if (!answerFrom || !answerTo || !answerSport || !answerDport) return null
  const zones = { zone: '-w', 'zone-orig': '--orig-zone', 'zone-reply': '--reply-zone' } as const
  const inZone = Object.entries(zones).flatMap(([name, option]) => {
    const zone = values[name]?.[0]
    return zone === undefined ? [] : [option, zone]
  })
  const match = [
    ...['-f', `ipv${family}`, ...inZone, '-p', 'tcp'],
    ...['-s', src, '-d', dst, '--sport', sport, '--dport', dport],
    ...['-r', answerFrom, '-q', answerTo, '--reply-port-src', answerSport, '--reply-port-dst', answerDport],
  ]
  return { family, source, destination, target, match }
}

function refusal({ code, stderr }: Pick<ProcessResult, 'code' | 'stderr'>): string {
  return `conntrack failed with status ${code}: ${stderr.trim().split('\n')[0]?.slice(0, 200) ?? ''}`
}
