/** The way from bytes on tcpdump's standard output to attempts and counts. */
import { setTimeout as wait } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import type { Controller } from '../../src/control/controller.ts'
import { Drift } from '../../src/control/watching/drift.ts'
import type { ForeignChange } from '../../src/kernel/change-monitor.ts'
import { NftEventDecoder } from '../../src/kernel/nft-events.ts'
import { OwnChanges } from '../../src/kernel/own-changes.ts'
import { formatPrefix } from '../../src/policy/prefix.ts'
import { decodeAttempt } from '../../src/watch/decode-attempt.ts'
import { LossMeter } from '../../src/watch/loss.ts'
import { parseNflog } from '../../src/watch/nflog.ts'
import { PcapDecoder } from '../../src/watch/pcap.ts'
import { parseTcpPacket } from '../../src/watch/tcp-packet.ts'
import { RunningTotals } from '../../src/watch/totals.ts'
import './seed.ts'

/** A SYN from 127.0.0.1:47972 to 127.0.0.1:25 by uid 0, as tcpdump 4.99 wrote it. */
const RECORD = Buffer.from(
  '02000019080001000800030016000a00626c6f636b3a7265736964656e7469616c000000080005000000000108000b0000000000' +
    '08000e0000000000400009004500003ca8b54000400694047f0000017f000001bb2400190ac9959100000000a002ffd7fe300000' +
    '0204ffd70402080a5a34e0da000000000103030a',
  'hex',
)

function stream(records: readonly Buffer[], { big = false, nano = false } = {}): Buffer {
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4)
    if (big) bytes.writeUInt32BE(value)
    else bytes.writeUInt32LE(value)
    return bytes
  }
  const header = Buffer.concat([
    u32(nano ? 0xa1b23c4d : 0xa1b2c3d4),
    Buffer.alloc(12),
    u32(262_144),
    u32(239),
  ])
  const fraction = nano ? 250_000_000 : 250_000
  return Buffer.concat([
    header,
    ...records.flatMap((data) => [
      u32(1_700_000_000),
      u32(fraction),
      u32(data.length),
      u32(data.length),
      data,
    ]),
  ])
}

t.test('pcap', async (t) => {
  t.test('either byte order, either resolution', async (t) => {
    for (const form of [{}, { big: true }, { nano: true }, { big: true, nano: true }]) {
      const [record] = new PcapDecoder().push(stream([RECORD], form))
      t.equal(record?.time, 1_700_000_000_250)
      t.same(record?.data, RECORD)
    }
  })

  t.test('however the stream is cut, the same records come out', async () => {
    const bytes = stream([RECORD, Buffer.alloc(0), Buffer.from('x'), RECORD])
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: bytes.length }), { maxLength: 20 }), (cuts) => {
        const decoder = new PcapDecoder()
        const edges = [0, ...[...new Set(cuts)].sort((a, b) => a - b), bytes.length]
        const records = edges.slice(1).flatMap((end, i) => decoder.push(bytes.subarray(edges[i], end)))
        return records.map(({ data }) => data.length).join() === `${RECORD.length},0,1,${RECORD.length}`
      }),
      { numRuns: 500 },
    )
  })

  t.test('what is no pcap, of another link type, or out of step is refused', async (t) => {
    t.throws(() => new PcapDecoder().push(Buffer.alloc(24, 7)), { name: 'PcapError' })
    const ethernet = stream([])
    ethernet.writeUInt32LE(1, 20)
    t.throws(() => new PcapDecoder().push(ethernet), { name: 'PcapError' })
    const huge = stream([RECORD])
    huge.writeUInt32LE(0x7fffffff, 24 + 8)
    t.throws(() => new PcapDecoder().push(huge), { name: 'PcapError' })
  })
})

t.test('NFLOG', async (t) => {
  const record = parseNflog(RECORD)
  t.match(record, { prefix: 'block:residential', uid: 0, mac: null })
  t.equal(record?.payload.length, 60)
  t.test('cut or corrupted anywhere: null or a record, never an exception', async () => {
    fc.assert(
      fc.property(
        fc.nat({ max: RECORD.length }),
        fc.nat({ max: RECORD.length - 1 }),
        fc.nat({ max: 255 }),
        (end, at, byte) => {
          const damaged = Buffer.from(RECORD)
          damaged[at] = byte
          decodeAttempt({ time: 0, data: damaged.subarray(0, end) }, () => null)
        },
      ),
      { numRuns: 3_000 },
    )
  })
  t.test('a hardware address', async (t) => {
    const value = Buffer.from('0006000002fc0a0b0c0d0000', 'hex')
    const tlv = Buffer.concat([Buffer.from([4 + value.length, 0, 8, 0]), value])
    t.equal(parseNflog(Buffer.concat([RECORD, tlv]))?.mac, '02:fc:0a:0b:0c:0d')
  })
})

