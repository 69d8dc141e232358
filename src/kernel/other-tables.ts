/**
 * What the tables of others do to port 25, from what `nft -t -n list ruleset` prints.
 *
 * It is the text that is read, and not nft's JSON, because there the extensions of iptables are written out as what
 * they mean (`notrack`, `redirect to :2525`), where JSON has nothing but their names. Only rules that name port 25 count,
 * and of those not the ones for mail that comes in; what cannot be understood is passed over: this warns, and a
 * warning that is always there is read by nobody. What others *accept* is of no interest: it does not pass our table.
 */
import { TABLE } from '../compile/nft/names.ts'
import type { CompileOptions } from '../compile/options.ts'

export interface Interference {
  readonly does: 'drop' | 'divert' | 'untrack' | 'offload'
  /** Whether port 25 comes by there before our own chains see it. */
  readonly before: boolean
  /** Its priority, where it stands at a hook of ours, and another order would be possible; else null. */
  readonly priority: number | null
  /** `table inet filter, chain forward`: where the rule stands. */
  readonly where: string
  /** The rule, without its counters. */
  readonly rule: string
}

type Gateway = Pick<CompileOptions, 'hooks' | 'outsideInterfaces' | 'priority'>

interface Chain {
  readonly table: string
  readonly name: string
  readonly base: { readonly type: string; readonly hook: string; readonly priority: number } | null
  readonly rules: string[]
}

/** What is known of the packets that come by a rule. */
interface Way {
  /** Port 25 was asked for. */
  readonly named: boolean
  /** Packets to port 25 are among them. */
  readonly out: boolean
  /** Answers from port 25 are among them. */
  readonly back: boolean
}

/** Rulesets of others may call chains in circles of any size; nobody reads more than this. */
const MAX_DEPTH = 16
const MAX_STEPS = 100_000
const MAX_RULE = 200

/** At most one for each chain and what it does, in the order in which they stand. */
export function findInterference(listing: string, gateway: Gateway): Interference[] {
  const chains = parse(listing)
  const byId = new Map(chains.map((chain) => [`${chain.table} ${chain.name}`, chain]))
  const found = new Map<string, Interference>()
  let steps = 0

  const walk = (chain: Chain, base: Chain, way: Way, depth: number): void => {
    for (const rule of chain.rules) {
      if (++steps > MAX_STEPS) return
      const next = follow(rule, way, gateway)
      if (next === null) continue
      const place = placeOf(base, gateway)
      const does = effect(rule, next, base)
      if (does !== null && place !== null) {
        const where = `table ${chain.table}, chain ${chain.name}`
        const key = `${does} ${where}`
        if (!found.has(key)) {
          const { hook = '', priority = null } = base.base ?? {}
          found.set(key, {
            does,
            before: place === 'before',
            priority: hook === 'forward' || hook === 'output' ? priority : null,
            where,
            rule: rule.slice(0, MAX_RULE),
          })
        }
      }
      for (const name of calledBy(rule)) {
        const called = byId.get(`${chain.table} ${name}`)
        if (called !== undefined && depth < MAX_DEPTH) walk(called, base, next, depth + 1)
      }
    }
  }
  for (const chain of chains) {
    if (chain.base !== null) walk(chain, chain, { named: false, out: true, back: true }, 0)
  }
  return [...found.values()]
}

