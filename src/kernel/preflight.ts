/**
 * What makes a correct ruleset useless on this machine. Each look costs a few small files and processes, and, where
 * our own ruleset is not large, one listing of the tables of others.
 */
import type { CompileOptions } from '../compile/options.ts'
import type { Family } from '../policy/prefix.ts'
import type { MachineFiles } from './machine-files.ts'
import { endOf, findNftFault } from './nft-version.ts'
import { findInterference, type Interference } from './other-tables.ts'
import { ProcessError, type ProcessResult, type ProcessRunner } from './process.ts'

export const PREFLIGHT_CODES = [
  'forwarding-off',
  'bridge-bypasses',
  'outside-missing',
  'flowtable',
  'other-table-drops',
  'other-table-diverts',
  'other-table-untracks',
  'clock-unsynchronised',
  'nft-missing',
  'nft-too-old',
  'nft-unusable',
  'conntrack-missing',
  'state-unwritable',
  'log-unwritable',
] as const

export type PreflightCode = (typeof PREFLIGHT_CODES)[number]

/** One thing that is wrong, in a sentence that says what to do about it. */
export interface Finding {
  readonly code: PreflightCode
  readonly message: string
}

/** What the findings depend on, as it is now. */
export interface Situation {
  readonly gateway: Pick<CompileOptions, 'hooks' | 'outsideInterfaces' | 'priority'>
  /** Families with a governed network. */
  readonly families: readonly Family[]
  /** Whether a policy redirects. */
  readonly redirects: boolean
  /** Elements of our own ruleset. */
  readonly elements: number
}

/** nft 1.0.6 reads every element of every table, whatever it is asked to list: 0.5 s for so many, 20 s for ten times. */
const MOST_ELEMENTS = 100_000
const LISTING_TIMEOUT = 10_000
const SHORT_TIMEOUT = 5_000
/** Of the time, one part in so many may go into listing: tables of others may be large, too. */
const LISTING_SHARE = 100
const MOST_FINDINGS = 50

export class Preflight {
  readonly #files: MachineFiles
  readonly #run: ProcessRunner
  readonly #clock: () => number
  #others: readonly Interference[] = []
  /** How nft came to its end over the tables in the kernel; null when it read them. */
  #dies: string | null = null
  #listAgainAt = Number.NEGATIVE_INFINITY

  /** `clock` in milliseconds from any start: it measures what a listing costs. */
  constructor(files: MachineFiles, run: ProcessRunner, clock: () => number = () => performance.now()) {
    this.#files = files
    this.#run = run
    this.#clock = clock
  }