t.test('packets', async (t) => {
  t.test('IPv4 with options', async (t) => {
    const packet = Buffer.alloc(32)
    packet[0] = 0x47
    packet[9] = 6
    packet.writeUInt32BE(0x64400102, 12)
    packet.writeUInt32BE(0xcb007109, 16)
    packet.writeUInt16BE(40_000, 28)
    packet.writeUInt16BE(25, 30)
    const found = parseTcpPacket(packet)
    t.equal(found && formatPrefix(found.source), '100.64.1.2')
    t.match(found, { sourcePort: 40_000, destinationPort: 25 })
    packet[9] = 17
    t.equal(parseTcpPacket(packet), null)
  })
  t.test('IPv6 behind extension headers', async (t) => {
    const base = Buffer.alloc(40)
    base[0] = 0x60
    base[6] = 0
    base.write('20010db8010000000000000000000002', 8, 'hex')
    base.write('20010db8ffff00000000000000000009', 24, 'hex')
    const hopByHop = Buffer.from([60, 1, ...Array<number>(14).fill(0)])
    const destination = Buffer.from([6, 0, ...Array<number>(6).fill(0)])
    const ports = Buffer.from([0x9c, 0x40, 0, 25])
    const found = parseTcpPacket(Buffer.concat([base, hopByHop, destination, ports]))
    t.equal(found && formatPrefix(found.source), '2001:db8:100::2')
    t.match(found, { sourcePort: 40_000, destinationPort: 25 })
    t.equal(parseTcpPacket(Buffer.concat([base, hopByHop])), null)
  })
})

t.test('only what carries our label is an attempt', async (t) => {
  const attempt = decodeAttempt({ time: 5, data: RECORD }, (index) => `eth${index}`)
  t.match(attempt, { time: 5, policy: 'residential', verdict: 'block', sourcePort: 47_908, uid: 0 })
  const foreign = Buffer.from(RECORD)
  foreign.write('BLOCK', foreign.indexOf('block'))
  t.equal(
    decodeAttempt({ time: 5, data: foreign }, () => null),
    null,
  )
})

t.test('loss: nothing while the last events are under way, exact at rest', async (t) => {
  const meter = new LossMeter()
  t.equal(meter.update(1_000, 0), 0, 'what came before is not ours')
  t.equal(meter.update(1_100, 40), 0, 'under way')
  t.equal(meter.update(1_100, 90), 0, 'a full socket is being read')
  t.equal(meter.update(1_100, 90), 10, 'and nothing more comes')
  t.equal(meter.update(1_150, 90), 10)
  t.equal(meter.update(1_150, 140), 10, 'what is lost stays lost')
  t.equal(meter.update(1_150, 140), 10)
  for (let second = 1; second <= 20; second++) meter.update(1_150 + 100 * second, 140 + 60 * second)
  t.ok(meter.lost > 10 && meter.lost <= 810, `without a pause it is told later: ${meter.lost}`)
  meter.update(3_150, 1_340)
  t.equal(meter.update(3_150, 1_340), 810)
})

t.test('loss, when the counters themselves were lost', async (t) => {
  const meter = new LossMeter()
  meter.update(0, 0)
  meter.update(10, 7)
  t.equal(meter.update(10, 7), 3)
  meter.restart()
  t.equal(meter.update(0, 12), 3, 'what was told beyond the count hides nothing that comes later')
  meter.update(5, 15)
  t.equal(meter.update(5, 15), 5)
})

t.test('totals only grow, also when the kernel starts from zero', async (t) => {
  const totals = new RunningTotals()
  const known = [{ id: 1, what: { of: 'attempts', policy: 'a', verdict: 'block' } as const }]
  totals.update(known, new Map([[1, 10]]))
  t.equal(totals.attempts(), 10)
  totals.update(known, new Map([[1, 15]]))
  totals.update(known, new Map([[1, 3]]))
  totals.update(known, new Map())
  totals.update(known, new Map([[1, 2]]))
  t.equal(totals.attempts(), 20)
})