function parse(listing: string): Chain[] {
  const chains: Chain[] = []
  let table = ''
  let chain: Chain | null = null
  for (const line of listing.split('\n')) {
    const text = line.trim()
    if (line.startsWith('table ')) table = line.slice('table '.length).replace(/ \{.*$/, '')
    else if (line.startsWith('\tchain ')) {
      chain = { table, name: text.replace(/^chain | \{.*$/g, ''), base: null, rules: [] }
      if (table !== TABLE) chains.push(chain)
    } else if (line.startsWith('\t}')) chain = null
    else if (chain !== null && text !== '') {
      const [, type = '', hook = '', priority] = /^type (\w+) hook (\w+) .*priority (-?\d+);/.exec(text) ?? []
      if (priority === undefined) chain.rules.push(withoutCounters(text))
      else {
        const based: Chain = { ...chain, base: { type, hook, priority: Number(priority) } }
        if (chains.at(-1) === chain) chains[chains.length - 1] = based
        chain = based
      }
    }
  }
  return chains
}

/** Where a base chain stands to ours; null: what goes by there is not what we look after. */
function placeOf({ table, base }: Chain, { hooks, priority }: Gateway): 'before' | 'after' | null {
  const forward = hooks.includes('forward')
  const output = hooks.includes('output')
  switch (base?.hook) {
    case 'ingress':
      return forward ? 'before' : null
    case 'prerouting':
      return forward ? 'before' : null
    case 'forward':
      // What a bridge forwards by itself never comes to us.
      if (!forward || table.startsWith('bridge ')) return null
      return base.priority <= priority ? 'before' : 'after'
    case 'output':
      if (!output || table.startsWith('bridge ')) return null
      return base.type === 'nat' || base.priority <= priority ? 'before' : 'after'
    case 'postrouting':
    case 'egress':
      return 'after'
    default:
      return null
  }
}

/** What a rule's conditions leave of the packets of a connection that leaves the network to port 25; null: none. */
function follow(rule: string, way: Way, { outsideInterfaces }: Gateway): Way | null {
  if (/\b(?:ip protocol|ip6 nexthdr|meta l4proto) (?:udp|17|icmp|1|ipv6-icmp|58)\b/.test(rule)) return null
  if (/\b(?:udp|sctp|icmp|icmpv6) \w+ /.test(rule)) return null
  // For some address of the inside, or of this machine: a port that is forwarded to a server.
  if (/\bfib daddr(?: \. \w+)? type (?:local|2)\b/.test(rule)) return null
  if (/\bip6? daddr (?!!=|&)/.test(rule)) return null
  if (/\bct original proto-dst != 25\b/.test(rule)) return null
  for (const { not, values } of conditions(rule, /\biif(?:name)? (!= )?(\{[^}]*\}|"[^"]*"|\S+)/g)) {
    const names = values.match(/[\w.:@*-]+/g) ?? []
    if (!not && names.every((name) => outsideInterfaces.includes(name))) return null
  }
  let { named, out, back } = way
  for (const { not, values } of conditions(rule, /\b(?:tcp|th) dport (!= )?(\{[^}]*\}|\d\S*)/g)) {
    const holds = holdsPort(values, 25)
    if (holds === not) out = false
    if (holds && !not) named = true
    // Answers go to a port that was picked from the upper ones.
    if (!not && !holdsPort(values, 49_152)) back = false
  }
  for (const { not, values } of conditions(rule, /\b(?:tcp|th) sport (!= )?(\{[^}]*\}|\d\S*)/g)) {
    if (holdsPort(values, 25) === not) back = false
    if (!not && !holdsPort(values, 49_152)) out = false
  }
  return out || back ? { named, out, back } : null
}

/** What a rule does to packets that meet it. */
function effect(rule: string, { named, out }: Way, { base }: Chain): Interference['does'] | null {
  if (/\bflow (?:add|offload) @/.test(rule)) return 'offload'
  if (!out) return null
  if (/\bnotrack$/.test(rule)) return 'untrack'
  if (verdictsFor25(rule).includes('drop')) return 'drop'
  if (!named) return null
  if (/\b(?:dnat|redirect|tproxy)\b|xt target "(?:DNAT|REDIRECT|TPROXY)"/.test(rule)) return 'divert'
  const refuses = /\b(?:drop|reject(?: with .*)?)$|xt target "REJECT"/.test(rule)
  return refuses && base?.type !== 'nat' ? 'drop' : null
}

/** The chains that a packet to port 25 is sent to. */
function calledBy(rule: string): string[] {
  const called = /\b(?:jump|goto) (\S+)$/.exec(rule)?.[1]
  if (called !== undefined) return [called]
  return verdictsFor25(rule).flatMap((verdict) => /^(?:jump|goto) (\S+)$/.exec(verdict)?.[1] ?? [])
}

/** Of a map from ports to verdicts, those for port 25. */
function verdictsFor25(rule: string): string[] {
  const map = /\b(?:tcp|th) dport vmap \{([^}]*)\}/.exec(rule)?.[1] ?? ''
  return map.split(',').flatMap((entry) => {
    const [ports = '', verdict = ''] = entry.split(' : ').map((part) => part.trim())
    return verdict !== '' && holdsPort(ports, 25) ? [verdict] : []
  })
}

/** Each condition of a kind: what it compares with, and whether it is turned round. */
function conditions(rule: string, form: RegExp): { not: boolean; values: string }[] {
  return [...rule.matchAll(form)].map(([, not, values = '']) => ({ not: not !== undefined, values }))
}

/** Whether a port is in `25`, `20-30` or `{ 25, 465 }`. */
function holdsPort(values: string, port: number): boolean {
  return values
    .replace(/[{}]/g, '')
    .split(',')
    .some((part) => {
      const [from = '', to = from] = part.trim().split('-')
      return /^\d+$/.test(from) && Number(from) <= port && port <= Number(to)
    })
}

/** Counters move, and a warning must not be another one each minute. */
function withoutCounters(rule: string): string {
  return rule
    .replace(/ ?counter packets \d+ bytes \d+/g, '')
    .replace(/ comment "[^"]*"$/, '')
    .trim()
}
