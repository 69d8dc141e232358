/**
 * Floods, sent as quickly as this machine can by trafgen(8), and counted by the kernel where they come from and where they
 * must not come to.
 */
import type { Test } from 'tap'
import type { Lab } from '../../scripts/lab/lab.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { addressBytes, ethernet } from './frames.ts'

export interface Flood {
  /** Sends a packet so many times from the subscribers' side, described as trafgen(8) wants it. */
  send(packet: string, count: number): Promise<void>
  /**
   * Sends frames in their order. The kernel finds their bytes in pages of their own, not in the packet's head, and looks at
   * them by other ways than at those that a socket sends.
   */
  sendFrames(frames: readonly Buffer[]): Promise<void>
  /** Counts by destination what arrives in the gateway from inside, and what arrives on the internet; stops it there. */
  witness(test: Test): Promise<Witness>
}

export interface Witness {
  inGateway(): Promise<Record<string, number>>
  onInternet(): Promise<Record<string, number>>
}

/** Ready to flood a lab. */
export function openFlood(lab: Lab): Flood {
  const head = bytes(ethernet('subscribers', Buffer.alloc(0)).subarray(0, 12))

  async function generate(config: string, count: number): Promise<void> {
    const argv = ['trafgen', '--cpus', '1', '-n', String(count), '-o', 'up0', '-i', '-']
    const { code, stdout, stderr } = await lab
      .exec(lab.subscribers, argv, { input: config, timeoutMs: 60_000 })
      .catch(() => ({ code: 127, stdout: '', stderr: 'no trafgen: install the package netsniff-ng' }))
    if (code !== 0) throw new Error(`trafgen: ${stderr} ${stdout}`)
  }

  async function witness(test: Test): Promise<Witness> {
    const table = (device: string, verdict: string) => `
table inet witness
delete table inet witness
table inet witness {
  set to4 { type ipv4_addr; size 65535; flags dynamic; }
  set to6 { type ipv6_addr; size 65535; flags dynamic; }
  chain arrivals {
    type filter hook prerouting priority -600; policy accept;
    iifname "${device}" update @to4 { ip daddr counter }
    iifname "${device}" update @to6 { ip6 daddr counter }
    iifname "${device}" ${verdict}
  }
}
`
    const { gateway, internet } = lab
    const places = { [gateway]: table('inside0', 'accept'), [internet]: table('up0', 'drop') }
    for (const [place, input] of Object.entries(places)) {
      const { code, stderr } = await lab.exec(place, ['nft', '-f', '-'], { input })
      if (code !== 0) throw new Error(stderr)
    }
    test.teardown(async () => {
      for (const place of Object.keys(places)) {
        await lab.exec(place, ['nft', 'delete', 'table', 'inet', 'witness'])
      }
    })
    const seen = async (place: string) => {
      const found: Record<string, number> = {}
      for (const set of ['to4', 'to6']) {
        const { stdout } = await lab.exec(place, ['nft', 'list', 'set', 'inet', 'witness', set])
        for (const [, address = '', packets] of stdout.matchAll(/(\S+) counter packets (\d+)/g)) {
          found[address] = Number(packets)
        }
      }
      return found
    }
    return { inGateway: () => seen(gateway), onInternet: () => seen(internet) }
  }

  return {
    send: (packet, count) => generate(`{ ${head}, ${packet} }`, count),
    sendFrames: (frames) => generate(frames.map((frame) => `{ ${bytes(frame)} }`).join('\n'), frames.length),
    witness,
  }
}

/** A SYN in the words of trafgen(8), from a random port. */
function syn(checksum: string): string {
  return `drnd(2), c16(25), drnd(4), c32(0), 0x50, 2, c16(65535), ${checksum}, c16(0)`
}

/** A SYN to port 25; the source is given as four bytes. */
export function syn4(source: string, to: string): string {
  const header = 'c16(0x0800), 0x45, 0, c16(40), drnd(2), c16(0), 64, 6, csumip(14, 33)'
  return `${header}, ${source}, ${destination(to)}, ${syn('csumtcp(14, 34)')}`
}

/** A SYN to port 25; the source is 2001:db8: with these four bytes, and ::1. */
export function syn6(source: string, to: string): string {
  const header = 'c16(0x86dd), 0x60, 0, 0, 0, c16(20), 6, 64'
  const from = `0x20, 0x01, 0x0d, 0xb8, ${source}, fill(0, 7), 1`
  return `${header}, ${from}, ${destination(to)}, ${syn('csumtcp6(14, 54)')}`
}

function destination(to: string): string {
  return bytes(addressBytes(parseAddress(to) as Prefix))
}

function bytes(buffer: Buffer): string {
  return [...buffer].map((byte) => `0x${byte.toString(16).padStart(2, '0')}`).join(', ')
}
