// What the lab looks like, as text for ip(8) and sh(1). Pure: nothing here touches the machine.
//
//   subscribers ─ up0 ── inside0  ┐
//        relays ─ up0 ── relay0   ├ gateway
//      internet ─ up0 ── outside0 ┘
//
// The three outer namespaces are all alike. Whatever arrives at their `up0` is local to them, and whatever
// they send goes to the gateway, so each of them may speak from any address and answers on any address
// without one being configured. Only the gateway knows which prefix is where.

export type Side = 'subscribers' | 'relays' | 'internet'
export type Place = Side | 'gateway'

/** The places in the order in which they are set up. */
export const places: readonly Place[] = ['gateway', 'subscribers', 'relays', 'internet']

const sides: readonly Side[] = ['subscribers', 'relays', 'internet']

/** The gateway's interface towards each side. */
export const gatewayInterface: Readonly<Record<Side, string>> = {
  subscribers: 'inside0',
  relays: 'relay0',
  internet: 'outside0',
}

/** The gateway's own addresses: what a program on the gateway itself speaks from. */
export const gatewayAddress = { ipv4: '198.51.100.254', ipv6: '2001:db8:fffe::fe' } as const

/** Which prefixes live behind `inside0` and `relay0`; everything else is the internet. */
export interface Prefixes {
  readonly subscribers: readonly string[]
  readonly relays: readonly string[]
}

export const defaultPrefixes: Prefixes = {
  subscribers: ['100.64.0.0/10', '2001:db8:100::/40'],
  relays: ['192.0.2.0/24', '2001:db8::/48'],
}

// Both ends of each cable know each other's hardware address from the start, so no packet ever waits for ARP
// or neighbour discovery, and a million destinations need one neighbour entry.
const near = { ipv4: '169.254.25.1', ipv6: 'fe80::1' }
const far = { ipv4: '169.254.25.2', ipv6: 'fe80::2' }
/** The hardware address of the gateway's end of a cable. */
export const nearMac = (side: Side) => `02:25:00:00:0${sides.indexOf(side) + 1}:01`
/** The hardware address of a side's end. */
export const farMac = (side: Side) => `02:25:00:00:0${sides.indexOf(side) + 1}:02`

/** The `ip -batch` text that makes the namespaces and the cables between them. */
export function cables(name: (place: Place) => string): string {
  const lines = places.map((place) => `netns add ${name(place)}`)
  for (const side of sides) {
    lines.push(
      `link add name ${gatewayInterface[side]} netns ${name('gateway')} address ${nearMac(side)} ` +
        `type veth peer name up0 netns ${name(side)} address ${farMac(side)}`,
    )
  }
  return lines.join('\n')
}

/** The `ip -batch` text that removes the namespaces, and with them everything inside. */
export function removal(names: readonly string[]): string {
  return names.map((name) => `netns del ${name}`).join('\n')
}

/** The shell script that, run inside the namespace, sets up one place. */
export function setUp(place: Place, prefixes: Prefixes): string {
  return place === 'gateway' ? setUpGateway(prefixes) : setUpSide(place)
}

function setUpSide(side: Side): string {
  const settings = [
    ...quickIpv6('up0'),
    'net.ipv4.conf.all.rp_filter=0',
    'net.ipv4.conf.up0.rp_filter=0',
    'net.ipv6.ip_nonlocal_bind=1', // IPv6 knows no AnyIP for bind(2); IPv4 asks the local table
    'net.ipv4.ip_local_port_range=1024 65535', // room for many connections from one address
  ]
  const neighbours = [
    `neigh add ${near.ipv4} lladdr ${nearMac(side)} dev up0 nud permanent`,
    `neigh add ${near.ipv6} lladdr ${nearMac(side)} dev up0 nud permanent`,
  ]
  // The default route goes first: once every address is local, the kernel takes no gateway address any more.
  // The table `local` is then asked for what arrives only; what is sent follows the default route.
  const ipv4 = [
    'link set lo up',
    'link set up0 up',
    ...neighbours,
    `route add default via ${near.ipv4} dev up0 onlink`,
    'route add local 0.0.0.0/0 dev lo table local',
    ...askLocalTableForArrivals('127.0.0.0/8'),
  ]
  const ipv6 = [
    `route add default via ${near.ipv6} dev up0 onlink`,
    'route add local ::/0 dev lo table local',
    ...askLocalTableForArrivals('::1'),
  ]
  return script(settings, ipv4, ipv6)
}

