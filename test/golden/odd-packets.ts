/**
 * Every shape in which TCP port 25 could be asked for, and the same shapes for everything else. Each packet has a
 * destination of its own, by which it is known wherever it comes to.
 */
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import {
  ah,
  type Ends,
  extension,
  FLAG,
  fragment6,
  ip,
  ip4,
  ip6,
  PROTOCOL,
  padding,
  type Segment,
  tcp,
  udp,
} from './frames.ts'

export interface OddPacket {
  readonly what: string
  readonly ends: Ends
  /** One packet, or the fragments of one, in their order. */
  readonly packets: readonly Buffer[]
  /**
   * Whether it is an attempt, which is a SYN without ACK, RST or FIN (`FIRST` in compile/nft/rule.ts). Where fragments
   * are not put together, the first of them must hold the flags.
   */
  readonly attempt: boolean
  /** The same where conntrack puts fragments together. */
  readonly attemptWhole: boolean
  /** A fragment alone: where fragments are put together it goes no further. */
  readonly orphan: boolean
}

const { fin, syn, rst, psh, ack, urg, ece, cwr } = FLAG
const address = (text: string) => parseAddress(text) as Prefix
const INTERNET_6 = 0x20010db8ffff0000n << 64n
const FROM = { 4: address('100.64.1.2'), 6: address('2001:db8:100::2') }

const FLAGS: readonly (readonly [string, number])[] = [
  ['SYN', syn],
  ['SYN FIN', syn | fin],
  ['SYN RST', syn | rst],
  ['SYN ECE CWR', syn | ece | cwr],
  ['SYN PSH URG', syn | psh | urg],
  ['SYN ACK', syn | ack],
  ['NULL', 0],
  ['FIN', fin],
  ['FIN ACK', fin | ack],
  ['XMAS', fin | psh | urg],
  ['lone ACK', ack],
  ['PSH ACK', psh | ack],
  ['RST', rst],
  ['RST ACK', rst | ack],
  ['all flags', 255],
]

/** Fast Open: a cookie, and mail in the first packet. */
const FAST_OPEN = Buffer.from([34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1])
const MANY_OPTIONS = Buffer.from([
  2,
  4,
  5,
  180,
  4,
  2,
  8,
  10,
  0,
  0,
  0,
  1,
  0,
  0,
  0,
  0,
  1,
  3,
  3,
  7,
  ...Array<number>(20).fill(1),
])

/** Options of IPv4 by their numbers in IANA's registry. */
const IP_OPTIONS: readonly (readonly [string, readonly number[]])[] = [
  ['no operation', [1, 1, 1, 0]],
  ['record route', [7, 11, 4, ...Array<number>(9).fill(0)]],
  ['timestamp', [68, 12, 5, 0, ...Array<number>(8).fill(0)]],
  ['router alert', [148, 4, 0, 0]],
  ['one that nobody knows', [153, 4, 0, 0]],
  ['forty bytes of no operation', Array<number>(40).fill(1)],
]

type Make = (ends: Ends) => Buffer | readonly Buffer[]
type Row = readonly [what: string, make: Make, attempt?: boolean | 'whole' | 'orphan']

/** What might open a connection somewhere: a SYN without ACK, whatever else it has. */
export function openings(dport: number): OddPacket[] {
  const make =
    (flags: number): Make =>
    (ends) =>
      ip(ends, PROTOCOL.tcp, tcp(ends, { sport: 40_000, dport, flags }))
  const some = FLAGS.filter(([, flags]) => (flags & (syn | ack)) === syn)
  const all = some.map(([what, flags]): Row => [what, make(flags), flags === syn])
  return [...rows(4, dport, all), ...rows(6, dport, all)]
}

