/** A golden case held against the reference verdict and, with real connections, against the kernel. */
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { decide } from '../../src/policy/decide.ts'
import { formatDiagnostic, hasErrors } from '../../src/policy/diagnostic.ts'
import { formatPrefix } from '../../src/policy/prefix.ts'
import { learnedSet } from '../../src/watch/source-counters.ts'
import type { Compiled, GoldenCase, GoldenPacket, Outcome } from './cases.ts'
import { type Buckets, type Expected, expectationOf } from './expectation.ts'
import { attemptOf, type Field, isGateway, isOutbound } from './field.ts'

/** One thing that must hold: what is found is what is wanted. */
export interface Finding {
  readonly what: string
  readonly found: unknown
  readonly wanted: unknown
}

/** All that a case promises, with what was found. */
export async function replay(field: Field, golden: GoldenCase, now: number): Promise<Finding[]> {
  const { compiled, diagnostics, packets, expected } = golden
  const errors = diagnostics.filter((one) => hasErrors([one])).map(formatDiagnostic)
  const findings: Finding[] = [{ what: 'loads without errors', found: errors, wanted: [] }]
  if (compiled === null) return findings
  const { model, gateway, ruleset, text } = compiled
  findings.push({
    what: 'compiles to expected.nft; scripts/golden-update rewrites it',
    found: text,
    wanted: expected,
  })

  const decided = packets.map((packet) => decide(model, asSeen(packet, compiled), now).verdict)
  findings.push({
    what: 'decide() agrees',
    found: label(packets, decided),
    wanted: label(
      packets,
      packets.map(({ verdict }) => verdict),
    ),
  })
  // What the case before has taught the kernel is none of this one's.
  await field.nft.apply('table inet egress25\ndelete table inet egress25\n')
  const { how } = await new Enforcer(field.nft, null).apply(ruleset)
  findings.push({ what: 'the kernel takes it', found: how, wanted: 'replacement' })

  const buckets: Buckets = new Map()
  const expectations = packets.map((packet) => expectationOf(model, gateway, packet, now, buckets))
  findings.push({
    what: 'what is expected follows from the verdicts',
    found: label(packets, expectations.map(outcomeOf)),
    wanted: label(
      packets,
      packets.map(({ expect }, index) => expect ?? outcomeOf(expectations[index]!)),
    ),
  })
  await field.accepted(0)
  const outcomes = await sendAll(field, packets, expectations)
  findings.push({
    what: 'and so do real packets',
    found: label(packets, outcomes),
    wanted: label(packets, expectations.map(outcomeOf)),
  })
  const arrivals = packets.flatMap((packet, index) => {
    const { outcome, at } = expectations[index]!
    return outcome === 'passes' ? [`${packet.from} > ${formatPrefix(at)} ${packet.port}`] : []
  })
  findings.push({
    what: 'which arrive where they should',
    found: await field.accepted(outcomes.filter((outcome) => outcome === 'connected').length),
    wanted: arrivals.sort(),
  })
  findings.push(...(await counters(field, compiled, expectations)))
  return findings
}

async function counters(
  field: Field,
  { ruleset }: Compiled,
  expectations: readonly Expected[],
): Promise<Finding[]> {
  const wanted = new Map<string, number>()
  const uncertain = new Set<string>()
  for (const { outcome, counted } of expectations) {
    for (const name of counted) {
      wanted.set(name, (wanted.get(name) ?? 0) + 1)
      if (outcome === 'dropped') uncertain.add(name)
    }
  }
  const totals = (await field.nft.readState())?.totals
  const found = new Map<string, number>()
  for (const { id, what } of ruleset.totals) found.set(Object.values(what).join(' '), totals?.get(id) ?? 0)
  // What came of connections is counted, too, and is no attempt.
  for (const set of ruleset.learned.filter(({ name }) => learnedSet(name) !== null)) {
    for (const [address, count] of await field.counters(set.name)) found.set(`${set.name} ${address}`, count)
  }
  const sure = (map: Map<string, number>) =>
    Object.fromEntries([...map].filter(([name, count]) => count > 0 && !uncertain.has(name)).sort())
  return [
    {
      what: 'every attempt is counted, and for its source, and nothing else',
      found: sure(found),
      wanted: sure(wanted),
    },
    // A packet that nobody answers may have been sent again, so of these it is known only that there were some.
    {
      what: 'what nobody answers is counted at least as often as it was tried',
      found: [...uncertain].filter((name) => (found.get(name) ?? 0) < (wanted.get(name) ?? 0)),
      wanted: [],
    },
  ]
}

/** A packet with what only the gateway can know of it. */
function asSeen(packet: GoldenPacket, { gateway }: Compiled) {
  const user = isGateway(packet.source) ? packet.user : null
  return { ...packet, user, outbound: isOutbound(packet.destination, gateway.outsideInterfaces) }
}

function outcomeOf({ outcome }: Expected): Outcome {
  return ({ passes: 'connected', reset: 'reset', dropped: 'timeout' } as const)[outcome]
}

/** In their order, because rates depend on it; those that will wait in vain wait beside the others. */
async function sendAll(
  field: Field,
  packets: readonly GoldenPacket[],
  expectations: readonly Expected[],
): Promise<string[]> {
  const outcomes: Promise<string>[] = []
  for (const [index, packet] of packets.entries()) {
    const probe = await field.probe(packet.source, packet.user)
    const outcome = probe.connect(attemptOf(packet))
    outcomes.push(outcome)
    if (expectations[index]?.outcome !== 'dropped') await outcome
  }
  return Promise.all(outcomes)
}

/** One line for each packet, so that a difference says which. */
function label(packets: readonly GoldenPacket[], words: readonly string[]): string[] {
  return packets.map(({ from, to, port, user }, index) => {
    const by = user === null ? from : `${user}@${from}`
    return `${by} to ${to} port ${port}: ${words[index]}`
  })
}
