/** What the corpus is made of: hosts with a label, and every connection that each tries to open to port 25. */

/** What a host really is; docs/detection.md describes the models behind each. */
export const CLASSES = [
  'bursty-bot',
  'slow-bot',
  'few-target-bot',
  'rotating-bot',
  'scanner',
  'mail-client',
  'printer',
  'monitoring-probe',
  'mail-server',
  'newsletter-host',
  'broken-in-host',
  'small-mail-server',
  'office-with-bot',
  'web-server-bot',
  'refused-bot',
  'program',
  'tried-once',
] as const

export type HostClass = (typeof CLASSES)[number]

/** One connection that a host tried to open. */
export interface Connection {
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  /** Further SYNs of the same connection, milliseconds after the first: nothing answered it. */
  readonly retransmissions: readonly number[]
  /** Had it been let through (mode observe): whether somebody answered, for how long, and how many bytes were sent. */
  readonly answered: boolean
  readonly milliseconds: number
  readonly bytesOut: number
}

export interface Received {
  /** Delivered to it. */
  readonly messages: number
  /** Connections of those who look at every open port of the internet, and of relay tests: they say hello and leave. */
  readonly probes: number
}

/** What the address is called in the DNS, and whether that leads back to it; null: nothing. */
export interface HostName {
  readonly ptr: string | null
  readonly confirmed: boolean
}

export interface LabelledHost {
  readonly label: HostClass
  /** The machine: an address, or the IPv6 prefix that it uses. */
  readonly machine: string
  /** May send: exempt, or a relay. */
  readonly exempt: boolean
  /** What others say to its port 25, in two weeks. */
  readonly received: Received
  readonly name: HostName
  /** When it begins to misbehave, in milliseconds since the epoch; null: never. */
  readonly since: number | null
  /** In the order of time. */
  readonly connections: Iterable<Connection>
}

export type Half = 'train' | 'report'

export interface CorpusOptions {
  readonly seed: number
  readonly half: Half
  /** Hosts of each class. */
  readonly hosts: number
  /** Milliseconds since the epoch. */
  readonly start: number
  /** Whether hosts that may not send are blocked; false: they are only observed, and what they send arrives. */
  readonly blocked: boolean
}