t.test('changes of nf_tables, as the kernel announces them', async (t) => {
  const attribute = (type: number, value: Buffer) => {
    const head = Buffer.alloc(4)
    head.writeUInt16LE(value.length + 4)
    head.writeUInt16LE(type, 2)
    return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)])
  }
  const name = (type: number, text: string) => attribute(type, Buffer.from(`${text}\0`))
  const message = (type: number, family: number, ...attributes: Buffer[]) => {
    const body = Buffer.concat([Buffer.from([family, 0, 0, 0]), ...attributes])
    const head = Buffer.alloc(16)
    head.writeUInt32LE(body.length + 16)
    head.writeUInt16LE((10 << 8) | type, 4)
    return Buffer.concat([head, body])
  }
  const end = (pid: number, program: string) => {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(pid)
    return message(15, 0, attribute(1, Buffer.from([0, 0, 0, 9])), attribute(2, number), name(3, program))
  }
  const rule = message(6, 1, name(1, 'egress25'), name(2, 'egress'), attribute(0x8004, Buffer.alloc(40)))
  const element = message(12, 1, name(1, 'egress25'), name(2, 'exempt4-32'))
  const others = [
    message(0, 1, name(1, 'egress252')),
    message(0, 2, name(1, 'egress25')),
    message(6, 1, name(1, 'filter'), name(2, 'egress25')),
  ]
  const stream = Buffer.concat([
    ...others,
    end(1, 'docker'),
    rule,
    end(2, 'nft'),
    ...others,
    rule,
    element,
    end(3, 'firewalld'),
    message(5, 1, name(1, 'egress25'), name(3, 'forward')),
    end(4, 'nft'),
    end(5, 'nft'),
  ])
  const expected = [
    { pid: 2, program: 'nft', what: 'add rule inet egress25 egress', rulesOnly: true },
    { pid: 3, program: 'firewalld', what: 'add rule inet egress25 egress', rulesOnly: false },
    { pid: 4, program: 'nft', what: 'delete chain inet egress25 forward', rulesOnly: true },
  ]
  t.same(new NftEventDecoder().decode(stream), expected)
  t.test('in pieces of any size', async () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 40, maxLength: 40 }), (sizes) => {
        const decoder = new NftEventDecoder()
        const found = []
        let at = 0
        for (const size of [...sizes, stream.length]) {
          found.push(...decoder.decode(stream.subarray(at, at + size)))
          at += size
        }
        return isDeepStrictEqual(found, expected)
      }),
    )
  })
  t.test('whose a transaction is', async (t) => {
    const machine = new OwnChanges('pid:[4026531836]')
    machine.begin(7)
    machine.end(7, true)
    t.same([machine.claim(8, 'nft'), machine.claim(7, 'nft'), machine.claim(7, 'nft')], [false, true, true])

    let now = 0
    const container = new OwnChanges('pid:[4026532000]', () => now)
    t.equal(container.claim(4_711, 'nft'), false, 'nothing was sent')
    container.begin(7)
    t.equal(container.claim(4_711, 'firewalld'), false)
    t.equal(container.claim(4_711, 'nft'), true, 'heard of before its end')
    container.end(7, true)
    t.equal(container.claim(4_712, 'nft'), false, 'one beyond')
    container.begin(8)
    container.end(8, false)
    t.equal(container.claim(4_713, 'nft'), false, 'it has failed')
    container.begin(9)
    container.end(9, true)
    now = 3_000
    t.equal(container.claim(4_714, 'nft'), false, 'never heard of')
    container.begin(10)
    container.end(10, true)
    container.forgetUnheard()
    container.begin(11)
    t.equal(container.claim(4_715, 'nft'), true)
    t.equal(container.claim(4_716, 'nft'), false, 'that of 10 was before anybody listened')
  })

  t.test('anything else ends it, or is passed over', async () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          return new NftEventDecoder().decode(Buffer.from(bytes)).length === 0
        } catch (error) {
          return error instanceof RangeError
        }
      }),
    )
  })
})

t.test(
  'a change that is seen before it is heard of: whoever made it is named, and it is counted once',
  async (t) => {
    let turn: Promise<unknown> = Promise.resolve()
    const told: (ForeignChange | null)[] = []
    let restored = 0
    const drift = new Drift({
      controller: {
        // As the controller has it: one after the other.
        exclusively: (work) => {
          const done = turn.then(work)
          turn = done
          return done
        },
        inForce: {} as Controller['inForce'],
        lastGuarded: Number.NEGATIVE_INFINITY,
      },
      enforcer: {
        restore: async () => {
          restored++
        },
      },
      generation: { note: async () => {} },
      onWrittenAnew: () => {},
      log: {
        drift: (_, change) => told.push(change),
        healed: () => {},
        contested: () => t.fail('nobody fights'),
        uncontested: () => {},
        missed: () => {},
        unreadable: (error) => t.fail(error.message),
      },
    })
    t.teardown(() => drift.stop())
    const change = {
      pid: 7,
      program: 'nft',
      what: 'delete table inet egress25',
      damage: 'everything',
    } as const
    const looked = drift.look('gone')
    turn = looked
    await wait(100)
    await Promise.all([drift.hear(change), looked])
    t.same(told, [change])
    while (restored === 0) await wait(5)
    t.match(drift.status, { drift: 1 })
  },
)
