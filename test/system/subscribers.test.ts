/** Who is behind an address, by what real servers write: Kea, ISC DHCP, dnsmasq and FreeRADIUS, with real clients. */
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { farMac, gatewayAddress } from '../../scripts/lab/topology.ts'
import type { Subscriber } from '../../src/subscribers/subscriber.ts'
import { type Gateway, gateway, POLICIES, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const PATIENCE = 60_000
const MAC = farMac('subscribers')

/** Asks for an address as a machine would; null as long as nobody gives one. */
async function lease(g: Gateway, name: string, client: string): Promise<string | null> {
  const script = join(g.directory, 'udhcpc')
  await writeFile(script, '#!/bin/sh\n[ "$1" = bound ] && echo "GOT $ip"\nexit 0\n')
  await chmod(script, 0o755)
  const asking = ['busybox', 'udhcpc', '-i', 'dhcp1', '-f', '-q', '-n', '-t', '3', '-T', '1', '-s', script]
  const { stdout } = await g.lab.exec(
    g.lab.subscribers,
    [...asking, '-x', `hostname:${name}`, '-x', `0x3d:${client}`],
    { timeoutMs: 30_000 },
  )
  return /GOT (\S+)/.exec(stdout)?.[1] ?? null
}

/** A cable for DHCP alone, so that where packets go stays as it is. */
async function cable(g: Gateway): Promise<void> {
  const { gateway, subscribers } = g.lab
  const peer = ['type', 'veth', 'peer', 'name', 'dhcp1', 'address', MAC, 'netns', subscribers]
  await g.lab.exec(gateway, ['ip', 'link', 'add', 'dhcp0', ...peer])
  await g.lab.exec(gateway, ['ip', 'link', 'set', 'dhcp0', 'up'])
  await g.lab.exec(subscribers, ['ip', 'link', 'set', 'dhcp1', 'up'])
}

/** A DHCP server with a network of its own on the gateway gives out one address, and ends. */
async function serve(
  g: Gateway,
  net: number,
  argv: readonly string[],
  name: string,
  client: string,
): Promise<string> {
  await g.lab.exec(g.lab.gateway, ['ip', 'addr', 'add', `100.64.${net}.1/24`, 'dev', 'dhcp0'])
  const server = g.lab.spawn(g.lab.gateway, argv, {
    stdio: 'ignore',
    env: { ...process.env, KEA_LOCKFILE_DIR: 'none', KEA_PIDFILE_DIR: g.directory },
  })
  const address = await until(`an address for ${name}`, () => lease(g, name, client), PATIENCE)
  const ended = new Promise((resolve) => server.once('exit', resolve))
  server.kill('SIGTERM')
  await ended
  await g.lab.exec(g.lab.gateway, ['ip', 'addr', 'flush', 'dev', 'dhcp0'])
  return address
}

async function keaLease(g: Gateway): Promise<string> {
  const config = join(g.directory, 'kea.json')
  const Dhcp4 = {
    'interfaces-config': { interfaces: ['dhcp0'] },
    'lease-database': { type: 'memfile', name: join(g.directory, 'kea-leases4.csv'), 'lfc-interval': 0 },
    'valid-lifetime': 3_600,
    subnet4: [{ subnet: '100.64.10.0/24', pools: [{ pool: '100.64.10.50 - 100.64.10.50' }] }],
  }
  await writeFile(config, JSON.stringify({ Dhcp4 }))
  return serve(g, 10, ['kea-dhcp4', '-c', config], 'printer', '01020000000001')
}

async function iscLease(g: Gateway): Promise<string> {
  const [config, leases] = [join(g.directory, 'dhcpd.conf'), join(g.directory, 'dhcpd.leases')]
  await writeFile(
    config,
    `default-lease-time 3600; authoritative; ddns-update-style none; ping-check false;
     subnet 100.64.11.0 netmask 255.255.255.0 { range 100.64.11.50 100.64.11.50; }`,
  )
  await writeFile(leases, '')
  const files = ['-cf', config, '-lf', leases, '-pf', join(g.directory, 'dhcpd.pid')]
  return serve(g, 11, ['dhcpd', '-4', '-f', '-q', ...files, 'dhcp0'], 'camera', '01020000000002')
}

async function dnsmasqLease(g: Gateway): Promise<string> {
  const argv = ['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--port=0', '--interface=dhcp0']
  const leases = join(g.directory, 'dnsmasq.leases')
  const how = ['--bind-interfaces', '--dhcp-authoritative', '--no-ping', '--user=root', '--pid-file=']
  const range = '--dhcp-range=100.64.12.50,100.64.12.50,1h'
  return serve(g, 12, [...argv, ...how, range, `--dhcp-leasefile=${leases}`], 'television', '01020000000003')
}

/** An access server reports that a session began. */
async function radiusSession(g: Gateway): Promise<void> {
  const folder = join(g.directory, 'radius')
  await mkdir(folder)
  await writeFile(
    join(folder, 'radiusd.conf'),
    `name = lab
logdir = ${folder}
run_dir = ${folder}
libdir = /usr/lib/freeradius
client lab {
  ipaddr = 127.0.0.1
  secret = testing
}
modules {
  detail {
    filename = "${folder}/detail-%Y%m%d"
  }
}
server default {
  listen {
    type = acct
    ipaddr = 127.0.0.1
    port = 1813
  }
  accounting {
    detail
  }
}
`,
  )
  await writeFile(join(folder, 'dictionary'), '$INCLUDE /usr/share/freeradius/dictionary\n')
  const server = g.lab.spawn(g.lab.gateway, ['freeradius', '-f', '-d', folder, '-l', join(folder, 'log')], {
    stdio: 'ignore',
  })
  const record = [
    'Acct-Status-Type = Start',
    'Acct-Session-Id = "1"',
    'User-Name = "carol@example.net"',
    'Framed-IP-Address = 100.64.20.7',
    'Delegated-IPv6-Prefix = 2001:db8:101:700::/56',
    'Calling-Station-Id = "02-00-5E-10-00-07"',
    'NAS-IP-Address = 192.0.2.1',
    'NAS-Port-Id = "ge-0/0/1.7"',
  ]
  await until(
    'an accounting server',
    async () => {
      const sent = await g.lab.exec(
        g.lab.gateway,
        [
          'radclient',
          '-r',
          '1',
          '-t',
          '1',
          '-D',
          '/usr/share/freeradius',
          '127.0.0.1:1813',
          'acct',
          'testing',
        ],
        { input: record.join('\n'), timeoutMs: 30_000 },
      )
      return sent.code === 0
    },
    PATIENCE,
  )
  server.kill('SIGTERM')
}

const subscriberOf = async (g: Gateway, address: string) =>
  (await g.get(`/v1/sources/${address}`))['subscriber'] as Subscriber | null

t.test('real servers, and who they say it was', async (t) => {
  const g = await gateway(t, {
    ...POLICIES,
    'hosting.yaml': `kind: policy\nname: hosting\nnetworks: [${gatewayAddress.ipv4}, '${gatewayAddress.ipv6}']\naction: drop\n`,
  })
  await cable(g)
  const list = join(g.directory, 'customers.csv')
  const customers = (who: string) =>
    `address,account,contact,name\n100.64.10.0/24,4711,${who}@example.net,\n100.64.30.3,4713,,${who}\n`
  await writeFile(list, customers('alice'))
  const source = (name: string, file: string) => ({ name, type: name, file: join(g.directory, file) })
  const config = JSON.parse(await readFile(g.config, 'utf8')) as Record<string, unknown>
  config['subscribers'] = [
    source('kea', 'kea-leases4.csv'),
    source('isc-dhcp', 'dhcpd.leases'),
    source('dnsmasq', 'dnsmasq.leases'),
    source('radius', 'radius/detail-*'),
    source('csv', 'customers.csv'),
    { name: 'neighbours', type: 'neighbours' },
  ]
  await writeFile(g.config, JSON.stringify(config))
  // The first is there before the service is, the others come while it runs.
  t.equal(await keaLease(g), '100.64.10.50')
  const service = await g.start()
  t.equal(await iscLease(g), '100.64.11.50')
  t.equal(await dnsmasqLease(g), '100.64.12.50')
  await radiusSession(g)

  for (const [address, expected] of [
    [
      '100.64.10.50',
      { name: 'printer', account: '4711', contact: 'alice@example.net', mac: MAC, source: 'kea' },
    ],
    ['100.64.11.50', { name: 'camera', account: null, mac: MAC, source: 'isc-dhcp' }],
    ['100.64.12.50', { name: 'television', mac: MAC, source: 'dnsmasq' }],
    ['100.64.20.7', { account: 'carol@example.net', mac: '02:00:5e:10:00:07', port: 'ge-0/0/1.7' }],
    ['2001:db8:101:7ff::1', { account: 'carol@example.net', source: 'radius' }],
  ] as const) {
    const found = await until(address, () => subscriberOf(g, address), PATIENCE)
    t.match(found, expected, address)
    t.ok(found.since !== null && Math.abs(Date.parse(found.since) - Date.now()) < 600_000, `${found.since}`)
  }
  t.equal(await subscriberOf(g, '100.64.99.9'), null)
  const sources = await until(
    'all of them read',
    async () => {
      const { subscribers } = (await g.get('/v1/status')) as { subscribers: { failure: string | null }[] }
      return subscribers.every(({ failure }) => failure === null) && subscribers
    },
    PATIENCE,
  )
  t.match(sources, [{ name: 'kea', type: 'kea', faults: 0 }, {}, {}, {}, { entries: 2 }, {}])

  await t.test('an incident names who it was, and so do its alert and its attempts', async (t) => {
    const attempts = Array.from({ length: 30 }, (_, i) => ({
      from: '100.64.10.50',
      to: `203.0.113.${i + 1}`,
      port: 25,
    }))
    await g.client.connectAll(attempts)
    const printer = {
      name: 'printer',
      account: '4711',
      contact: 'alice@example.net',
      mac: MAC,
      source: 'kea',
    }
    const [incident] = await until(
      'an incident',
      async () => {
        const { items } = (await g.get('/v1/incidents?kind=spam-bot')) as { items: object[] }
        return items.length > 0 && items
      },
      PATIENCE,
    )
    t.match(incident, { source: '100.64.10.50', subscriber: printer })
    const delivery = await until(
      'the alert',
      async () => g.deliveries.find((one) => JSON.stringify(one).includes('printer')),
      PATIENCE,
    )
    t.match(JSON.stringify(delivery), /alice@example.net/)
    const { items } = await until(
      'the attempts',
      async () => {
        const found = (await g.get('/v1/attempts?source=100.64.10.50&limit=1')) as { items: object[] }
        return found.items.length > 0 && found
      },
      PATIENCE,
    )
    t.match(items, [{ source_port: Number, subscriber: printer }])
    t.match(JSON.parse((await g.egress25('incidents')).stdout), { items: [{ subscriber: printer }] })
  })

  await t.test('as of the time of the attempt', async (t) => {
    const connect = () => g.client.connectAll([{ from: '100.64.30.3', to: '203.0.113.9', port: 25 }])
    const names = async () => {
      const { items } = (await g.get('/v1/attempts?source=100.64.30.3')) as {
        items: { subscriber: Subscriber | null }[]
      }
      return items.map(({ subscriber }) => subscriber?.name ?? null)
    }
    await connect()
    await until('the first attempt', async () => (await names()).length >= 1, PATIENCE)
    const before = (await names()).length
    // Times in lists are whole seconds, and a file's time is that of the kernel's last tick.
    const next = (Math.floor(Date.now() / 1_000) + 1) * 1_000 + 100
    await until('the next second', async () => Date.now() >= next)
    await writeFile(`${list}.new`, customers('bob'))
    await rename(`${list}.new`, list)
    await until('the new list', async () => (await subscriberOf(g, '100.64.30.3'))?.name === 'bob', PATIENCE)
    await connect()
    const found = await until(
      'the second attempt',
      async () => {
        const found = await names()
        return found.length > before && found
      },
      PATIENCE,
    )
    t.equal(found.at(-1), 'alice')
    t.equal(found[0], 'bob')
    // What was written down with the incident stays.
    const { items } = (await g.get('/v1/incidents?kind=spam-bot')) as { items: { subscriber: Subscriber }[] }
    t.equal(items[0]?.subscriber.contact, 'alice@example.net')
  })

  await t.test('on a shared host it is the user, and the program, who has the incident', async (t) => {
    const DAEMON = 1
    const NOBODY = 65_534
    const HOST = gatewayAddress.ipv4
    /** To IPv4, to IPv6, and to IPv4 through a socket of IPv6: where from, and where to. */
    const WAYS = {
      4: ['PF_INET', `sockaddr_in(0, inet_aton('${HOST}'))`, 'sockaddr_in(25, inet_aton("203.0.113.$n"))'],
      6: [
        'PF_INET6',
        `sockaddr_in6(0, inet_pton(AF_INET6, '${gatewayAddress.ipv6}'))`,
        'sockaddr_in6(25, inet_pton(AF_INET6, sprintf("2001:db8:ffff::%x", $n)))',
      ],
      mapped: [
        'PF_INET6',
        `sockaddr_in6(0, inet_pton(AF_INET6, '::ffff:${HOST}'))`,
        'sockaddr_in6(25, inet_pton(AF_INET6, "::ffff:203.0.113.$n"))',
      ],
    } as const
    /** Connects that stay under way, as the packets vanish, until it is killed. */
    const connect = (uid: number, count: number, hold = true, way: keyof typeof WAYS = 4) => {
      const [family, from, to] = WAYS[way]
      const script = `use Socket qw(:DEFAULT SOCK_NONBLOCK inet_pton pack_sockaddr_in6);
sub sockaddr_in6 { pack_sockaddr_in6(@_) }
for (1..${count}) {
  socket(my $s, ${family}, SOCK_STREAM | SOCK_NONBLOCK, 0) or die $!;
  bind($s, ${from}) or die $!;
  my $n = 1 + $_ % 250;
  connect($s, ${to});
  push @held, $s if ${hold ? 1 : 0};
}
sleep 600`
      const as = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
      const child = g.lab.spawn(g.lab.gateway, [...as, '/usr/bin/perl', '-e', script], { stdio: 'ignore' })
      t.teardown(() => child.kill('SIGKILL'))
      return child
    }
    connect(NOBODY, 1)
    /** How many connections of a user were told; the kernel repeats each SYN after a second, and again and again. */
    const of = async (uid: number) => {
      const ports = new Set<number>()
      for (let cursor: string | null = ''; cursor !== null; ) {
        const page = (await g.get(`/v1/attempts?source=${HOST}&limit=1000${cursor}`)) as {
          items: { uid: number; source_port: number }[]
          next: string | null
        }
        for (const one of page.items) if (one.uid === uid) ports.add(one.source_port)
        cursor = page.next && `&cursor=${page.next}`
      }
      return ports.size
    }
    await until('the harmless one', async () => (await of(NOBODY)) === 1, PATIENCE)
    connect(DAEMON, 40)
    interface Found {
      readonly user: { readonly uid: number; readonly name: string } | null
      readonly process: { readonly name: string; readonly path: string } | null
      readonly source: string
    }
    const machine6 = `${gatewayAddress.ipv6.replace(/fe$/, '')}/64`
    const open = async (source: string = HOST) =>
      ((await g.get('/v1/incidents?state=open')) as { items: Found[] }).items.filter(
        (one) => one.source === source,
      )
    const found = await until(
      'all that is known',
      async () => {
        const items = await open()
        return items.some(({ user, process }) => user?.name && process) && items
      },
      PATIENCE,
    )
    t.match(found, [{ kind: 'spam-bot', user: { uid: DAEMON, name: 'daemon' }, policy: 'hosting' }])
    t.equal(found.length, 1, 'one incident, and none of the other user or of all together')
    t.match(found[0]?.process, { name: 'perl', path: '/usr/bin/perl' })
    await until('an alert', async () =>
      g.deliveries.some(({ body }) => JSON.parse(body).incident?.user?.uid === DAEMON),
    )
    t.match(JSON.parse((await g.egress25('incidents')).stdout).items, [{ user: { uid: DAEMON } }])

    for (const [uid, way, source] of [
      [2, 6, machine6],
      [3, 'mapped', HOST],
    ] as const) {
      connect(uid, 40, true, way)
      const one = await until(`the program of user ${uid}`, async () =>
        (await open(source)).find(({ user, process }) => user?.uid === uid && process),
      )
      t.match(
        one,
        { kind: 'spam-bot', source, process: { name: 'perl', path: '/usr/bin/perl' } },
        String(way),
      )
    }

    // However many attempts one of them makes, all of the other's are told.
    const loud = connect(DAEMON, 100_000_000, false)
    await until('more than is told', async () => {
      const { attempts, events } = (await g.get('/v1/status')) as {
        attempts: { total: number }
        events: { received: number }
      }
      return attempts.total > events.received + 1_000
    })
    connect(NOBODY, 20)
    await until('all of the other', async () => (await of(NOBODY)) === 21, PATIENCE)
    t.equal(loud.exitCode, null, 'it goes on')
    loud.kill('SIGKILL')
  })
  t.equal(await g.stop(service), 0)
})
