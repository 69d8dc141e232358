/**
 * Random policy directories that are sound, small, and overlap a lot, for properties that hold for every policy; and
 * the gateway options and packets to try them with.
 */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { stringify } from 'yaml'
import type { CompileOptions } from '../../src/compile/options.ts'
import type { Model } from '../../src/policy/model.ts'
import {
  addressBits,
  type Family,
  formatPrefix,
  mask4,
  mask6,
  type Prefix,
  parseAddress,
  parsePrefix,
  truncate,
} from '../../src/policy/prefix.ts'
import { isGateway } from './field.ts'

export type Document = { readonly kind: string; readonly name: string } & Readonly<Record<string, unknown>>

/** What fast-check shows of a directory is its text. */
export interface Directory {
  readonly documents: readonly Document[]
  readonly yaml: string
  /** The list files by their paths, which follow from what they hold: one folder serves many directories. */
  readonly files: ReadonlyMap<string, string>
}

/** Stands for a time within the run, see `withEnds`. */
const SOON = 'soon'

/** Around these, so that prefixes meet: each place of the lab, and the gateway itself. */
const AROUND = [
  '100.64.0.0',
  '100.64.1.128',
  '100.127.255.255',
  '192.0.2.25',
  '203.0.113.9',
  '198.51.100.254',
  '2001:db8:100::',
  '2001:db8:100:1:8000::1',
  '2001:db8::25',
  '2001:db8:ffff::9',
  '2001:db8:fffe::fe',
].map((text) => parseAddress(text) as Prefix)

const LENGTHS: Record<Family, readonly number[]> = {
  4: [0, 1, 8, 10, 15, 16, 17, 23, 24, 25, 30, 31, 31, 32, 32],
  6: [0, 1, 3, 31, 32, 33, 40, 47, 48, 63, 64, 65, 126, 127, 127, 128, 128],
}

/** An address around which prefixes are made, perhaps with one bit turned over: its neighbour on some level. */
const addresses = fc
  .tuple(fc.constantFrom(...AROUND), fc.option(fc.nat(127), { freq: 3 }))
  .map(([near, bit]): Prefix => {
    if (bit === null) return near
    if (near.family === 6) return { ...near, address: near.address ^ (1n << BigInt(bit)) }
    return { ...near, address: (near.address ^ (1 << (bit % 32))) >>> 0 }
  })

const prefixes = addresses.chain((address) =>
  fc
    .oneof(
      { weight: 4, arbitrary: fc.constantFrom(...LENGTHS[address.family]) },
      { weight: 1, arbitrary: fc.nat(addressBits(address.family)) },
    )
    .map((length) => formatPrefix(truncate(address, length))),
)

const LISTS = 3
const names = (stem: string, count: number) => fc.nat(count - 1).map((n) => `${stem}${n}`)
const some = (arbitrary: fc.Arbitrary<string>, maxLength = 4) =>
  fc.uniqueArray(arbitrary, { minLength: 1, maxLength, size: 'max' })
const sometimes = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
/** Prefixes, and now and then a list; one that is not there is left out later. */
const listed = (arbitrary: fc.Arbitrary<string>, maxLength = 4) =>
  some(
    fc.oneof(
      { weight: 7, arbitrary },
      { weight: 1, arbitrary: names('list', LISTS).map((name) => `@${name}`) },
    ),
    maxLength,
  )

const policies = (count: number) =>
  fc.record({
    kind: fc.constant('policy'),
    name: names('policy', count),
    networks: listed(prefixes),
    mode: fc.constantFrom('enforce', 'enforce', 'observe'),
    action: fc.constantFrom('reject', 'reject', 'drop', 'redirect'),
    detection: sometimes(fc.record({ ipv6_prefix: fc.constantFrom(32, 33, 56, 64, 127, 128) })),
  })

const relays = (count: number) =>
  fc.record({
    kind: fc.constant('relay'),
    name: names('relay', count),
    addresses: listed(
      prefixes.filter((prefix) => !prefix.includes('/') || /\/(24|3\d|6\d|12\d)$/.test(prefix)),
      2,
    ),
    clients: sometimes(listed(prefixes, 3)),
    users: sometimes(fc.constantFrom(['daemon'], ['daemon'], ['nobody', 'daemon'], ['nobody-has-this-name'])),
  })

