/** `egress25 attempts` and `egress25 sources`: who tried port 25, one by one and by machine. */
import { ask, type Common, query } from './ask.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, coloured, printRows, visible, wantsJson } from './table.ts'

interface Attempt {
  readonly time: string
  readonly source: string
  readonly source_port: number
  readonly destination: string
  readonly policy: string | null
  readonly verdict: string
}

interface Machine {
  readonly source: string
  readonly policy: string | null
  readonly attempts: number
  readonly destinations: number
  readonly last_seen: string
}

interface Source {
  readonly source: string
  readonly policy: string | null
  readonly attempts: number
  readonly first_seen: string | null
  readonly last_seen: string | null
  readonly incidents: readonly { readonly id: string; readonly kind: string; readonly summary: string }[]
  readonly destinations: readonly { readonly destination: string; readonly attempts: number }[] | null
}

export interface AttemptOptions extends Common {
  readonly source?: string
  readonly policy?: string
  readonly verdict?: string
  readonly limit?: string
}

export async function listAttempts({ json, config, limit = '50', ...of }: AttemptOptions): Promise<Exit> {
  const { source, policy, verdict } = of
  const path = `/v1/attempts${query({ source, policy, verdict, limit })}`
  const answer = await ask<{ items: Attempt[] }>({ json, config }, { path })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, ATTEMPTS, { json, none: 'no attempts' })
  return EXIT.done
}

export interface SourceOptions extends Common {
  readonly policy?: string
  readonly limit?: string
}

/** The machines with the most attempts. */
export async function listSources({ json, config, policy, limit = '50' }: SourceOptions): Promise<Exit> {
  const path = `/v1/sources${query({ policy, limit })}`
  const answer = await ask<{ items: Machine[] }>({ json, config }, { path })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, MACHINES, { json, none: 'no machine has tried port 25' })
  return EXIT.done
}

/** What one machine did. */
export async function showSource(address: string, common: Common): Promise<Exit> {
  const answer = await ask<Source>(common, { path: `/v1/sources/${encodeURIComponent(address)}` })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else for (const line of details(answer.body)) print(line)
  return EXIT.done
}

const ATTEMPTS: readonly Column<Attempt>[] = [
  { title: 'time', text: ({ time }) => time, style: () => 'dim' },
  {
    title: 'source',
    text: ({ source, source_port }) => `${source} port ${source_port}`,
    style: () => 'bold',
  },
  { title: 'destination', text: ({ destination }) => destination },
  {
    title: 'verdict',
    text: ({ verdict }) => verdict,
    style: ({ verdict }) => (verdict === 'allow' ? 'green' : verdict === 'observe' ? 'yellow' : 'red'),
  },
  { title: 'policy', text: ({ policy }) => policy ?? '' },
]

const MACHINES: readonly Column<Machine>[] = [
  { title: 'source', text: ({ source }) => source, style: () => 'bold' },
  { title: 'attempts', text: ({ attempts }) => String(attempts) },
  { title: 'destinations', text: ({ destinations }) => String(destinations) },
  { title: 'policy', text: ({ policy }) => policy ?? '' },
  { title: 'last seen', text: ({ last_seen }) => ago(last_seen, Date.now()) },
]

function details({
  source,
  policy,
  attempts,
  first_seen,
  last_seen,
  incidents,
  destinations,
}: Source): string[] {
  const rows: [string, string][] = [
    ['source', source],
    ['policy', policy ?? 'none governs it'],
    ['attempts', `${attempts}, by the kernel's count`],
    ['seen', first_seen === null ? 'never' : `${first_seen} to ${last_seen}`],
    ...(destinations ?? []).map((to): [string, string] => ['', `${to.attempts} × ${to.destination}`]),
    ...incidents.map(({ id, kind, summary }): [string, string] => ['incident', `${id} ${kind}: ${summary}`]),
  ]
  return rows.map(([name, value]) => `${coloured(name.padEnd(8), 'dim')}  ${visible(value)}`)
}
