/** What the network knows of a host of the corpus beside its connections: its name, and what others say to its port 25. */
import type { Model } from './models.ts'
import type { Random } from './random.ts'
import type { Half, HostName, Received } from './types.ts'

export function receivedBy({ receives: [train, report] }: Model, half: Half, random: Random): Received {
  const delivers = random.next() < (half === 'train' ? train : report)
  // Who listens on port 25 is looked at by scanners some times a day; and some listen without expecting mail.
  const listens = delivers || random.next() < 0.2
  return {
    messages: delivers ? random.between(half === 'train' ? 20 : 8, 2_000) : 0,
    probes: listens ? random.between(10, 200) : 0,
  }
}

/** Some pools have names in which only people see a pool. */
const POOLS: readonly ((bytes: readonly number[]) => string)[] = [
  (bytes) => `${bytes.join('-')}.pool.example.net`,
  (bytes) => `ip-${bytes.join('-')}.example.net`,
  (bytes) => `p${hex(bytes)}.dip0.example.net`,
  (bytes) => `kd${bytes.map((byte) => String(byte).padStart(3, '0')).join('')}.example.net`,
  (bytes) => `${hex(bytes)}.dyn.example.net`,
  ([, , third, fourth]) => `node-${third}x${fourth}.example.net`,
]

const hex = (bytes: readonly number[]) => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('')

export function nameOf(
  { ownName: [train, report], family }: Model,
  half: Half,
  address: string,
  random: Random,
): HostName {
  if (random.next() < (half === 'train' ? train : report)) {
    return { ptr: 'mail.acme.example', confirmed: random.next() < 0.97 }
  }
  if (random.next() < 0.2) return { ptr: null, confirmed: false }
  const bytes =
    family === 4
      ? address.split('.').map(Number)
      : [...address].slice(-6).map((letter) => letter.charCodeAt(0))
  return { ptr: random.pick(POOLS)(bytes), confirmed: random.next() < 0.6 }
}
