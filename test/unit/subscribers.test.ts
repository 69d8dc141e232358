/** Who had an address when: the formats of others, files that grow, are rewritten or damaged, and a compact memory. */
import { appendFile, mkdtemp, rename, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { parseConfig } from '../../src/config/config.ts'
import type { ConfigError } from '../../src/config-error.ts'
import { identify } from '../../src/control/watching/identify-sender.ts'
import { openLocalUsers } from '../../src/kernel/local-users.ts'
import type { ProcessRunner } from '../../src/kernel/process.ts'
import { formatPrefix, type Prefix, parseAddress, parsePrefix } from '../../src/policy/prefix.ts'
import { csvParser } from '../../src/subscribers/csv.ts'
import { dnsmasqParser } from '../../src/subscribers/dnsmasq.ts'
import { Holdings } from '../../src/subscribers/holdings.ts'
import { iscDhcpParser } from '../../src/subscribers/isc-dhcp.ts'
import { keaParser } from '../../src/subscribers/kea.ts'
import { parseNeighbours } from '../../src/subscribers/neighbours.ts'
import { openSubscribers } from '../../src/subscribers/open-subscribers.ts'
import { radiusParser } from '../../src/subscribers/radius.ts'
import { LONGEST_LINE } from '../../src/subscribers/read-lines.ts'
import { SlotTable } from '../../src/subscribers/slot-table.ts'
import { ALL_PORTS, cleanText, type LineParser, NOBODY, parseMac } from '../../src/subscribers/subscriber.ts'
import type { SubscriberSource } from '../../src/subscribers/subscriber-source.ts'
import type { Subscribers } from '../../src/subscribers/subscribers.ts'
import { stir, TextPool } from '../../src/subscribers/text-pool.ts'
import './seed.ts'

const address = (text: string) => parseAddress(text) as Prefix
const NOON = Date.parse('2026-11-26T12:00:00Z') / 1000

/** What a parser finds in a text, in short. */
function read(parser: LineParser, text: string) {
  return text.split('\n').flatMap((line) =>
    parser.line(line).map((found) => {
      if (found.what === 'fault') return `fault: ${found.message}`
      if (found.what === 'server-restarted') return `restarted ${found.server} ${found.at}`
      const prefix = formatPrefix(found.prefix)
      if (found.what === 'released') return `released ${prefix} ${found.at}`
      const { name, account, contact, mac, port, server } = found.identity
      const ports = found.ports.to === 65_535 ? '' : ` ${found.ports.from}-${found.ports.to}`
      return `${prefix}${ports} [${[name, account, contact, mac, port, server].join('|')}] ${found.since}..${found.until}`
    }),
  )
}

t.test('Kea, DHCPv4', async (t) => {
  const head =
    'address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context'
  const context = '{ "ISC": { "relay-agent-info": "0x010a4554482d302f312f3237" } }'
  t.same(
    read(
      keaParser(),
      [
        head,
        '192.0.2.7,02:00:5e:10:00:01,01:02:00:5e:10:00:01,3600,1795698000,1,0,0,printer.example.net.,0,',
        '192.0.2.7,02:00:5e:10:00:01,,0,1795694400,1,0,0,printer,0,',
        '192.0.2.8,,,4294967295,4294967295,1,0,0,a&#x2cb,0,',
        '192.0.2.9,02:00:5e:10:00:09,,3600,1795698000,1,0,0,,1,',
        '192.0.2.9,02:00:5e:10:00:09,,3600,1795698000,1,0,0,,2,',
        `192.0.2.10,02:00:5e:10:00:0a,,3600,1795698000,1,0,0,,0,${context.replaceAll(',', '&#x2c')}`,
        'nonsense',
        '192.0.2.11,,,soon,1795698000,1,0,0,,0,',
      ].join('\n'),
    ),
    [
      '192.0.2.7 [printer.example.net|||02:00:5e:10:00:01||] 1795694400..1795698000',
      'released 192.0.2.7 null',
      '192.0.2.8 [a,b|||||] 0..null',
      '192.0.2.10 [|||02:00:5e:10:00:0a|ETH-0/1/27|] 1795694400..1795698000',
      'fault: the address is none',
      'fault: valid_lifetime and expire must be numbers',
    ],
  )
  t.match(read(keaParser(), 'Subject: hello'), [/no lease file of Kea/])
})

t.test('Kea, DHCPv6: addresses and delegated prefixes', async (t) => {
  t.same(
    read(
      keaParser(),
      [
        'address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source',
        '2001:db8:1::5,00:01:00:01:2a:2a:2a:2a:02:00:5e:10:00:05,3600,1795698000,1,1800,0,1,128,0,0,,,0,,,',
        '2001:db8:100::,00:03:00:01:02:00:5e:10:00:06,3600,1795698000,1,1800,2,1,56,0,0,cpe,,0,,,',
      ].join('\n'),
    ),
    [
      '2001:db8:1::5 [|||02:00:5e:10:00:05||] 1795694400..1795698000',
      '2001:db8:100::/56 [cpe|||02:00:5e:10:00:06||] 1795694400..1795698000',
    ],
  )
})

t.test('ISC DHCP', async (t) => {
  t.same(
    read(
      iscDhcpParser(),
      String.raw`# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;

server-duid "\000\001\000\001/\276";

lease 192.0.2.7 {
  starts 4 2026/11/26 12:00:00;
  ends 4 2026/11/26 13:00:00;
  tstp 4 2026/11/26 13:00:00;
  cltt 4 2026/11/26 12:00:00;
  binding state active;
  next binding state free;
  hardware ethernet 02:00:5e:10:00:01;
  uid "\001\002\000^\020\000\001";
  set vendor-class-identifier = "a } in a text; and more";
  option agent.circuit-id "eth0/7";
  client-hostname "print\"er";
}
lease 192.0.2.7 {
  starts 4 2026/11/26 12:00:00;
  ends 4 2026/11/26 12:30:00;
  binding state free;
  hardware ethernet 02:00:5e:10:00:01;
}
lease 192.0.2.8 {
  starts epoch 1795694400; # Thu Nov 26 12:00:00 2026
  ends never;
  binding state active;
  hardware ethernet 02:00:5e:10:00:08;
}
lease 192.0.2.9 {
  starts 4 2026/11/26 12:00:00;
  ends 4 2026/11/26 13:00:00;
  binding state abandoned;
lease 192.0.2.10 {
  starts 4 2026/11/26 12:00:00;
  binding state active;
}
ia-na "\001\000\000\000\000\001\000\001***\052\002\000^\020\000\005" {
  cltt 4 2026/11/26 12:00:00;
  iaaddr 2001:db8:1::5 {
    binding state active;
    preferred-life 1800;
    max-life 3600;
    ends 4 2026/11/26 13:00:00;
  }
}`,
    ),
    [
      '192.0.2.7 [print"er|||02:00:5e:10:00:01|eth0/7|] 1795694400..1795698000',
      '192.0.2.7 [|||02:00:5e:10:00:01||] 1795694400..1795696200',
      '192.0.2.8 [|||02:00:5e:10:00:08||] 1795694400..null',
      'fault: a block before this line has no end',
      'fault: a lease has no end',
      '2001:db8:1::5 [|||02:00:5e:10:00:05||] 1795694400..1795698000',
    ],
  )
})

t.test('dnsmasq', async (t) => {
  t.same(
    read(
      dnsmasqParser(),
      [
        '1795698000 02:00:5e:10:00:01 192.0.2.7 printer 01:02:00:5e:10:00:01',
        '0 02:00:5e:10:00:02 192.0.2.8 * *',
        'duid 00:01:00:01:2f:be:2c:3b:02:42:ac:11:00:02',
        '1795698000 1 2001:db8:1::5 nas 00:01:00:01:2a:2a:2a:2a:02:00:5e:10:00:05',
        'what is this',
      ].join('\n'),
    ),
    [
      '192.0.2.7 [printer|||02:00:5e:10:00:01||] null..1795698000',
      '192.0.2.8 [|||02:00:5e:10:00:02||] null..null',
      '2001:db8:1::5 [nas|||02:00:5e:10:00:05||] null..1795698000',
      'fault: a lease is a line such as "1795658400 02:00:5e:10:00:01 192.0.2.7 name *"',
    ],
  )
})

t.test('CSV', async (t) => {
  t.same(
    read(
      csvParser(),
      [
        '\ufeffAccount;Prefix;Name;E-Mail;Contact;Port-From;port_to;since',
        '4711;198.51.100.0/24;"Acme; ""the"" company";x;noc@acme.example;;;',
        '4712;203.0.113.7;Bob;;;1024;2047;2026-11-26T12:00:00Z',
        '# a remark',
        '4713;203.0.113.7/24;;;;;;',
        '4714;203.0.113.8;;;;9;8;',
        '4715;203.0.113.8;;;;;;yesterday',
        '4716;"203.0.113.8;;',
      ].join('\n'),
    ),
    [
      '198.51.100.0/24 [Acme; "the" company|4711|noc@acme.example|||] null..null',
      '203.0.113.7 1024-2047 [Bob|4712||||] 1795694400..null',
      'fault: the prefix has host bits set',
      'fault: port_from and port_to must be numbers up to 65535, the smaller first',
      'fault: since and until must be times such as 2026-12-31T00:00:00Z',
      'fault: a field in quotes has no end, or goes on after it',
    ],
  )
  t.match(read(csvParser(), 'name,account\nx,y\nz,u'), [/must name the columns/])
  t.match(read(csvParser(), 'ip,address\n1.2.3.4,1.2.3.5'), [/two columns are the address/, /1.2.3.4/])
})

t.test('RADIUS accounting', async (t) => {
  const record = (...lines: string[]) =>
    `Thu Nov 26 12:00:00 2026\n${lines.map((line) => `\t${line}\n`).join('')}\n`
  t.same(
    read(
      radiusParser(),
      record(
        'Packet-Type = Accounting-Request',
        'Acct-Status-Type = Start',
        'User-Name = "alice@example.net"',
        'Calling-Station-Id = "02-00-5E-10-00-01"',
        'NAS-IP-Address = 192.0.2.1',
        'NAS-Port-Id = "ge-0/0/1.100"',
        'Framed-IP-Address = 100.64.1.2',
        'Framed-IPv6-Prefix = 2001:db8:100:1::/64',
        'Delegated-IPv6-Prefix = 2001:db8:200::/56',
        'Tunnel-Type:0 = VLAN',
        'Acct-Unique-Session-Id = "d0d0"',
        'Timestamp = 1795694400',
      ) +
        record(
          'Acct-Status-Type = Stop',
          'User-Name = "alice@example.net"',
          'Framed-IP-Address = 100.64.1.2',
          'Acct-Session-Time = 600',
          'Event-Timestamp = "Nov 26 2026 12:10:00 UTC"',
          'Acct-Delay-Time = 5',
          'Timestamp = 1795695005',
        ) +
        record('Acct-Status-Type = Accounting-On', 'NAS-IP-Address = 192.0.2.1', 'Timestamp = 1795695100') +
        record('Acct-Status-Type = Start', 'Framed-IP-Address = 100.64.1.2') +
        record('Acct-Status-Type = Start', 'Framed-IP-Address = nowhere', 'Timestamp = 1795695100') +
        record('User-Name = "authentication"', 'Timestamp = 1795695100'),
    ),
    [
      ...['100.64.1.2', '2001:db8:100:1::/64', '2001:db8:200::/56'].map(
        (prefix) =>
          `${prefix} [|alice@example.net||02:00:5e:10:00:01|ge-0/0/1.100|192.0.2.1] 1795694400..null`,
      ),
      '100.64.1.2 [|alice@example.net||||] 1795694400..1795695000',
      'restarted 192.0.2.1 1795695100',
      'fault: an accounting record has neither Timestamp nor Event-Timestamp',
      'fault: an accounting record has an address that is none',
    ],
  )
})

t.test('the neighbour table', async (t) => {
  const found = parseNeighbours(
    '[{"dst":"192.0.2.7","dev":"eth1","lladdr":"02:00:5e:10:00:01","state":["STALE"]},{"dst":"192.0.2.8","dev":"eth1","state":["FAILED"]},{"dst":"fe80::1%eth1","lladdr":"02:00:5e:10:00:02"}]',
  )
  t.match(found, [{ prefix: address('192.0.2.7'), identity: { mac: '02:00:5e:10:00:01', port: 'eth1' } }])
  t.same(parseNeighbours(''), [])
  t.throws(() => parseNeighbours('{}'), /no list/)
})

t.test('hostile text: no parser throws, and what it names is fit to be shown', async (t) => {
  const words = fc.constantFrom(
    ...[
      'lease ',
      '192.0.2.7',
      ' {',
      '}',
      ';',
      '"',
      '\\',
      'starts 4 2026/11/26 12:00:00;',
      'ends never;',
      ',',
      '\t',
    ],
    ...[
      'binding state active;',
      'hardware ethernet 02:00:5e:10:00:01;',
      'ia-na "',
      'iaaddr 2001:db8::1 {',
      ' = ',
    ],
    ...[
      'address,name',
      'address,valid_lifetime,expire',
      '4294967295',
      'Acct-Status-Type = Start',
      '\u202e',
      '\u0007',
    ],
    ...[
      'Framed-IP-Address = 192.0.2.7',
      'Timestamp = 1795694400',
      '-1',
      '1e9',
      '0x7f',
      '&#x2c',
      '{}',
      'duid ',
    ],
  )
  const line = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.array(fc.oneof(words, fc.string({ maxLength: 5 })), { maxLength: 12 }).map((parts) => parts.join('')),
  )
  const text = fc.array(line, { maxLength: 30 }).map((lines) => lines.join('\n'))
  const clean = (value: string) => value === cleanText(value) && value.length <= 200
  fc.assert(
    fc.property(text, (text) => {
      const holdings = new Holdings(100)
      for (const make of [keaParser, iscDhcpParser, dnsmasqParser, csvParser, radiusParser]) {
        const parser = make()
        for (const one of text.split('\n')) {
          for (const found of parser.line(one)) {
            if (found.what === 'fault') continue
            holdings.take(found, NOON)
            if (found.what === 'held' && !Object.values(found.identity).every(clean)) return false
          }
        }
      }
      return [...holdings.all()].every(({ since, until }) => since <= until)
    }),
    { numRuns: 500 },
  )
  t.equal(cleanText('a\u202eb\tc\u0000'), 'a?b?c?')
  t.same(['0200.5e10.0001', '02-00-5E-10-00-01', 'nonsense', '02:00'].map(parseMac), [
    '02:00:5e:10:00:01',
    '02:00:5e:10:00:01',
    '',
    '',
  ])
  t.pass('whatever they are given')
})

