/** Which machines that really tried port 25 would meet another verdict. */
import type { Model } from '../policy/model.ts'
import { formatPrefix, type Prefix } from '../policy/prefix.ts'
import { type Verdict, verdictAt, verdictMap } from './verdict-map.ts'

/** A machine that tried port 25 lately, and how often. */
export interface TriedSource {
  readonly machine: Prefix
  readonly attempts: number
}

export interface TrafficChange {
  readonly from: Verdict
  readonly to: Verdict
  readonly machines: number
  readonly attempts: number
  /** Those that tried most. */
  readonly worst: readonly string[]
}

const MAX_WORST = 10

/** Towards destinations that no document names; `now` is in milliseconds since the epoch. */
export function trafficChanges(
  before: Model,
  after: Model,
  tried: readonly TriedSource[],
  now: number,
): TrafficChange[] {
  const maps = ([4, 6] as const).map((family) =>
    [before, after].map((model) => verdictMap(model, family, null, now)),
  )
  const groups = new Map<string, { from: Verdict; to: Verdict; sources: TriedSource[] }>()
  for (const source of tried) {
    const { family, address } = source.machine
    const [old, next] = maps[family === 4 ? 0 : 1] ?? []
    if (old === undefined || next === undefined) continue
    const [from, to] = [verdictAt(old, address), verdictAt(next, address)]
    if (from === to) continue
    const group = groups.get(`${from} ${to}`) ?? { from, to, sources: [] }
    group.sources.push(source)
    groups.set(`${from} ${to}`, group)
  }
  return [...groups.values()].map(({ from, to, sources }) => ({
    from,
    to,
    machines: sources.length,
    attempts: sources.reduce((sum, { attempts }) => sum + attempts, 0),
    worst: sources
      .sort((a, b) => b.attempts - a.attempts)
      .slice(0, MAX_WORST)
      .map(({ machine }) => formatPrefix(machine)),
  }))
}
