// What the rules cost a packet on its way through a gateway.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, openLab } from '../lab/lab.ts'
import { compileTo } from './egress25.ts'
import { randomPrefixes, writeList } from './fixtures.ts'
import { openInjector } from './injector.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, median, ratios, summary } from './rounds.ts'

/** One of the exempt prefixes, large or small as the list may be. As the shortest it is asked about first. */
const EXEMPT = '172.16.0.0/16'
const TRAFFIC = { source: '172.16.0.0', sources: 65_536, destination: '203.0.113.9' }
/** Who is not exempt is looked for in all tables. */
const BLOCKED = { ...TRAFFIC, source: '172.18.0.0' }

/** Seven lengths, and the one above makes eight. */
const OTHER_LENGTHS = [25, 26, 27, 28, 29, 30, 32]

/** Short rounds, many of them: a busy machine then disturbs some, and not the median. */
const PACKETS = 100_000
const ROUNDS = { otherPorts: 400, smtp: 60 }

const COMMAND = 'egress25 compile DIR | nft -f -'

const EMPTY = 'table inet empty {\n  chain forward { type filter hook forward priority -5; }\n}\n'

export const packets: Measurement = {
  name: 'packets',
  title: 'Packets through the gateway',
  about:
    `SYNs from 65,536 sources at random are put into the gateway's network stack as if its device had received them ` +
    '(BPF_PROG_TEST_RUN with live frames), routed, sent on a veth cable and thrown away at its other end. So no sender is ' +
    'measured, only processor time of the gateway, and a driver that costs less than any real one. Rounds of ' +
    '100,000 packets alternate. Other ports meet the rules and the empty table in one and the same namespace; the two lists of exempt ' +
    'prefixes are in two. Exempt sources lie in one prefix that both lists have, the shortest, about which is asked first; blocked ' +
    'ones are looked for in vain in all tables, which is the worst case.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  progress('compiling rules for 10 and for 1,000,000 prefixes')
  const many = await scriptFor(join(folder, 'many'), 1_000_000)
  const few = await scriptFor(join(folder, 'few'), 10)
  const labs: Lab[] = []
  try {
    const [large, small] = [await openLab(), await openLab()]
    labs.push(large, small)
    await load(large, readFileSync(many, 'utf8'))
    const elsewhere = await otherPorts(small, few, progress)
    await load(small, `flush ruleset\n${readFileSync(few, 'utf8')}`)
    return [
      elsewhere,
      await smtp(large, small, { who: 'exempt', traffic: TRAFFIC, goal: 1.2 }, progress),
      await smtp(large, small, { who: 'blocked', traffic: BLOCKED, goal: 1.2 }, progress),
      // Every packet from another source is the worst for the processor's caches; this is closer to real mail.
      await smtp(
        large,
        small,
        { who: 'blocked', traffic: { ...BLOCKED, sources: 256 }, goal: null },
        progress,
      ),
    ]
  } finally {
    for (const lab of labs) await lab.close()
  }
}

async function otherPorts(lab: Lab, script: string, progress: Bench['progress']): Promise<Figure> {
  progress(`packets to another port, ${ROUNDS.otherPorts} rounds`)
  const inject = await openInjector(lab, { ...TRAFFIC, port: 587 })
  const ours = readFileSync(script, 'utf8')
  const found = await alternate(ROUNDS.otherPorts, {
    async ours() {
      await load(lab, `flush ruleset\n${ours}`)
      return inject(PACKETS)
    },
    async empty() {
      await load(lab, `flush ruleset\n${EMPTY}`)
      return inject(PACKETS)
    },
  })
  return {
    what: 'packets that are not for port 25',
    command: COMMAND,
    reference: 'a table with one empty base chain',
    ...summary(ratios(found.ours, found.empty)),
    unit: '×',
    detail: `${median(found.ours).toFixed(0)} ns a packet against ${median(found.empty).toFixed(0)} ns`,
    goal: 1.02,
  }
}

async function smtp(
  large: Lab,
  small: Lab,
  { who, traffic, goal }: { who: string; traffic: typeof TRAFFIC; goal: number | null },
  progress: Bench['progress'],
): Promise<Figure> {
  const what = `SYNs to port 25 from ${traffic.sources.toLocaleString('en')} ${who} sources`
  progress(`${what}, ${ROUNDS.smtp} rounds`)
  const smtp = { ...traffic, port: 25 }
  const [past, pastFew] = [await openInjector(large, smtp), await openInjector(small, smtp)]
  const found = await alternate(ROUNDS.smtp, { many: () => past(PACKETS), few: () => pastFew(PACKETS) })
  return {
    what: `${what}, past 1,000,000 exempt prefixes of 8 lengths`,
    command: COMMAND,
    reference: 'the same with 10 prefixes of 8 lengths',
    ...summary(ratios(found.many, found.few)),
    unit: '×',
    detail: `${median(found.many).toFixed(0)} ns a packet against ${median(found.few).toFixed(0)} ns`,
    goal,
  }
}

/** The path of the nft script for so many exempt prefixes. */
async function scriptFor(directory: string, count: number): Promise<string> {
  writeList(directory, [EXEMPT, ...randomPrefixes(count - 1, OTHER_LENGTHS)])
  const path = `${directory}.nft`
  await compileTo(path, directory)
  return path
}

async function load(lab: Lab, script: string): Promise<void> {
  const { code, stderr } = await lab.exec(lab.gateway, ['nft', '-f', '-'], {
    input: script,
    timeoutMs: 120_000,
  })
  if (code !== 0) throw new Error(`nft: ${stderr.trim()}`)
}
