// Shows that the lab does what tests rely on, and how quickly: run it with Node 24, as root. Exit status 0 or 1.
import { type Lab, openLab } from './lab.ts'
import { namespaceNames } from './namespaces.ts'
import type { Attempt, Outcome, Probe } from './probe.ts'

const ways = [
  { what: 'subscriber to internet, IPv4', from: '100.64.1.2', to: '203.0.113.9' },
  { what: 'subscriber to internet, IPv6', from: '2001:db8:100::2', to: '2001:db8:ffff::9' },
  { what: 'subscriber to relay, IPv4', from: '100.64.1.2', to: '192.0.2.25' },
  { what: 'subscriber to relay, IPv6', from: '2001:db8:100::2', to: '2001:db8::25' },
]
const many = 2_000
let faults = 0

function check(what: string, good: boolean, detail: string): void {
  if (!good) faults++
  process.stdout.write(`${good ? '✓' : '✗'} ${what}: ${detail}\n`)
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const started = performance.now()
  return [await work(), performance.now() - started]
}

async function expectEverywhere(probe: Probe, state: string, expected: Outcome): Promise<void> {
  for (const { what, ...ends } of ways) {
    const outcome = await probe.connect({ ...ends, port: 25 })
    check(`${what}, ${state}`, outcome === expected, outcome)
  }
}

/** Gives the gateway one rule for everything that crosses it to port 25. */
async function rule(lab: Lab, verdict: string): Promise<void> {
  const table = `table inet check\ndelete table inet check\ntable inet check {
    chain forward {
      type filter hook forward priority 0
      tcp dport 25 ${verdict}
    }
  }`
  const { code, stderr } = await lab.exec(lab.gateway, ['nft', '-f', '-'], { input: table })
  if (code !== 0) throw new Error(stderr)
}

const [lab, openMs] = await timed(() => openLab())
check('a lab opens within a second', openMs < 1_000, `${openMs.toFixed(0)} ms`)
try {
  const [probe, internet, relays] = await Promise.all([
    lab.client(),
    lab.probe(lab.internet),
    lab.probe(lab.relays),
  ])
  await Promise.all([internet.listen([25]), relays.listen([25])])
  await internet.listen([2525], { echo: true })

  await expectEverywhere(probe, 'no rule', 'connected')
  const outward = await relays.connect({ from: '192.0.2.25', to: '203.0.113.9', port: 25 })
  check('relay to internet', outward === 'connected', outward)
  await internet.accepted()

  const attempts: Attempt[] = Array.from({ length: many }, (_, n) => ({
    from: `100.64.${n >> 8}.${n & 255}`,
    to: `203.0.113.${(n % 250) + 1}`,
    port: 25,
  }))
  const [outcomes, ms] = await timed(() => probe.connectAll(attempts))
  const connected = outcomes.filter((outcome) => outcome === 'connected').length
  const seen = (await internet.accepted()).reduce((sum, { connections }) => sum + connections, 0)
  const rate = Math.round((many / ms) * 1_000)
  check(
    'all connect, and are seen on the other side',
    connected === many && seen === many,
    `${seen} of ${many}`,
  )
  check('at least 1,000 connections a second', rate >= 1_000, `${rate} a second`)

  const held = await probe.hold({ from: '100.64.1.2', to: '203.0.113.9', port: 2525 })
  const before = await probe.send(held)
  check('a held connection answers', before === 'ok', before)

  await rule(lab, 'reject with tcp reset')
  await expectEverywhere(probe, 'reject', 'reset')
  await rule(lab, 'drop')
  await expectEverywhere(probe, 'drop', 'timeout')

  await rule(lab, 'accept\ntcp dport 2525 reject with tcp reset')
  const after = await probe.send(held)
  check('a held connection is cut', after === 'reset', `${after} ${JSON.stringify(await probe.cut(held))}`)
} finally {
  await lab.close()
}
const left = namespaceNames().filter((name) => name.startsWith(lab.id))
check('nothing is left behind', left.length === 0, left.join(' ') || 'nothing')
process.exitCode = faults === 0 ? 0 : 1