/** TCP to a port, in every shape that reaches it. */
export function tcpShapes(dport: number): OddPacket[] {
  const segment = (ends: Ends, more: Partial<Segment> = {}) =>
    tcp(ends, { sport: 40_000, dport, flags: syn, ...more })
  const plain =
    (more: Partial<Segment>): Make =>
    (ends) =>
      ip(ends, PROTOCOL.tcp, segment(ends, more))
  const both: Row[] = [
    ...FLAGS.map(([what, flags]): Row => [what, plain({ flags }), (flags & (fin | syn | rst | ack)) === syn]),
    [
      'SYN with a Fast Open cookie and data',
      plain({ options: FAST_OPEN, payload: Buffer.from('EHLO a\r\n') }),
      true,
    ],
    ['SYN with forty bytes of options', plain({ options: MANY_OPTIONS }), true],
    ['SYN from port 25', plain({ sport: 25 }), true],
    ['SYN from port 0', plain({ sport: 0 }), true],
    ['SYN with a wrong checksum', plain({ damaged: true }), true],
    ['SYN with a kilobyte of data', plain({ payload: Buffer.alloc(1_000, 65) }), true],
  ]
  const whole = { flags: syn, options: Buffer.from([2, 4, 5, 180]), payload: Buffer.alloc(16, 65) }
  const split4 =
    (bytes: number, options = Buffer.alloc(0)): Make =>
    (ends) => {
      const all = segment(ends, whole)
      const head = { protocol: PROTOCOL.tcp, id: ++fragmented, options }
      return [
        ip4(ends, { ...head, more: true }, all.subarray(0, bytes)),
        ip4(ends, { ...head, fragment: bytes / 8 }, all.subarray(bytes)),
      ]
    }
  const only4: Row[] = [
    ...IP_OPTIONS.map(
      ([what, bytes]): Row => [
        `SYN behind the IP option ${what}`,
        (ends) => ip4(ends, { protocol: PROTOCOL.tcp, options: Buffer.from(bytes) }, segment(ends)),
        true,
      ],
    ),
    ['two fragments', split4(24), true],
    ['two fragments, the first of sixteen bytes', split4(16), true],
    ['two fragments, the first of eight bytes', split4(8), 'whole'],
    ['two fragments with an IP option', split4(24, Buffer.from([1, 1, 1, 0])), true],
  ]
  const behind =
    (...headers: readonly (readonly [number, (next: number) => Buffer])[]): Make =>
    (ends) => {
      let next: number = PROTOCOL.tcp
      let payload = segment(ends)
      for (const [number, make] of headers.toReversed()) {
        payload = Buffer.concat([make(next), payload])
        next = number
      }
      return ip6(ends, next, payload)
    }
  const hopByHop = [PROTOCOL.hopByHop, (next: number) => extension(next, padding(6))] as const
  const alert = [
    PROTOCOL.hopByHop,
    (next: number) => extension(next, Buffer.from([5, 2, 0, 0, 1, 0])),
  ] as const
  const options = [PROTOCOL.destination, (next: number) => extension(next, padding(6))] as const
  const long = [
    PROTOCOL.destination,
    (next: number) => extension(next, Buffer.concat([padding(255), padding(199)])),
  ] as const
  const atomic = [PROTOCOL.fragment, (next: number) => fragment6(next, 0, false)] as const
  const routing = (type: number, left: number) =>
    [
      PROTOCOL.routing,
      (next: number) =>
        extension(next, Buffer.from([type, left, 0, 0, 0, 0, ...Array<number>(16).fill(0x20)])),
    ] as const
  const split6 =
    (bytes: number, before?: (next: number) => Buffer): Make =>
    (ends) => {
      const all = segment(ends, whole)
      const id = ++fragmented
      const part = (offset: number, more: boolean, payload: Buffer) => {
        const fragment = Buffer.concat([fragment6(PROTOCOL.tcp, offset, more, id), payload])
        return before === undefined
          ? ip6(ends, PROTOCOL.fragment, fragment)
          : ip6(ends, PROTOCOL.destination, Buffer.concat([before(PROTOCOL.fragment), fragment]))
      }
      return [part(0, true, all.subarray(0, bytes)), part(bytes / 8, false, all.subarray(bytes))]
    }
  const only6: Row[] = [
    ['SYN behind hop-by-hop options', behind(hopByHop), true],
    ['SYN behind a router alert', behind(alert), true],
    ['SYN behind destination options', behind(options), true],
    ['SYN behind 456 bytes of destination options', behind(long), true],
    ['SYN behind both', behind(hopByHop, options), true],
    [
      'SYN behind eight headers of destination options',
      behind(...Array<typeof options>(8).fill(options)),
      true,
    ],
    ...[0, 2, 4, 253].flatMap((type): Row[] => [
      [`SYN behind a routing header of type ${type}`, behind(routing(type, 0)), true],
      [`SYN behind a routing header of type ${type} with a segment left`, behind(routing(type, 1)), true],
    ]),
    ['SYN in an atomic fragment', behind(atomic), true],
    ['SYN behind everything', behind(hopByHop, options, routing(4, 0), atomic, options), true],
    ['two fragments', split6(24), true],
    ['two fragments, the first of sixteen bytes', split6(16), true],
    // Without all of TCP's header in the first, they are not put together (RFC 8200, section 4.5).
    ['two fragments, the first of eight bytes', split6(8)],
    ['two fragments behind destination options', split6(24, options[1]), true],
  ]
  return [...rows(4, dport, [...both, ...only4]), ...rows(6, dport, [...both, ...only6])]
}

/**
 * What is no TCP port 25 to who looks at one packet, though there is one in it: it passes, which is written down here.
 * The authentication header is a protocol of its own to the kernel, in both families. A first fragment of IPv6 that ends
 * before TCP begins is forbidden (RFC 7112), and who puts packets together must throw it away (RFC 8200, section 4.5).
 */
