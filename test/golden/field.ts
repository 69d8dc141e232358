/** A lab with a probe at every place a packet can start from, and the real nft in its gateway. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Lab, openLab } from '../../scripts/lab/lab.ts'
import type { Attempt, Probe } from '../../scripts/lab/probe.ts'
import { defaultPrefixes, gatewayAddress, gatewayInterface, type Side } from '../../scripts/lab/topology.ts'
import { type Nft, openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import { contains, formatPrefix, type Prefix, parsePrefix } from '../../src/policy/prefix.ts'

export interface Field {
  readonly lab: Lab
  /** Runs programs in the gateway's namespace. */
  readonly inGateway: ProcessRunner
  /** The real nft, in the gateway's namespace. */
  readonly nft: Nft
  /** The probe that speaks from a source; a user (null: root) matters only on the gateway itself. */
  probe(source: Prefix, user: string | null): Promise<Probe>
  /** Elements of a set that carry a counter, and how many packets each has counted. */
  counters(set: string): Promise<Map<string, number>>
  /** What was accepted anywhere since the last call, as `source > destination port`; waits for so many, which must have connected. */
  accepted(connections: number): Promise<string[]>
  close(): Promise<void>
}

/** What lives behind `inside0` of a field's lab. */
export const SUBSCRIBERS = ['100.64.0.0/10', '10.0.0.0/8', '2001:db8:100::/40', '2001:db8:200::/48']

/** Where packets to these ports arrive. */
export const PORTS = [24, 25, 26, 465, 587, 2525] as const

const prefixesOf = (texts: readonly string[]) => texts.map((text) => parsePrefix(text) as Prefix)
const OWN = prefixesOf(Object.values(gatewayAddress))
const INSIDE = prefixesOf(SUBSCRIBERS)
const RELAYS = prefixesOf(defaultPrefixes.relays)

/** True for the addresses the gateway itself speaks from. */
export function isGateway(address: Prefix): boolean {
  return OWN.some((own) => contains(own, address))
}

/** Behind which cable of the gateway an address lives. */
export function sideOf(address: Prefix): Side {
  const within = (prefixes: readonly Prefix[]) => prefixes.some((prefix) => contains(prefix, address))
  return within(INSIDE) ? 'subscribers' : within(RELAYS) ? 'relays' : 'internet'
}

/** Whether the gateway would call a packet to there outbound: what stays on it never is. */
export function isOutbound(destination: Prefix, outsideInterfaces: readonly string[]): boolean {
  if (isGateway(destination)) return false
  return outsideInterfaces.length === 0 || outsideInterfaces.includes(gatewayInterface[sideOf(destination)])
}

/** Fails without root: what these tests promise can be shown in no other way. */
export async function openField({ echo = false } = {}): Promise<Field> {
  if (process.getuid?.() !== 0)
    throw new Error('network namespaces and nftables need root: sudo scripts/test')
  const lab = await openLab({ subscriberPrefixes: SUBSCRIBERS })
  try {
    return await field(lab, echo)
  } catch (error) {
    await lab.close()
    throw error
  }
}

async function field(lab: Lab, echo: boolean): Promise<Field> {
  const places = [lab.subscribers, lab.relays, lab.internet, lab.gateway]
  const [subscribers, relays, internet, gateway] = await Promise.all(
    places.map(async (place) => {
      const probe = await lab.probe(place)
      await probe.listen(PORTS, { echo })
      return probe
    }),
  )
  const users = new Map<string, Promise<Probe>>()
  const inGateway: ProcessRunner = (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)
  const userProbe = async (user: string) => {
    const uid = (await findUserIds([user], runProcess)).get(user)
    if (uid === undefined) throw new Error(`this machine has no user ${user}`)
    const probe = await lab.probe(lab.gateway)
    await probe.become(uid)
    return probe
  }
  return {
    lab,
    inGateway,
    nft: openNft(inGateway),
    async probe(source, user) {
      if (!isGateway(source))
        return { subscribers: subscribers!, relays: relays!, internet: internet! }[sideOf(source)]
      if (user === null || user === 'root') return gateway!
      const known = users.get(user) ?? userProbe(user)
      users.set(user, known)
      return known
    },
    async counters(set) {
      const argv = ['nft', '-j', 'list', 'set', 'inet', 'egress25', set] as const
      const { code, stdout, stderr } = await inGateway(argv, { timeout: 60_000 })
      if (code !== 0) throw new Error(stderr)
      const listing = JSON.parse(stdout) as { nftables: { set?: { elem?: CountedElement[] } }[] }
      const elements = listing.nftables.flatMap(({ set: one }) => one?.elem ?? [])
      return new Map(elements.map(({ elem }) => [elem.val, elem.counter.packets]))
    },
    async accepted(connections) {
      const found: string[] = []
      // Who connects may know a moment earlier than who accepts, and a busy machine makes long moments.
      for (const deadline = Date.now() + 60_000; ; await sleep(5)) {
        const each = await Promise.all(
          [subscribers, relays, internet, gateway].map((probe) => probe!.accepted()),
        )
        for (const { from, to, port, connections: times } of each.flat()) {
          found.push(...Array<string>(times).fill(`${from} > ${to} ${port}`))
        }
        if (found.length >= connections || Date.now() > deadline) break
      }
      return found.sort()
    },
    close: () => lab.close(),
  }
}

interface CountedElement {
  readonly elem: { readonly val: string; readonly counter: { readonly packets: number } }
}

/** What a probe is asked. */
export function attemptOf(packet: { source: Prefix; destination: Prefix; port: number }): Attempt {
  const { source, destination, port } = packet
  return { from: formatPrefix(source), to: formatPrefix(destination), port }
}