const TIMES = [
  '1970-01-01T00:00:00Z',
  '2020-02-29T12:00:00+01:00',
  '2099-12-31T23:59:59Z',
  '2100-01-01T00:00:00Z',
  '2199-12-31T23:59:59Z',
]
const RATES = ['1/day', '3/hour', '2/minute', '5/day', '1/hour', '1000000/second', '30/minute']

const exemptions = (count: number, times: readonly string[]) =>
  fc.record({
    kind: fc.constant('exemption'),
    name: names('exemption', count),
    sources: listed(prefixes, 3),
    destinations: sometimes(listed(prefixes, 2)),
    rate: sometimes(fc.constantFrom(...RATES)),
    expires: sometimes(fc.constantFrom(...times)),
  })

const lists = fc.record({
  kind: fc.constant('list'),
  name: names('list', LISTS),
  prefixes: some(prefixes, 5),
  file: fc.boolean(),
})

/** The only test that holds in every directory. */
const tests = fc.record({
  kind: fc.constant('test'),
  name: names('test', 1),
  expect: fc.constant([{ from: '100.64.1.2', to: '203.0.113.9', port: 587, verdict: 'allow' }]),
})

interface Size {
  /** Policies, relays and exemptions at most; 1 is what people read with ease. */
  readonly size: number
  /** Whether exemptions may end within the run. */
  readonly ending: boolean
}

function documentsOf({ size, ending }: Size): fc.Arbitrary<Document[]> {
  const several = <T>(arbitrary: fc.Arbitrary<T>, maxLength: number, minLength = 0) =>
    fc.array(arbitrary, { minLength, maxLength, size: 'max' })
  const times = ending ? [...TIMES, SOON, SOON, SOON, SOON, SOON, SOON, SOON] : TIMES
  return fc
    .tuple(
      several(policies(4 * size), 4 * size),
      several(relays(3 * size), 3 * size),
      several(exemptions(5 * size, times), 5 * size, ending ? 2 : 0),
      several(lists, LISTS),
      several(tests, 1),
    )
    .map((kinds) => kinds.flat().map((document) => withoutAbsent(document)))
}

/** Documents that people read with ease, and no list files: their text is all there is. */
const inline = documentsOf({ size: 1, ending: false }).map((documents) =>
  documents.map((one) => (one.kind === 'list' ? { ...one, file: false } : one)),
)

/** Random sound directories. */
export const directories: fc.Arbitrary<Directory> = inline.map(sound)

/** Random sound directories of a size, with everything that there is. */
export function directoriesOf(size: Size): fc.Arbitrary<Directory> {
  return documentsOf(size).map(sound)
}

/** Two directories that have some documents in common; others differ under one name, come or go. */
export const pairs: fc.Arbitrary<[Directory, Directory]> = fc
  .tuple(inline, inline, fc.infiniteStream(fc.boolean()))
  .map(([before, other, keep]) => {
    const kept = before.filter(() => keep.next().value)
    return [sound(before), sound([...kept, ...other])]
  })

/** What a gateway's configuration says that matters to packets. */
export type GatewayOptions = Pick<CompileOptions, 'hooks' | 'outsideInterfaces'>

export const PLAIN_GATEWAY: GatewayOptions = { hooks: ['forward', 'output'], outsideInterfaces: [] }

export const gateways: fc.Arbitrary<GatewayOptions> = fc.record({
  hooks: fc.oneof(
    { weight: 6, arbitrary: fc.constant(['forward', 'output'] as const) },
    { weight: 2, arbitrary: fc.constant(['forward'] as const) },
    { weight: 1, arbitrary: fc.constant(['output'] as const) },
  ),
  outsideInterfaces: fc.oneof(
    { weight: 6, arbitrary: fc.constant([]) },
    { weight: 3, arbitrary: fc.constant(['outside0']) },
    { weight: 1, arbitrary: fc.constant(['outside0', 'relay0']) },
    { weight: 1, arbitrary: fc.constant(['ppp25', 'inside0']) },
  ),
})

