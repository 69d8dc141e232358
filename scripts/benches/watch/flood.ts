// A flood of SYNs to port 25: nearly all of them from forged addresses, and among them machines that go on and on. They are
// sent as quickly as this machine can by trafgen(8), or put into the gateway's network stack as if they had arrived, which
// takes no sender (flood.py). What was sent is counted where it arrives in the gateway, what passed on the internet.
import { fileURLToPath } from 'node:url'
import { type Lab, openLab } from '../../lab/lab.ts'
import { farMac, gatewayInterface, nearMac } from '../../lab/topology.ts'

/** Forged sources are drawn from here, 16,777,216 addresses; the real ones have one each in the other. */
export const FORGED = '10.0.0.0/8'
export const REAL = '100.64.0.0/10'

export interface Arena {
  readonly lab: Lab
  /** Sends so many SYNs; answers how long it took, in seconds. */
  flood(packets: number): Promise<number>
  /** Lets so many SYNs arrive that nobody has sent; answers how long it took, in seconds. */
  inject(packets: number): Promise<number>
  /** SYNs that have come into the gateway, and SYNs that have come out on the internet, so far. */
  seen(): Promise<{ readonly sent: number; readonly passed: number }>
  close(): Promise<void>
}

/** A real machine makes one in so many attempts. */
export const SHARE = 400

/** With so many real machines among the forged ones, named by `realSource`. */
export async function openArena(real: number): Promise<Arena> {
  const lab = await openLab({ subscriberPrefixes: [FORGED, REAL] })
  const nft = async (namespace: string, ...argv: string[]) => {
    const input = argv.length === 1 ? argv[0] : undefined
    const { code, stdout, stderr } = await lab.exec(
      namespace,
      ['nft', ...(input === undefined ? argv : ['-f', '-'])],
      { ...(input === undefined ? {} : { input }) },
    )
    if (code !== 0) throw new Error(`nft: ${stderr.trim()}`)
    return stdout
  }
  const packets = async (namespace: string) => {
    const listed = await nft(namespace, 'list', 'counter', 'netdev', 'witness', 'syns')
    return Number(/packets (\d+)/.exec(listed)?.[1])
  }
  await nft(lab.gateway, witness('inside0', 'accept'))
  await nft(lab.internet, witness('up0', 'drop'))
  await nft(lab.subscribers, DEAF)
  return {
    lab,
    async flood(count) {
      const argv = ['trafgen', '--cpus', '1', '-n', String(count), '-o', 'up0', '-i', '-']
      const started = performance.now()
      const { code, stderr } = await lab.exec(lab.subscribers, argv, {
        input: packetsOf(real),
        timeoutMs: 120_000,
      })
      if (code !== 0) throw new Error(`trafgen: ${stderr.trim()}`)
      return (performance.now() - started) / 1000
    },
    async inject(count) {
      const script = fileURLToPath(new URL('flood.py', import.meta.url))
      const where = [lab.gateway, gatewayInterface.subscribers, nearMac('subscribers')]
      // Debian's own, whatever else is in the PATH.
      const argv = ['/usr/bin/python3', '-ISB', script, ...where, String(real), String(SHARE)]
      const { code, stdout, stderr } = await lab.exec(lab.gateway, argv, {
        input: `${count}\n`,
        timeoutMs: 120_000,
      })
      if (code !== 0) throw new Error(`flood.py: ${stderr.trim()}`)
      return Number(stdout)
    },
    async seen() {
      return { sent: await packets(lab.gateway), passed: await packets(lab.internet) }
    },
    close: () => lab.close(),
  }
}

export function realSource(index: number): string {
  return `100.64.1.${1 + index}`
}

/** Nobody is behind a forged address: what is refused takes no time there. */
const DEAF = `table netdev deaf {
  chain arrivals {
    type filter hook ingress device "up0" priority -500; policy drop;
  }
}
`

function witness(device: string, verdict: 'accept' | 'drop'): string {
  return `table netdev witness {
  counter syns { }
  chain arrivals {
    type filter hook ingress device "${device}" priority -500; policy accept;
    tcp dport 25 counter name "syns" ${verdict}
  }
}
`
}

/** In the words of trafgen: packets that are sent in turn, over and over. */
function packetsOf(real: number): string {
  const spacing = Math.floor(SHARE / Math.max(1, real))
  return Array.from({ length: SHARE }, (_, at) => {
    const index = at % spacing === 0 ? at / spacing : real
    return index < real ? packet(`100, 64, 1, ${1 + index}`) : packet('10, drnd(3)')
  }).join('\n')
}

function packet(source: string): string {
  const bytes = (mac: string) => mac.split(':').map((byte) => `0x${byte}`)
  const ethernet = [...bytes(nearMac('subscribers')), ...bytes(farMac('subscribers')), 'c16(0x0800)']
  const ip = `0x45, 0, c16(40), drnd(2), c16(0), 64, 6, csumip(14, 33), ${source}, 203, 0, drnd(2)`
  const tcp = 'drnd(2), c16(25), drnd(4), c32(0), 0x50, 2, c16(65535), csumtcp(14, 34), c16(0)'
  return `{ ${ethernet.join(', ')}, ${ip}, ${tcp} }`
}
