/** The golden cases, by text and by real packets: what is compiled, what is decided, and what the kernel does. */
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { sourcesSet } from '../../src/compile/compile-policies.ts'
import type { TotalOf } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { decide, governingPolicy, verdictOf } from '../../src/policy/decide.ts'
import { formatDiagnostic, hasErrors } from '../../src/policy/diagnostic.ts'
import type { Model } from '../../src/policy/model.ts'
import { formatAddress, truncate } from '../../src/policy/prefix.ts'
import { caseNames, expectedFile, type GoldenPacket, type Outcome, readCase } from '../golden/cases.ts'
import { arrival, attemptOf, type Field, openField } from '../golden/field.ts'

const NOW = Date.now()

const field = await openField()
t.teardown(() => field.close())

const names = await caseNames()
t.ok(names.length >= 12, `${names.length} golden cases`)

for (const name of names) {
  t.test(name, async (t) => {
    const { compiled, diagnostics, packets } = await readCase(name, NOW)
    t.notOk(hasErrors(diagnostics), 'loads without errors', { found: diagnostics.map(formatDiagnostic) })
    if (compiled === null) return
    const { model, ruleset, text } = compiled
    const expected = await readFile(expectedFile(name), 'utf8')
    t.equal(text, expected, 'compiles to expected.nft; scripts/golden-update rewrites it')
    t.equal(compiledAgain(await readCase(name, NOW + 86_400_000)), text, 'whenever it is compiled')

    const decided = packets.map((packet) => decide(model, packet, NOW).verdict)
    t.strictSame(label(packets, decided), label(packets, verdicts(packets)), 'decide() agrees')

    const { how } = await new Enforcer(field.nft, null).apply(ruleset)
    t.equal(how, 'replacement', 'the kernel takes it')
    await field.accepted(0)
    const outcomes = await sendAll(field, model, packets)
    const wanted = packets.map((packet) => outcomeOf(model, packet))
    t.strictSame(label(packets, outcomes), label(packets, wanted), 'and so do real packets')
    const arrivals = packets.flatMap((packet, index) =>
      outcomes[index] === 'connected' ? [arrivalOf(model, packet)] : [],
    )
    t.strictSame(await field.accepted(arrivals.length), arrivals.sort(), 'which arrive where they should')

    const state = await field.nft.readState()
    const counted = ruleset.totals.map(({ id, what }) => [nameOf(what), state?.totals.get(id) ?? 0] as const)
    const { totals, sources, uncertain } = expectedCounts(model, packets, outcomes)
    const sure = (map: Iterable<readonly [string, number]>) =>
      Object.fromEntries([...map].filter(([key, count]) => count > 0 && !uncertain.has(key)).sort())
    t.strictSame(sure(counted), sure(totals), 'every attempt is counted, and nothing else')
    for (const set of ruleset.learned.filter(({ holds }) => holds === 'counter')) {
      const found = [...(await field.counters(set.name))].map(
        ([address, count]) => [`${set.name} ${address}`, count] as const,
      )
      const want = [...sources].filter(([key]) => key.startsWith(`${set.name} `))
      t.strictSame(sure(found), sure(want), `and counted for its source in ${set.name}`)
    }
    // A packet that nobody answers may have been sent again, so of these it is known only that there were some.
    for (const [key, count] of counted.filter(([key]) => uncertain.has(key))) {
      t.ok(count >= (totals.get(key) ?? 0), `${key} is counted at least as often as it was tried`)
    }
  })
}

function compiledAgain({ compiled }: Awaited<ReturnType<typeof readCase>>): string | undefined {
  return compiled?.text
}

function outcomeOf(model: Model, { source, verdict, expect }: GoldenPacket): Outcome {
  if (expect !== null) return expect
  if (verdict !== 'block') return 'connected'
  return governingPolicy(model, source)?.policy.action === 'drop' ? 'timeout' : 'reset'
}

/** The reference verdict does not know what is not outbound: that is said by `expect`, and goes where it was meant to. */
function arrivalOf(model: Model, packet: GoldenPacket): string {
  return arrival(packet, decide(model, packet, NOW))
}

/** In their order, because rates depend on it; those that will wait in vain wait beside the others. */
async function sendAll(field: Field, model: Model, packets: readonly GoldenPacket[]): Promise<string[]> {
  const send = async (packet: GoldenPacket) =>
    (await field.probe(packet.source, packet.user)).connect(attemptOf(packet))
  const outcomes: Promise<string>[] = []
  for (const packet of packets) {
    const outcome = send(packet)
    outcomes.push(outcome)
    if (outcomeOf(model, packet) !== 'timeout') await outcome
  }
  return Promise.all(outcomes)
}

/** What the kernel must have counted, given what became of the packets. */
function expectedCounts(model: Model, packets: readonly GoldenPacket[], outcomes: readonly string[]) {
  const totals = new Map<string, number>()
  const sources = new Map<string, number>()
  const uncertain = new Set<string>()
  for (const [index, packet] of packets.entries()) {
    if (packet.port !== 25) continue
    const outcome = outcomes[index]
    const count = (map: Map<string, number>, key: string) => {
      map.set(key, (map.get(key) ?? 0) + 1)
      if (outcome === 'timeout') uncertain.add(key)
    }
    const { because } = decide(model, packet, NOW)
    const governing = governingPolicy(model, packet.source)
    if (governing !== null && (outcome !== 'connected' || ['observe', 'redirect'].includes(packet.verdict))) {
      const { name, thresholds } = governing.policy
      const machine =
        packet.source.family === 4 ? packet.source : truncate(packet.source, thresholds.ipv6Prefix)
      const verdict = outcome === 'connected' ? verdictOf(governing.policy, packet.source.family) : 'block'
      count(totals, nameOf({ of: 'attempts', policy: name, verdict }))
      count(totals, nameOf({ of: 'logged' }))
      count(sources, `${sourcesSet(machine)} ${formatAddress(machine)}`)
    } else if (because === 'exemption') count(totals, nameOf({ of: 'allowed', because }))
    else if (because.startsWith('relay-')) count(totals, nameOf({ of: 'allowed', because: 'relay' }))
  }
  return { totals, sources, uncertain }
}

function nameOf(what: TotalOf): string {
  return Object.values(what).join(' ')
}

function verdicts(packets: readonly GoldenPacket[]): string[] {
  return packets.map(({ verdict }) => verdict)
}

/** One line for each packet, so that a difference says which. */
function label(packets: readonly GoldenPacket[], words: readonly string[]): string[] {
  return packets.map(({ from, to, port, user }, index) => {
    const sender = user === null ? from : `${user}@${from}`
    return `${sender} to ${to} port ${port}: ${words[index]}`
  })
}
