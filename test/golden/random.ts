/** Random policy directories that are sound, small, and overlap a lot, for properties that hold for every policy. */
import fc from 'fast-check'
import { stringify } from 'yaml'
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

type Document = { kind: string; name: string } & Record<string, unknown>

/** What fast-check shows of a directory is its text. */
export interface Directory {
  readonly documents: readonly Document[]
  readonly yaml: string
}

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
  4: [0, 1, 8, 10, 15, 16, 17, 23, 24, 25, 30, 31, 32, 32],
  6: [0, 1, 3, 31, 32, 33, 40, 47, 48, 63, 64, 65, 126, 127, 128, 128],
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

const some = (arbitrary: fc.Arbitrary<string>, maxLength = 4) =>
  fc.uniqueArray(arbitrary, { minLength: 1, maxLength, size: 'max' })
const sometimes = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
const nameOf = (stem: string, count: number) => fc.nat(count - 1).map((n) => `${stem}${n}`)

const policies = fc.record({
  kind: fc.constant('policy'),
  name: nameOf('policy', 4),
  networks: some(prefixes),
  mode: fc.constantFrom('enforce', 'enforce', 'observe'),
  action: fc.constantFrom('reject', 'reject', 'drop', 'redirect'),
  detection: sometimes(fc.record({ ipv6_prefix: fc.constantFrom(32, 56, 64, 128) })),
})

const relays = fc.record({
  kind: fc.constant('relay'),
  name: nameOf('relay', 3),
  addresses: some(
    prefixes.filter((prefix) => !prefix.includes('/') || /\/(24|3\d|6\d|12\d)$/.test(prefix)),
    2,
  ),
  clients: sometimes(some(prefixes, 3)),
  users: sometimes(fc.constant(['daemon'])),
})

const exemptions = fc.record({
  kind: fc.constant('exemption'),
  name: nameOf('exemption', 5),
  sources: some(prefixes, 3),
  destinations: sometimes(some(prefixes, 2)),
  rate: sometimes(fc.constantFrom('1/day', '30/minute', '1000000/second', '60/minute', '1/hour')),
  expires: sometimes(
    fc.constantFrom(
      '1970-01-01T00:00:00Z',
      '2020-02-29T12:00:00+01:00',
      '2099-12-31T23:59:59Z',
      '2100-01-01T00:00:00Z',
      '2199-12-31T23:59:59Z',
    ),
  ),
})

const documents: fc.Arbitrary<Document[]> = fc
  .tuple(
    fc.array(policies, { maxLength: 4, size: 'max' }),
    fc.array(relays, { maxLength: 3, size: 'max' }),
    fc.array(exemptions, { maxLength: 5, size: 'max' }),
  )
  .map((kinds) => kinds.flat().map((document) => withoutAbsent(document)))

/** Random sound directories. */
export const directories: fc.Arbitrary<Directory> = documents.map(sound)

/** Two directories that have some documents in common; others differ under one name, come or go. */
export const pairs: fc.Arbitrary<[Directory, Directory]> = fc
  .tuple(documents, documents, fc.infiniteStream(fc.boolean()))
  .map(([before, other, keep]) => {
    const kept = before.filter(() => keep.next().value)
    return [sound(before), sound([...kept, ...other])]
  })

/** The same directory with rates that no test uses up. */
export function withLargeRates({ documents }: Directory): Directory {
  return sound(documents.map((one) => ('rate' in one ? { ...one, rate: '1000000/hour' } : one)))
}

/** Leaves out what would be an error: names that come twice, and prefixes that two policies or two rates claim. */
function sound(documents: readonly Document[]): Directory {
  const claimed = new Set<string>()
  const isFree = (what: string) => !claimed.has(what) && claimed.add(what) !== undefined
  const kept: Document[] = []
  for (const document of documents) {
    if (!isFree(`${document.kind} ${document.name}`)) continue
    if (document.kind === 'policy') {
      const networks = (document['networks'] as string[]).filter((network) => isFree(`governs ${network}`))
      if (networks.length > 0) kept.push({ ...document, networks })
    } else if ('rate' in document) {
      const { rate, ...rest } = document
      const sources = document['sources'] as string[]
      const destinations = (document['destinations'] as string[] | undefined) ?? ['anywhere']
      const claims = sources.flatMap((from) => destinations.map((to) => `rate ${from} ${to}`))
      const free = claims.every((claim) => !claimed.has(claim))
      if (free) for (const claim of claims) claimed.add(claim)
      kept.push(free ? { ...rest, rate } : rest)
    } else kept.push(document)
  }
  if (kept.some(isRedirecting) && !kept.some(isTarget)) kept.push(TARGET)
  const targets = kept.filter(isTarget)
  for (const [index, document] of kept.entries()) {
    const target = targets[index % targets.length]
    if (isRedirecting(document) && target) kept[index] = { ...document, redirect_to: target.name }
  }
  const yaml = kept.map((document) => stringify(document, { lineWidth: 0 })).join('---\n')
  return Object.assign({ documents: kept, yaml }, { [fc.toStringMethod]: () => `\n${yaml}\n` })
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
function isTarget({ kind, addresses }: Document): boolean {
  const single = kind === 'relay' ? (addresses as string[]).filter((address) => !address.includes('/')) : []
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
    ...model.policies.flatMap(({ networks }) => networks),
    ...model.relays.flatMap(({ addresses, clients }) => [...addresses, ...(clients ?? [])]),
    ...model.exemptions.flatMap(({ sources, destinations }) => [...sources, ...(destinations ?? [])]),
  ]
  const found = new Map<string, Prefix>()
  for (const edge of [...AROUND, ...all.flatMap(edges)]) if (isHost(edge)) found.set(formatPrefix(edge), edge)
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