  /** Everything that is found now. What cannot be looked at is not found. Never throws. */
  async look(situation: Situation): Promise<Finding[]> {
    const found = await Promise.all([
      this.#forwarding(situation),
      this.#bridges(situation),
      this.#missing(situation),
      this.#otherTables(situation),
      this.#clockFindings(),
      findNftFault(this.#run),
      this.#conntrack(situation),
    ])
    return found
      .flat()
      .filter((finding) => finding !== null)
      .slice(0, MOST_FINDINGS)
  }

  async #forwarding({ gateway, families }: Situation): Promise<Finding[]> {
    if (!gateway.hooks.includes('forward')) return []
    const settings = {
      4: { name: 'net.ipv4.ip_forward', each: 'ipv4', one: 'forwarding' },
      // In IPv6 one interface alone can forward since Linux 6.17, by a setting of its own.
      6: { name: 'net.ipv6.conf.all.forwarding', each: 'ipv6', one: 'force_forwarding' },
    } as const
    const off: Finding[] = []
    for (const family of families) {
      const { name, each, one } = settings[family]
      if ((await this.#setting(name)) !== '0') continue
      const conf = `proc/sys/net/${each}/conf`
      const devices = (await this.#files.list(conf)).filter(
        (device) => device !== 'all' && device !== 'default',
      )
      const settingsOf = (setting: string, of = devices) =>
        Promise.all(of.map((device) => this.#files.read(`${conf}/${device}/${setting}`)))
      if ((await settingsOf(one)).includes('1')) continue
      // Where IPv6 is switched off there is nothing to forward: one set of policies serves many gateways.
      const cables = devices.filter((device) => device !== 'lo')
      const disabled = family === 6 ? await settingsOf('disable_ipv6', cables) : []
      if (disabled.length > 0 && disabled.every((value) => value === '1')) continue
      off.push({
        code: 'forwarding-off',
        message:
          `this machine does not forward IPv${family} (${name} is 0), so nothing of it passes the hook forward: ` +
          `set ${name}=1, or, on a machine that is no router, firewall.hooks: [output]`,
      })
    }
    return off
  }

  /** Frames that a bridge carries from port to port pass no hook of ours, unless the kernel is told to show them. */
  async #bridges({ gateway, families }: Situation): Promise<Finding[]> {
    if (!gateway.hooks.includes('forward')) return []
    // Without it nothing in /proc/sys can be seen, and what is not seen there is not known to be off.
    if ((await this.#setting('net.ipv4.ip_forward')) === null) return []
    const found: Finding[] = []
    const outside = await this.#outside(gateway.outsideInterfaces)
    for (const bridge of await this.#files.list('sys/class/net')) {
      const ports = await this.#forwardingPorts(bridge)
      // A bridge of the inside alone carries nothing that leaves; where nobody knows what is outside, any may.
      if (ports.length < 2 || !(outside.size === 0 || [bridge, ...ports].some((name) => outside.has(name))))
        continue
      const blind: string[] = []
      for (const [family, setting] of [
        [4, 'iptables'],
        [6, 'ip6tables'],
      ] as const) {
        const everywhere = await this.#setting(`net.bridge.bridge-nf-call-${setting}`)
        const here = await this.#files.read(`sys/class/net/${bridge}/bridge/nf_call_${setting}`)
        if (families.includes(family) && everywhere !== '1' && here !== '1')
          blind.push(`net.bridge.bridge-nf-call-${setting}=1`)
      }
      if (blind.length === 0) continue
      found.push({
        code: 'bridge-bypasses',
        message:
          `the bridge ${bridge} carries frames between ${ports.join(', ')} past every rule for what is forwarded: ` +
          `load br_netfilter and set ${blind.join(' and ')}, or put the machines behind another interface`,
      })
    }
    return found
  }

  /** What leaves by none of the outside interfaces is let through, and by one that is not there nothing leaves. */
  async #missing({ gateway }: Situation): Promise<Finding[]> {
    const devices = await this.#files.read('proc/self/net/dev')
    if (devices === null) return []
    const there = new Set(devices.split('\n').map((line) => line.split(':')[0]?.trim()))
    const missing = gateway.outsideInterfaces.filter((name) => !there.has(name))
    if (missing.length === 0) return []
    const leaves = [...(await this.#outside([]))].join(', ')
    return [
      {
        code: 'outside-missing',
        message:
          `firewall.outside_interfaces names ${missing.join(', ')}, and this machine has no such interface: ` +
          `what leaves by another one is not blocked${leaves === '' ? '' : ` (the default route leads by ${leaves})`}`,
      },
    ]
  }

  async #forwardingPorts(bridge: string): Promise<string[]> {
    const ports = await this.#files.list(`sys/class/net/${bridge}/brif`)
    const FORWARDING = '3'
    const states = await Promise.all(
      ports.map((port) => this.#files.read(`sys/class/net/${port}/brport/state`)),
    )
    return ports.filter((_, index) => states[index] === FORWARDING).sort()
  }

  /** By which interfaces packets leave: as configured, or by the default routes. */
  async #outside(configured: readonly string[]): Promise<ReadonlySet<string>> {
    if (configured.length > 0) return new Set(configured)
    const [four, six] = await Promise.all([
      this.#files.read('proc/self/net/route'),
      this.#files.read('proc/self/net/ipv6_route'),
    ])
    const interfaces = new Set<string>()
    for (const line of four?.split('\n') ?? []) {
      const [device, destination, , , , , , mask] = line.split(/\s+/)
      if (device !== undefined && destination === '00000000' && mask === '00000000') interfaces.add(device)
    }
    for (const line of six?.split('\n') ?? []) {
      const [destination, length, , , , , , , , device] = line.trim().split(/\s+/)
      // The kernel keeps an unreachable default route on lo.
      if (device !== undefined && device !== 'lo' && length === '00' && /^0+$/.test(destination ?? 'x'))
        interfaces.add(device)
    }
    return interfaces
  }

  async #otherTables(situation: Situation): Promise<Finding[]> {
    if (situation.elements >= MOST_ELEMENTS) return []
    const started = this.#clock()
    if (started >= this.#listAgainAt) {
      const listing = await this.#run(['nft', '-t', '-n', 'list', 'ruleset'], {
        timeout: LISTING_TIMEOUT,
      }).catch((error: unknown) => error)
      const ended = this.#clock()
      this.#listAgainAt = ended + (ended - started) * LISTING_SHARE
      this.#dies = listing instanceof ProcessError && listing.fault === 'signal' ? endOf(listing) : null
      // Without an answer nothing is known.
      this.#others = isListing(listing) ? findInterference(listing.stdout, situation.gateway) : []
    }
    if (this.#dies !== null) return [{ code: 'nft-unusable', message: this.#dies }]
    return this.#others.flatMap((one) => interferenceFinding(one, situation))
  }

  async #clockFindings(): Promise<Finding[]> {
    if ((await this.#files.read('run/systemd/timesync/synchronized')) !== null) return []
    const answer = await this.#answer(['timedatectl', 'show', '-p', 'NTPSynchronized', '--value'])
    if (answer?.code !== 0 || answer.stdout.trim() !== 'no') return []
    return [
      {
        code: 'clock-unsynchronised',
        message:
          'the clock is not synchronised, and by it exemptions end and incidents are dated: ' +
          'start systemd-timesyncd or chrony (timedatectl timesync-status says more)',
      },
    ]
  }

  async #conntrack({ redirects }: Situation): Promise<Finding[]> {
    if (!redirects) return []
    let why: string
    try {
      const { code, stderr } = await this.#run(['conntrack', '-C'], { timeout: SHORT_TIMEOUT })
      if (code === 0) return []
      why = `the kernel does not answer conntrack (${firstLine(stderr)}): it needs nf_conntrack_netlink`
    } catch (error) {
      if (!(error instanceof ProcessError) || error.fault !== 'missing') return []
      why = 'the program conntrack is missing: install the package conntrack'
    }
    return [
      {
        code: 'conntrack-missing',
        message: `connections that were redirected go on when policies change, because ${why}`,
      },
    ]
  }

  /** A setting of sysctl(8); null when it is not there. */
  #setting(name: string): Promise<string | null> {
    return this.#files.read(`proc/sys/${name.replaceAll('.', '/')}`)
  }

  /** null when the program is missing or does not come to an end. */
  #answer(argv: readonly [string, ...string[]], timeout = SHORT_TIMEOUT) {
    return this.#run(argv, { timeout }).catch(() => null)
  }
}

function isListing(answer: unknown): answer is ProcessResult {
  return !(answer instanceof Error) && (answer as ProcessResult).code === 0
}

function interferenceFinding(
  { does, before, priority, where, rule }: Interference,
  { redirects }: Situation,
): Finding[] {
  const place = `${where} has \`${rule}\``
  switch (does) {
    case 'offload':
      return [
        {
          code: 'flowtable',
          message:
            `${place}: established connections then pass no rule, and go on when an exemption is revoked; ` +
            'add `tcp dport != 25 tcp sport != 25` to that rule',
        },
      ]
    case 'drop':
      return [
        {
          code: 'other-table-drops',
          message: before
            ? `${place}: what it drops is neither counted nor told, because it comes before egress25; ` +
              `remove it${priority === null ? '' : `, or let egress25 be asked first (firewall.priority: ${priority - 5})`}`
            : `${place}: it also drops what egress25 lets through, such as relays and exempt hosts; remove it`,
        },
      ]
    case 'divert':
      return [
        {
          code: 'other-table-diverts',
          message:
            `${place}: connections to port 25 go elsewhere before egress25 is asked, so that it neither ` +
            'blocks nor counts them as what they are; remove it, or use action: redirect. If it is for mail that ' +
            'comes in, name the interfaces to the internet in firewall.outside_interfaces',
        },
      ]
    case 'untrack':
      // Verdicts do not ask conntrack; only changing destinations needs it.
      if (!redirects) return []
      return [
        {
          code: 'other-table-untracks',
          message: `${place}: what is not tracked cannot be redirected, and is refused instead; add \`tcp dport != 25\` to that rule`,
        },
      ]
    default:
      return does satisfies never
  }
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0]?.slice(0, 200) ?? ''
}
