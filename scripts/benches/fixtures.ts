// What is measured: policy directories as large as a big network's, the same in every run.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The lengths of the prefixes in a large list, each as often as the others. */
export const LENGTHS = [24, 25, 26, 27, 28, 29, 30, 32] as const

/** Where a list's prefixes are: 128.0.0.0/2. */
const LISTED = { network: '128.0.0.0/2', first: 2 ** 31, size: 2 ** 30 }

/** Where the hosts with an exemption of their own are: 100.64.0.0/10. */
const HOSTS = { network: '100.64.0.0/10', first: 0x64_40_00_00, size: 2 ** 22 }

/** So many distinct prefixes of the lengths in turn, as text. */
export function randomPrefixes(count: number, lengths: readonly number[] = LENGTHS): string[] {
  const random = randomNumbers(25)
  const seen = new Set<number>()
  const prefixes: string[] = []
  while (prefixes.length < count) {
    const length = lengths[prefixes.length % lengths.length] ?? 32
    const step = 2 ** (32 - length)
    const address = LISTED.first + Math.floor((random() * LISTED.size) / step) * step
    const key = address * 64 + length
    if (seen.has(key)) continue
    seen.add(key)
    prefixes.push(`${dotted(address)}/${length}`)
  }
  return prefixes
}

/** The same, but no two of them overlap: what cannot do with that takes these, too. At most 4,194,304. */
export function disjointPrefixes(count: number): string[] {
  const random = randomNumbers(25)
  const slots = new Set<number>()
  while (slots.size < count) slots.add(Math.floor(random() * (LISTED.size / 256)))
  return [...slots].map(
    (slot, index) => `${dotted(LISTED.first + slot * 256)}/${LENGTHS[index % LENGTHS.length]}`,
  )
}

/** A policy that governs everything here, and an exemption for a list of prefixes in a text file. */
export function writeList(directory: string, prefixes: readonly string[]): void {
  mkdirSync(join(directory, 'lists'), { recursive: true })
  writeFileSync(join(directory, 'lists', 'many.txt'), `${prefixes.join('\n')}\n`)
  const documents = [
    `kind: policy\nname: everybody\nnetworks: [${LISTED.network}, ${HOSTS.network}]\n`,
    'kind: list\nname: many\nfile: lists/many.txt\n',
    'kind: exemption\nname: many\nsources: ["@many"]\nreason: They run mail servers of their own.\n',
  ]
  writeFileSync(join(directory, 'policies.yaml'), documents.join('---\n'))
}

/** So many exemptions as people write them, each for one host, with so many documents in a file. */
export function writeExemptions(directory: string, count: number, perFile: number): void {
  const folder = join(directory, 'exemptions')
  mkdirSync(folder, { recursive: true })
  const documents = Array.from({ length: count }, (_, index) => exemption(index))
  for (let at = 0; at < count; at += perFile) {
    writeFileSync(join(folder, `customers-${at}.yaml`), documents.slice(at, at + perFile).join('---\n'))
  }
}

function exemption(index: number): string {
  // An odd factor spreads them, and no two meet.
  const address = dotted(HOSTS.first + ((index * 1_000_003) % HOSTS.size))
  return [
    'kind: exemption',
    `name: customer-${index}`,
    `sources: [${address}]`,
    'reason: The customer runs a mail server of its own.',
    'owner: noc@example.net',
    `ticket: NOC-${10_000 + index}`,
    '',
  ].join('\n')
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
}

/** Numbers from 0 to below 1 that are the same each time (mulberry32, by Tommy Ettinger). */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