t.test('texts are kept once, whatever they are', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 40 }), { maxLength: 3_000 }), (texts) => {
      const pool = new TextPool()
      const numbers = texts.map((text) => pool.add(text))
      return (
        texts.every((text, index) => pool.get(numbers[index] ?? -1) === text.toWellFormed()) &&
        pool.size === new Set(texts.map((text) => text.toWellFormed())).size
      )
    }),
    { numRuns: 30 },
  )
  t.pass()
})

t.test('numbers are found by a hash, and few move at a time when the table grows', async (t) => {
  const names = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 1_000 })
  fc.assert(
    fc.property(names, fc.constantFrom(0xffffffff, 0xff000003, 0), (steps, mask) => {
      // With a poor hash many meet in one slot, and in one part.
      const hash = (name: number) => (Math.imul(name, 0x9e3779b1) & mask) >>> 0
      const nameOf = new Map<number, number>()
      const table = new SlotTable((number) => hash(nameOf.get(number) ?? -1))
      const latest = new Map<number, number>()
      for (const [index, name] of steps.entries()) {
        nameOf.set(index, name)
        const slot = table.slot(hash(name), (number) => nameOf.get(number) === name)
        if (table.at(slot) !== (latest.get(name) ?? -1)) return false
        table.put(slot, index)
        latest.set(name, index)
      }
      return (
        table.size === latest.size &&
        [...latest].every(
          ([name, index]) => table.at(table.slot(hash(name), (number) => number === index)) === index,
        )
      )
    }),
    { numRuns: 100 },
  )
  const COUNT = 100_000
  let moved = 0
  const table = new SlotTable((number) => {
    moved++
    return stir(number)
  })
  let most = 0
  for (let number = 0; number < COUNT; number++) {
    const before = moved
    table.put(
      table.slot(stir(number), () => false),
      number,
    )
    most = Math.max(most, moved - before)
  }
  t.equal(table.size, COUNT)
  t.ok(moved > COUNT / 2, 'it has grown')
  t.ok(most < COUNT / 100, `at most ${most} of ${COUNT} at once`)
})

