// How long port 25 is open after somebody else has changed our table.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openHttp } from '../lab/http.ts'
import { openLab } from '../lab/lab.ts'
import { egress25 } from './egress25.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, quantile, summary } from './rounds.ts'

const ROUNDS = 15
const API = 'http://127.0.0.1:7025'
const GOVERNED = { from: '100.64.1.2', to: '203.0.113.9', port: 25 }
const POLICY = 'kind: policy\nname: pool\nnetworks: [100.64.0.0/10, "2001:db8:100::/40"]\n'

/** What somebody does to our table, as arguments of nft. */
const DAMAGES = {
  'nft flush ruleset': ['flush', 'ruleset'],
  'nft delete table': ['delete', 'table', 'inet', 'egress25'],
  'nft flush chain, of the rules that find port 25': ['flush', 'chain', 'inet', 'egress25', 'forward'],
  'nft delete element, of the network that is governed': [
    'delete',
    'element',
    'inet',
    'egress25',
    'policy4-10',
    '{ 100.64.0.0 }',
  ],
} as const

type Damage = keyof typeof DAMAGES

export const heal: Measurement = {
  name: 'heal',
  title: 'Changes by others, put right',
  about:
    'Another program changes our table while the service runs: from the end of its nft until a connection of a governed ' +
    'machine, tried again and again, is refused. A service of its own for each, since the second change within two ' +
    'minutes is put right more slowly on purpose.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const directory = join(folder, 'policies')
  const config = join(folder, 'egress25.yaml')
  const state = join(folder, 'state')
  mkdirSync(directory)
  writeFileSync(join(directory, 'policy.yaml'), POLICY)
  writeFileSync(config, `policies: { directory: ${directory} }\nstate: { directory: ${state} }\n`)
  const lab = await openLab()
  try {
    const http = openHttp(lab, lab.gateway)
    const internet = await lab.probe(lab.internet)
    await internet.listen([25])
    const client = await lab.client()
    const secondsOpen = async (what: Damage) => {
      rmSync(state, { recursive: true, force: true })
      const service = lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], { stdio: 'ignore' })
      const ended = new Promise((resolve) => service.once('exit', resolve))
      await http.untilOk(`${API}/readyz`, 60_000)
      if ((await client.connect(GOVERNED)) !== 'reset') throw new Error('port 25 was open before')
      const { code, stderr } = await lab.exec(lab.gateway, ['nft', ...DAMAGES[what]])
      const damaged = performance.now()
      if (code !== 0) throw new Error(stderr)
      while ((await client.connect(GOVERNED)) !== 'reset') {
        if (performance.now() - damaged > 60_000) throw new Error(`${what} was not put right`)
      }
      const seconds = (performance.now() - damaged) / 1000
      service.kill('SIGTERM')
      await ended
      return seconds
    }
    progress(`${ROUNDS} rounds`)
    const damages = Object.keys(DAMAGES) as Damage[]
    const round = Object.fromEntries(damages.map((what) => [what, () => secondsOpen(what)]))
    const found = (await alternate(ROUNDS, round as Record<Damage, () => Promise<number>>)) as Record<
      Damage,
      number[]
    >
    return damages.map((what) => {
      const milliseconds = found[what].map((seconds) => seconds * 1000)
      return {
        what: `open after \`${what}\``,
        command: 'egress25 --config FILE serve',
        reference: null,
        ...summary(milliseconds),
        unit: 'ms',
        detail: `the longest ${quantile(milliseconds, 1).toFixed(0)} ms`,
        goal: 1_000,
      }
    })
  } finally {
    await lab.close()
  }
}