export function opaqueShapes(): OddPacket[] {
  const segment = (ends: Ends) => tcp(ends, { sport: 40_000, dport: 25, flags: syn })
  const first6 =
    (inside: Buffer): Make =>
    (ends) =>
      ip6(
        ends,
        PROTOCOL.fragment,
        Buffer.concat([fragment6(PROTOCOL.destination, 0, true, ++fragmented), inside]),
      )
  const options = extension(PROTOCOL.tcp, padding(22))
  return [
    ...rows(4, 0, [
      [
        'TCP behind an authentication header',
        (ends) => ip4(ends, { protocol: PROTOCOL.ah }, Buffer.concat([ah(PROTOCOL.tcp), segment(ends)])),
      ],
    ]),
    ...rows(6, 0, [
      [
        'TCP behind an authentication header',
        (ends) => ip6(ends, PROTOCOL.ah, Buffer.concat([ah(PROTOCOL.tcp), segment(ends)])),
      ],
      ['first fragment that ends before TCP begins', first6(options)],
      ['first fragment that ends within its options', first6(options.subarray(0, 8))],
    ]),
  ]
}

const PORTS = Buffer.from([0x0f, 0xb9, 0, 25])

/** Other protocols, whose bytes look as much like port 25 as they can. */
export function otherProtocols(): OddPacket[] {
  const like =
    (protocol: number, length: number): Make =>
    (ends) =>
      ip(ends, protocol, Buffer.concat([PORTS, Buffer.alloc(length - 4)]))
  const both: Row[] = [
    ['UDP to port 25', (ends) => ip(ends, PROTOCOL.udp, udp(ends, 4_025, 25))],
    ['UDP-Lite to port 25', like(PROTOCOL.udpLite, 8)],
    ['SCTP to port 25', like(PROTOCOL.sctp, 12)],
    ['DCCP to port 25', like(PROTOCOL.dccp, 16)],
    ['ESP', like(PROTOCOL.esp, 16)],
    ['GRE', like(PROTOCOL.gre, 8)],
    ['a protocol that nobody knows', like(253, 8)],
    [
      'answer from port 25',
      (ends) => ip(ends, PROTOCOL.tcp, tcp(ends, { sport: 25, dport: 40_025, flags: syn | ack })),
    ],
  ]
  const later4 =
    (offset: number, protocol: number): Make =>
    (ends) =>
      ip4(ends, { protocol, fragment: offset, id: ++fragmented }, Buffer.concat([PORTS, Buffer.alloc(20)]))
  /** The kernel has been seen to look for ports in its flow label. */
  const later6 =
    (flow: number): Make =>
    (ends) => {
      const header = fragment6(PROTOCOL.tcp, 3, false, ++fragmented)
      const packet = ip6(ends, PROTOCOL.fragment, Buffer.concat([header, PORTS, Buffer.alloc(20)]))
      packet.writeUInt32BE(0x6000_0000 + flow, 0)
      return packet
    }
  return [
    ...rows(4, 0, [
      ...both,
      [
        'echo request',
        (ends) => ip4(ends, { protocol: PROTOCOL.icmp }, Buffer.from([8, 0, 0xf7, 0xcd, 0, 25, 0, 25])),
      ],
      [
        'ICMP echo request with the checksum 25 where TCP has its port',
        (ends) => ip4(ends, { protocol: PROTOCOL.icmp }, Buffer.from([8, 0, 0, 25, 0xf7, 0xe6, 0, 0])),
      ],
      ['later fragment with the bytes of port 25', later4(3, PROTOCOL.tcp), 'orphan'],
      ['later fragment of UDP with the bytes of port 25', later4(1, PROTOCOL.udp), 'orphan'],
    ]),
    ...rows(6, 0, [
      ...both,
      ['later fragment with the bytes of port 25', later6(0), 'orphan'],
      ['later fragment with port 25 for its flow label', later6(25), 'orphan'],
      [
        'UDP to port 25 behind hop-by-hop options',
        (ends) =>
          ip6(
            ends,
            PROTOCOL.hopByHop,
            Buffer.concat([extension(PROTOCOL.udp, padding(6)), udp(ends, 4_025, 25)]),
          ),
      ],
    ]),
  ]
}

let made = 0
/** Fragments of one packet have one number; those of others, another. */
let fragmented = 0

/** Makes each packet for a destination that no other has, nor ever had. */
function rows(family: 4 | 6, dport: number, all: readonly Row[]): OddPacket[] {
  return all.map(([what, make, attempt = false]) => {
    const number = ++made
    const destination: Prefix =
      family === 4
        ? { family, address: 0xcb000000 + number, length: 32 }
        : { family, address: INTERNET_6 + BigInt(number), length: 128 }
    const ends = { source: FROM[family], destination }
    const packets = make(ends)
    return {
      what: `${what}${dport === 0 ? '' : ` to port ${dport}`}, IPv${family}`,
      ends,
      packets: Buffer.isBuffer(packets) ? [packets] : packets,
      attempt: attempt === true,
      attemptWhole: attempt === true || attempt === 'whole',
      orphan: attempt === 'orphan',
    }
  })
}