function askLocalTableForArrivals(loopback: string): string[] {
  return [
    `rule add pref 5 to ${loopback} lookup local`,
    'rule add pref 10 iif up0 lookup local',
    'rule add pref 20 lookup main',
    'rule del pref 0',
  ]
}

function setUpGateway(prefixes: Prefixes): string {
  const settings = [
    ...sides.flatMap((side) => quickIpv6(gatewayInterface[side])),
    'net.ipv4.ip_forward=1',
    'net.ipv6.conf.all.forwarding=1',
    'net.ipv4.conf.all.rp_filter=0',
    ...sides.map((side) => `net.ipv4.conf.${gatewayInterface[side]}.rp_filter=0`),
    'net.ipv4.conf.all.send_redirects=0', // neighbours within one side talk through the gateway
    'net.ipv4.icmp_ratelimit=0', // every refusal is answered, so every probe sees its own
    'net.ipv6.icmp.ratelimit=0',
  ]
  const links = ['link set lo up', ...sides.map((side) => `link set ${gatewayInterface[side]} up`)]
  const own = [
    `addr add ${gatewayAddress.ipv4}/32 dev ${gatewayInterface.internet}`,
    `addr add ${gatewayAddress.ipv6}/128 dev ${gatewayInterface.internet} nodad`,
  ]
  const ends = sides.flatMap((side) => {
    const device = gatewayInterface[side]
    return [
      `addr add ${near.ipv4}/32 dev ${device}`,
      `addr add ${near.ipv6}/64 dev ${device} nodad`,
      `neigh add ${far.ipv4} lladdr ${farMac(side)} dev ${device} nud permanent`,
      `neigh add ${far.ipv6} lladdr ${farMac(side)} dev ${device} nud permanent`,
    ]
  })
  const routes = (family: 'ipv4' | 'ipv6') =>
    [...routedPrefixes(prefixes), { prefix: 'default', side: 'internet' as const }]
      .filter(({ prefix }) => prefix === 'default' || prefix.includes(':') === (family === 'ipv6'))
      .map(
        ({ prefix, side }) =>
          `route add ${prefix} via ${far[family]} dev ${gatewayInterface[side]} onlink src ${gatewayAddress[family]}`,
      )
  return script(settings, [...links, ...own, ...ends, ...routes('ipv4')], routes('ipv6'))
}

function routedPrefixes(prefixes: Prefixes): { prefix: string; side: Side }[] {
  return (['subscribers', 'relays'] as const).flatMap((side) =>
    prefixes[side].map((prefix) => ({ prefix, side })),
  )
}

// Without duplicate address detection IPv6 works in the same instant as IPv4, and without an address the
// kernel makes up itself no multicast chatter shows up in captures.
function quickIpv6(device: string): string[] {
  return [
    `net.ipv6.conf.${device}.accept_dad=0`,
    `net.ipv6.conf.${device}.dad_transmits=0`,
    `net.ipv6.conf.${device}.accept_ra=0`,
    `net.ipv6.conf.${device}.addr_gen_mode=1`,
  ]
}

function script(settings: string[], ipv4: string[], ipv6: string[]): string {
  return [
    'set -e',
    `sysctl -q -w ${settings.map((setting) => `'${setting}'`).join(' ')}`,
    "ip -batch - <<'.'",
    ...ipv4,
    '.',
    "ip -6 -batch - <<'.'",
    ...ipv6,
    '.',
  ].join('\n')
}