/** The same directory with rates that no test uses up. */
export function withLargeRates({ documents }: Directory): Directory {
  return sound(documents.map((one) => ('rate' in one ? { ...one, rate: '1000000/hour' } : one)))
}

/** The same directory with rates that are used up soon, and are not earned again within a run. */
export function withSmallRates({ documents }: Directory): Directory {
  const small = (rate: unknown) => (/^[1-5]\/(day|hour|minute)$/.test(String(rate)) ? rate : '4/day')
  return sound(documents.map((one) => ('rate' in one ? { ...one, rate: small(one['rate']) } : one)))
}

/** The same directory, where what ends within the run ends at that time (milliseconds since the epoch). */
export function withEnds({ documents }: Directory, end: number): Directory {
  const expires = new Date(end).toISOString().replace('.000Z', 'Z')
  return sound(documents.map((one) => (one['expires'] === SOON ? { ...one, expires } : one)))
}

/** Whether anything in the directory ends within the run. */
export function endsSoon({ documents }: Directory): boolean {
  return documents.some(({ expires }) => expires === SOON)
}

/**
 * Leaves out what would be an error: names that come twice, lists that are not there, prefixes that two policies or two
 * rates claim, redirection to nowhere. What is sound stays as it is.
 */
export function sound(documents: readonly Document[]): Directory {
  const claimed = new Set<string>()
  const owners = new Map<string, Document>()
  const isFree = (what: string) => !claimed.has(what) && claimed.add(what) !== undefined
  const unique = documents.filter(({ kind, name }) => isFree(`${kind} ${name}`))
  const contents = new Map(
    unique.filter(({ kind }) => kind === 'list').map((list) => [`@${list.name}`, prefixesOf(list)]),
  )
  const resolve = (entries: readonly string[]) => entries.flatMap((entry) => contents.get(entry) ?? [entry])
  const isThere = (entry: string) => !entry.startsWith('@') || contents.has(entry)
  const kept: Document[] = []
  for (const document of unique.map((one) => onlyThere(one, isThere))) {
    if (document === null) continue
    if (document.kind === 'policy') {
      const networks = strings(document['networks']).filter((entry) => {
        const all = resolve([entry])
        const free = all.every((network) => (owners.get(network) ?? document) === document)
        if (free) for (const network of all) owners.set(network, document)
        return free
      })
      if (networks.length > 0) kept.push({ ...document, networks })
    } else if ('rate' in document) {
      const { rate, ...rest } = document
      const to = 'destinations' in document ? resolve(strings(document['destinations'])) : ['anywhere']
      const claims = resolve(strings(document['sources'])).flatMap((from) =>
        to.map((one) => `${from} ${one}`),
      )
      const free = claims.every((claim) => !claimed.has(claim))
      if (free) for (const claim of claims) claimed.add(claim)
      kept.push((free ? document : rest) as Document)
    } else kept.push(document)
  }
  const isTarget = (document: Document) => canTake(document, resolve)
  if (kept.some(isRedirecting) && !kept.some(isTarget)) kept.push(TARGET)
  const targets = kept.filter(isTarget)
  for (const [index, document] of kept.entries()) {
    const target =
      targets.find(({ name }) => name === document['redirect_to']) ?? targets[index % targets.length]
    if (isRedirecting(document) && target) kept[index] = { ...document, redirect_to: target.name }
  }
  return written(kept)
}

/** Without references to lists that are not there; null when a key that must be there has nothing left. */
function onlyThere(document: Document, isThere: (entry: string) => boolean): Document | null {
  const entries = Object.entries(document).map(([key, value]) =>
    Array.isArray(value) && value.every((one) => typeof one === 'string')
      ? ([key, value.filter(isThere)] as const)
      : ([key, value] as const),
  )
  // Without its clients a relay would be for everyone, and without its destinations an exemption for everywhere.
  if (entries.some(([, value]) => Array.isArray(value) && value.length === 0)) return null
  return Object.fromEntries(entries) as Document
}