const held = (
  prefix: string,
  name: string,
  since: number | null,
  until: number | null,
  told: number | null = since,
) => ({
  what: 'held' as const,
  prefix: parsePrefix(prefix) as Prefix,
  ports: ALL_PORTS,
  identity: { ...NOBODY, name },
  since,
  until,
  told,
})

t.test('holdings are what a plain list would say', async (t) => {
  const prefixes = ['192.0.2.1', '192.0.2.2', '192.0.2.0/30', '192.0.2.0/24', '2001:db8::1', '2001:db8::/64']
  const step = fc.record({
    prefix: fc.constantFrom(...prefixes),
    name: fc.constantFrom('a', 'b', 'c'),
    length: fc.integer({ min: 100, max: 5_000 }),
    gap: fc.integer({ min: 1, max: 3_000 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const holdings = new Holdings(10_000)
      const list: { prefix: string; name: string; since: number; until: number }[] = []
      let now = 1_000
      for (const { prefix, name, length, gap } of steps) {
        now += gap
        holdings.take(held(prefix, name, now, now + length), now)
        for (const one of list) {
          if (one.prefix === prefix && one.until > now) one.until = now
        }
        list.push({ prefix, name, since: now, until: now + length })
      }
      const bits = (prefix: string) => Number(prefix.split('/')[1] ?? 128)
      for (let time = 500; time < now + 6_000; time += 777) {
        for (const host of ['192.0.2.1', '192.0.2.2', '192.0.2.9', '2001:db8::1', '2001:db8::2']) {
          const within = (prefix: string) =>
            prefix === host ||
            (prefix === '192.0.2.0/30' && /^192.0.2.[12]$/.test(host)) ||
            (prefix === '192.0.2.0/24' && host.startsWith('192.')) ||
            (prefix === '2001:db8::/64' && host.startsWith('2001:'))
          const right = list
            .filter(({ prefix, since, until }) => within(prefix) && since <= time && time < until)
            .sort((a, b) => bits(b.prefix) - bits(a.prefix))[0]
          const found = holdings.find(address(host), time, null)
          // Two records of one holder with a short break in between are one holding.
          if (right !== undefined && found?.identity.name !== right.name) return false
        }
      }
      return true
    }),
    { numRuns: 200 },
  )
  t.pass('over 200 histories')
})

t.test('the words of one lease', async (t) => {
  const who = (holdings: Holdings, time: number, port: number | null = null) =>
    holdings.find(address('192.0.2.1'), time, port)?.identity.name ?? null
  t.test('renewed, released, given to somebody else, read again', async (t) => {
    const holdings = new Holdings(100)
    const story = [
      held('192.0.2.1', 'a', 1_000, 2_000),
      held('192.0.2.1', 'a', 1_500, 2_500),
      held('192.0.2.1', 'b', 2_200, 3_000),
    ]
    for (const one of story) holdings.take(one, 0)
    holdings.take({ what: 'released', prefix: address('192.0.2.1'), at: 2_700 }, 0)
    const expected = ['a', 'a', 'b', 'b', null]
    const ask = () => [1_000, 2_100, 2_200, 2_699, 2_700].map((time) => who(holdings, time))
    t.same(ask(), expected)
    for (const one of story.slice(0, 2)) holdings.take(one, 0)
    t.same(ask(), expected, 'old records change nothing')
    t.equal(holdings.find(address('192.0.2.1'), 2_100, null)?.since, 1_000)
  })
  t.test('ranges of ports', async (t) => {
    const holdings = new Holdings(100)
    for (const [index, name] of ['a', 'b'].entries()) {
      const ports = { from: 1_024 + index * 1_000, to: 2_023 + index * 1_000 }
      holdings.take({ ...held('192.0.2.1', name, 0, null), ports }, 0)
    }
    t.same(
      [1_024, 2_023, 2_024, 3_024, null].map((port) => who(holdings, 5, port)),
      ['a', 'a', 'b', null, null],
    )
  })
  t.test('an access server restarts', async (t) => {
    const holdings = new Holdings(100)
    const one = held('192.0.2.1', 'a', 1_000, null)
    holdings.take({ ...one, identity: { ...one.identity, server: 'bras' } }, 0)
    holdings.take({ what: 'server-restarted', server: 'other', at: 1_100 }, 0)
    t.equal(who(holdings, 1_200), 'a')
    holdings.take({ what: 'server-restarted', server: 'bras', at: 1_100 }, 0)
    t.equal(who(holdings, 1_200), null)
  })
  t.test('access servers restart again and again: as if all sessions had ended at once', async (t) => {
    const HOSTS = 700
    const holdings = new Holdings(10_000)
    const sessions = new Map<number, { name: string; server: string; since: number; until: number }>()
    let picked = 0
    const pick = (below: number) => (stir(++picked) >>> 0) % below
    const prefixOf = (host: number) => address(`192.0.${2 + (host >> 8)}.${host & 255}`)
    const nameAt = (host: number, time: number) => holdings.find(prefixOf(host), time, null)?.identity.name
    let restarts = 0
    for (let time = 1_000; time < 8_000; time++) {
      const host = pick(HOSTS)
      const server = `bras${pick(5)}`
      const known = sessions.get(host)
      if (pick(50) === 0) {
        restarts++
        holdings.take({ what: 'server-restarted', server, at: time }, 0)
        for (const one of sessions.values())
          if (one.server === server && one.since < time) one.until = Math.min(one.until, time)
      } else if (known === undefined || known.until < time) {
        const name = `user${time}`
        const identity = { ...NOBODY, name, server }
        const prefix = prefixOf(host)
        const what = 'held'
        holdings.take({ what, prefix, ports: ALL_PORTS, identity, since: time, until: null, told: time }, 0)
        sessions.set(host, { name, server, since: time, until: Number.POSITIVE_INFINITY })
      } else {
        const isOver = known.until <= time
        const wrong = nameAt(host, time) !== (isOver ? undefined : known.name)
        if (wrong || (isOver && nameAt(host, known.until - 1) !== known.name))
          return void t.fail(`${known.name} of ${known.server} at ${time}`)
      }
    }
    t.ok(restarts > 100)
    for (const [host, { name, until }] of sessions)
      if (until !== Number.POSITIVE_INFINITY)
        t.same([nameAt(host, until - 1), nameAt(host, until)], [name, undefined])
  })
  t.test('what a restarted server tells of afterwards is not over', async (t) => {
    const holdings = new Holdings(100)
    const one = held('192.0.2.1', 'a', 1_000, null)
    const session = { ...one, identity: { ...one.identity, server: 'bras' } }
    holdings.take({ ...session, told: 1_000 }, 0)
    holdings.take({ what: 'server-restarted', server: 'bras', at: 1_100 }, 0)
    holdings.take({ ...session, told: 1_050 }, 0)
    t.equal(who(holdings, 1_200), null, 'what was told before, and comes late')
    holdings.take({ ...session, told: 1_150 }, 0)
    t.equal(who(holdings, 1_200), 'a')
  })
  t.test('full, and then with room again', async (t) => {
    const holdings = new Holdings(2)
    holdings.take(held('192.0.2.1', 'a', 1_000, 2_000), 0)
    holdings.take(held('192.0.2.1', 'b', 3_000, 4_000), 0)
    holdings.take(held('192.0.2.9', 'c', 3_000, 4_000), 0)
    t.equal(holdings.refused, 1)
    let kept: Holdings | null = null
    for (const work = holdings.without(2_500); ; ) {
      const next = work.next()
      if (next.done !== true) continue
      kept = next.value
      break
    }
    t.equal(kept?.size, 1)
    t.equal(kept === null ? null : who(kept, 3_500), 'b')
    t.equal(kept === null ? null : who(kept, 1_500), null, 'forgotten')
  })
})

const noRunner: ProcessRunner = async () => {
  throw new Error('nothing is to be run here')
}

async function following(
  test: Test,
  type: Exclude<SubscriberSource['type'], 'neighbours'>,
  pattern = 'leases',
) {
  const folder = await mkdtemp(join(tmpdir(), 'egress25-subscribers-'))
  const faults: string[] = []
  const failures: string[] = []
  const file = join(folder, 'leases')
  const subscribers = openSubscribers({
    sources: [{ name: 'x', type, file: join(folder, pattern) }],
    retain: 10 * 86_400_000,
    run: noRunner,
    now: Date.now,
    onFault: (_, text) => faults.push(text.replace(`${folder}/`, '')),
    onFailed: (_, reason) => failures.push(reason.replace(`${folder}/`, '')),
    onRead: () => {},
  })
  test.teardown(async () => {
    await subscribers.stop()
    await rm(folder, { recursive: true, force: true, maxRetries: 9 })
  })
  return { folder, file, subscribers, faults, failures }
}

async function until(what: string, ask: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 60_000; !ask(); ) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const macOf = (subscribers: Subscribers, of: string, time = Date.now()) =>
  subscribers.find(address(of), time, null)?.mac?.slice(-2) ?? null

t.test('a file that grows, with half a line at its end, rotated, cut and removed', async (t) => {
  const { folder, file, subscribers, faults, failures } = await following(t, 'kea')
  const now = Math.floor(Date.now() / 1000)
  const lease = (host: number, mac: string, start = now - 60) =>
    `192.0.2.${host},02:00:5e:10:00:${mac},,3600,${start + 3600},1,0,0,,0,\n`
  const head =
    'address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n'
  await subscribers.start()
  t.same(failures, ['there is no leases'])
  await writeFile(file, head + lease(1, '01'))
  await until('the first', () => macOf(subscribers, '192.0.2.1') === '01')
  await until('the end of the look', () => subscribers.status()[0]?.failure === null)
  t.match(subscribers.status(), [{ name: 'x', type: 'kea', entries: 1, faults: 0 }])

  const second = lease(2, '02')
  await appendFile(file, second.slice(0, 20))
  await appendFile(file, second.slice(20) + lease(3, '03').slice(0, 15))
  await until('the second', () => macOf(subscribers, '192.0.2.2') === '02')
  t.equal(macOf(subscribers, '192.0.2.3'), null, 'not before its line is whole')
  t.same(faults, [])

  // As kea-lfc does: moved aside, a new one begun, and what is left of the old ones put beside it.
  await rename(file, `${file}.1`)
  await appendFile(`${file}.1`, lease(3, '03').slice(15))
  await writeFile(file, head + lease(4, '04'))
  await until(
    'the third and fourth',
    () => macOf(subscribers, '192.0.2.3') === '03' && macOf(subscribers, '192.0.2.4') === '04',
  )
  await writeFile(`${file}.output`, head + lease(1, '01') + lease(2, '02') + lease(3, '03'))
  await rename(`${file}.output`, `${file}.2`)
  await rm(`${file}.1`)
  await appendFile(file, `${'x'.repeat(LONGEST_LINE + 10)}\nnonsense\n${lease(5, '05')}`)
  await until('the fifth', () => macOf(subscribers, '192.0.2.5') === '05')
  t.same(faults, ['leases:3: the line is too long, or no text', 'leases:4: the address is none'])
  t.equal(subscribers.status()[0]?.entries, 5, 'read again, they are the same')

  // Somebody else gets the address; it was another's before.
  await appendFile(file, `192.0.2.1,02:00:5e:10:00:01,,0,${now - 60},1,0,0,,0,\n${lease(1, '11', now + 5)}`)
  await until('the next holder', () => macOf(subscribers, '192.0.2.1', (now + 10) * 1000) === '11')
  t.equal(macOf(subscribers, '192.0.2.1', (now - 30) * 1000), '01')

  await truncate(file)
  await writeFile(file, head + lease(6, '06'))
  await until('the sixth', () => macOf(subscribers, '192.0.2.6') === '06')
  await rename(file, join(folder, 'gone'))
  await rm(`${file}.2`)
  await until('a word of it', () => subscribers.status()[0]?.failure !== null)
  t.equal(macOf(subscribers, '192.0.2.6'), '06', 'what was known is known')
  t.equal(
    subscribers.find(address('192.0.2.6'), Date.now() - 11 * 86_400_000, null),
    null,
    'beyond retention',
  )
})

t.test('a list that is replaced: who is not in it is gone since', async (t) => {
  const { file, subscribers, faults } = await following(t, 'csv')
  const write = async (text: string, secondsAgo: number) => {
    await writeFile(`${file}.new`, text)
    const time = Date.now() / 1000 - secondsAgo
    await utimes(`${file}.new`, time, time)
    await rename(`${file}.new`, file)
  }
  const who = (of: string, secondsAgo: number, port: number | null = null) =>
    subscribers.find(address(of), Date.now() - secondsAgo * 1000, port)?.name ?? null
  await write('address,name\n192.0.2.1,Alice\n198.51.100.0/24,Acme\nwrong,Eve\n', 5_000)
  await subscribers.start()
  await until('Alice', () => who('192.0.2.1', 0) === 'Alice')
  t.same([who('192.0.2.1', 80_000), who('198.51.100.77', 0), who('203.0.113.1', 0)], ['Alice', 'Acme', null])
  t.match(faults, [/^leases:4: the address is neither/])
  await write('address,name,port_from,port_to\n192.0.2.1,Bob,,\n203.0.113.1,Carol,1024,2047', 1_000)
  await until(
    'all of it',
    () =>
      who('192.0.2.1', 0) === 'Bob' &&
      who('203.0.113.1', 0, 2_000) === 'Carol' &&
      who('198.51.100.77', 900) === null,
  )
  t.same([who('192.0.2.1', 2_000), who('192.0.2.1', 900)], ['Alice', 'Bob'])
  t.same([who('198.51.100.77', 2_000), who('198.51.100.77', 900)], ['Acme', null])
  t.same(
    [who('203.0.113.1', 0, 2_000), who('203.0.113.1', 0, 3_000), who('203.0.113.1', 0)],
    ['Carol', null, null],
  )
})

t.test('many files by a pattern, and what is no file', async (t) => {
  const { folder, subscribers } = await following(t, 'radius', 'detail-*')
  const record = (host: number) =>
    `Thu Nov 26 12:00:00 2026\n\tAcct-Status-Type = Start\n\tUser-Name = "u${host}"\n\tFramed-IP-Address = 192.0.2.${host}\n\tTimestamp = ${Math.floor(Date.now() / 1000) - 10}\n\n`
  await writeFile(join(folder, 'detail-20261125'), record(1))
  await subscribers.start()
  await writeFile(join(folder, 'detail-20261126'), record(2))
  const account = (host: number) => subscribers.find(address(`192.0.2.${host}`), Date.now(), null)?.account
  await until('both', () => account(1) === 'u1' && account(2) === 'u2')
  const { subscribers: other } = await following(t, 'dnsmasq', '.')
  await other.start()
  t.match(other.status(), [{ failure: /it is not a file/, read: null }])
})

t.test('the configuration', async (t) => {
  const read = (text: string) => parseConfig('/etc/egress25/egress25.yaml', text)
  t.same(read('subscribers: [{ name: a, type: kea, file: /x }, { name: b, type: neighbours }]').subscribers, [
    { name: 'a', type: 'kea', file: '/x' },
    { name: 'b', type: 'neighbours' },
  ])
  for (const [text, expected] of [
    ['[{ name: a, type: kea }]', /the key file is missing/],
    ['[{ name: a, type: key, file: /x }]', /one of kea/],
    ['[{ name: a, type: neighbours, file: /x }]', /no file/],
    ['[{ name: a, type: neighbours }, { name: a, type: neighbours }]', /two sources are called a/],
    ['[{ name: a, type: csv, file: "/x/*" }]', /only a radius source/],
    ['[{ name: a, type: csv, file: x }]', /absolute path/],
  ] as const) {
    try {
      read(`subscribers: ${text}`)
      t.fail(text)
    } catch (error) {
      t.match((error as ConfigError).diagnostics, [{ message: expected, line: 1 }], text)
    }
  }
})

t.test('users of this machine', async (t) => {
  let time = 0
  const asked: string[] = []
  const people: Record<string, string> = { 1001: 'customer1:x:1001:1001::/home/customer1:/bin/sh\n' }
  const users = openLocalUsers(
    async ([, , id = '']) => {
      asked.push(id)
      return { code: people[id] === undefined ? 2 : 0, stdout: people[id] ?? '', stderr: '' }
    },
    () => time,
  )
  t.equal(users.nameOf(1_001), null, 'not known at once')
  await until('the name', () => users.nameOf(1_001) === 'customer1')
  t.equal(users.nameOf(1_002), null)
  t.equal(users.nameOf(1_002), null)
  t.same(asked, ['1001', '1002'], 'asked once')
  people['1002'] = 'customer2:x:1002:1002::/:/bin/sh\n'
  time += 61_000
  await until('the new one', () => users.nameOf(1_002) === 'customer2')
  const attempt = {
    source: address('192.0.2.1'),
    sourcePort: 1,
    destination: address('203.0.113.9'),
    time: 0,
    policy: 'p',
    verdict: 'block' as const,
    because: null,
    interface: null,
    mac: null,
  }
  const nobody = { find: () => null }
  t.match(identify({ ...attempt, uid: 1_001 }, nobody, users), {
    account: 'customer1',
    source: 'local-users',
  })
  t.equal(identify({ ...attempt, uid: null }, nobody, users), null)
})