function written(documents: readonly Document[]): Directory {
  const files = new Map<string, string>()
  const yaml = documents
    .map((document) => (document.kind === 'list' ? listDocument(document, files) : document))
    .map((document) => stringify(document, { lineWidth: 0 }))
    .join('---\n')
  const shown = [yaml, ...[...files].map(([path, text]) => `# ${path}:\n${text}`)].join('\n')
  return Object.assign({ documents, yaml, files }, { [fc.toStringMethod]: () => `\n${shown}\n` })
}

/** A list in a file of its own, or as it is. */
function listDocument(document: Document, files: Map<string, string>): object {
  const { file, prefixes: inline, ...rest } = document
  if (file !== true) return { ...rest, prefixes: inline }
  const text = `# ${document.name}\n${strings(inline).join('\n')}\n`
  const path = `lists/${createHash('sha256').update(text).digest('hex').slice(0, 12)}.txt`
  files.set(path, text)
  return { ...rest, file: path }
}

function prefixesOf(list: Document): readonly string[] {
  return strings(list['prefixes'])
}

function strings(value: unknown): readonly string[] {
  return value as readonly string[]
}

const TARGET: Document = {
  kind: 'relay',
  name: 'target',
  addresses: ['192.0.2.77', '2001:db8::77'],
  clients: ['192.0.2.78'],
}

function isRedirecting({ kind, action }: Document): boolean {
  return kind === 'policy' && action === 'redirect'
}

/** Whether connections can be sent to it, and be seen to arrive. */
function canTake(
  { kind, addresses }: Document,
  resolve: (entries: readonly string[]) => readonly string[],
): boolean {
  const single =
    kind === 'relay' ? resolve(strings(addresses)).filter((address) => !address.includes('/')) : []
  const targets = single.map((address) => parseAddress(address) as Prefix)
  return targets.length > 0 && targets.every((target) => isHost(target) && !isGateway(target))
}

function withoutAbsent(document: object): Document {
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== undefined)) as Document
}

/**
 * The addresses where a mistake would show: the first and the last of every prefix, and the neighbours on both sides;
 * as far as a packet may carry them.
 */
export function edgesOf(model: Model): Prefix[] {
  const all = [
    ...model.policies.flatMap(({ networks }) => [...networks]),
    ...model.relays.flatMap(({ addresses, clients }) => [...addresses, ...(clients ?? [])]),
    ...model.exemptions.flatMap(({ sources, destinations }) => [...sources, ...(destinations ?? [])]),
  ]
  return hostsAmong([...AROUND, ...all.flatMap(edges)])
}

/** The edges of these prefixes alone. */
export function edgesAround(all: readonly Prefix[]): Prefix[] {
  return hostsAmong(all.flatMap(edges))
}

function hostsAmong(candidates: readonly Prefix[]): Prefix[] {
  const found = new Map<string, Prefix>()
  for (const edge of candidates) if (isHost(edge)) found.set(formatPrefix(edge), edge)
  return [...found.values()]
}

function edges(prefix: Prefix): Prefix[] {
  if (prefix.family === 4) {
    const first = prefix.address
    const last = (first | ~mask4(prefix.length)) >>> 0
    return [first - 1, first, last, last + 1]
      .filter((address) => address >= 0 && address <= 0xffffffff)
      .map((address) => ({ family: 4, address, length: 32 }))
  }
  const ones = (1n << 128n) - 1n
  const first = prefix.address
  const last = first | (ones ^ mask6(prefix.length))
  return [first - 1n, first, last, last + 1n]
    .filter((address) => address >= 0n && address <= ones)
    .map((address) => ({ family: 6, address, length: 128 }))
}

const NO_HOSTS = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'].map(
  (text) => parsePrefix(text) as Prefix,
)

/** Whether a packet through the gateway may carry the address. */
function isHost(address: Prefix): boolean {
  if (address.family === 6) return address.address >> 125n === 1n
  return !NO_HOSTS.some((prefix) => truncate(address, prefix.length).address === prefix.address)
}
