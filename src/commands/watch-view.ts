/** What `egress25 watch` shows, as lines of a screen. Pure: what is known goes in, and how large the screen is. */
import type { IncidentBody } from '../detect/incident-body.ts'
import { ago, coloured, type Style, visible } from './table.ts'

export interface WatchState {
  readonly gateway: string
  readonly inSync: boolean
  readonly listening: boolean
  readonly total: number
  readonly lost: number
  readonly warnings: number
  /** Attempts in each of the last seconds, the latest last. */
  readonly perSecond: readonly number[]
  readonly sources: readonly {
    readonly source: string
    readonly attempts: number
    readonly destinations: number
    readonly last_seen: string
  }[]
  readonly incidents: readonly IncidentBody[]
  /** The latest attempts, the newest first. */
  readonly recent: readonly {
    readonly time: string
    readonly source: string
    readonly destination: string
    readonly verdict: string
  }[]
  /** Why the service cannot be asked; null while it can. */
  readonly trouble: string | null
}

export interface Screen {
  readonly columns: number
  readonly rows: number
}

const BARS = ' ▁▂▃▄▅▆▇█'

/** Exactly as many lines as the screen has, none longer than it is wide. */
export function renderWatch(state: WatchState, { columns, rows }: Screen, now: number): string[] {
  const now_ = state.perSecond.at(-1) ?? 0
  const health: [string, Style] =
    state.trouble !== null
      ? [state.trouble, 'red']
      : !state.inSync
        ? ['NOT IN SYNC with the kernel', 'red']
        : !state.listening
          ? ['in sync, but not listening: attempts are counted only', 'yellow']
          : ['in sync, listening', 'green']
  const head = [
    line(columns, [`egress25  ${state.gateway}`, 'bold'], [`  ${health[0]}`, health[1]]),
    line(
      columns,
      [`${now_}/s  `, now_ > 0 ? 'red' : null],
      [sparkline(state.perSecond, Math.max(10, Math.min(60, columns - 50))), null],
      [`  ${state.total} attempts, ${state.lost} without detail`, 'dim'],
    ),
    ...(state.warnings === 0
      ? []
      : [line(columns, [`${state.warnings} warnings: egress25 status names them`, 'yellow'])]),
    '',
  ]
  const free = Math.max(0, rows - head.length - 1)
  const each = Math.max(2, Math.floor(free / 3))
  const incidents = block(
    `open incidents (${state.incidents.length})`,
    state.incidents.map(({ kind, source, summary }) =>
      line(
        columns,
        [`${kind.padEnd(21)} `, kind === 'misconfigured-client' ? 'yellow' : 'red'],
        [`${source.padEnd(20)} `, 'bold'],
        [summary, null],
      ),
    ),
    each,
    columns,
  )
  const sources = block(
    'most attempts today',
    state.sources.map(({ source, attempts, destinations, last_seen }) =>
      line(
        columns,
        [`${source.padEnd(42)} `, 'bold'],
        [`${String(attempts).padStart(9)} attempts at ${destinations} destinations, `, null],
        [ago(last_seen, now), 'dim'],
      ),
    ),
    each,
    columns,
  )
  const recent = block(
    'latest',
    state.recent.map(({ time, source, destination, verdict }) =>
      line(
        columns,
        [`${time.slice(11, 19)} `, 'dim'],
        [`${source} → ${destination} `, null],
        [verdict, verdict === 'allow' ? 'green' : verdict === 'observe' ? 'yellow' : 'red'],
      ),
    ),
    Math.max(2, free - 2 * each),
    columns,
  )
  const body = [...head, ...incidents, ...sources, ...recent].slice(0, rows - 1)
  while (body.length < rows - 1) body.push('')
  return [...body, line(columns, ['q quits', 'dim'])]
}

/** A heading and what fits below it, always as many lines. */
function block(heading: string, lines: readonly string[], height: number, columns: number): string[] {
  const shown = lines.slice(0, height - 1)
  return [
    line(columns, [heading.toUpperCase(), 'dim']),
    ...shown,
    ...Array<string>(height - 1 - shown.length).fill(''),
  ]
}

/** Pieces of text that together are no longer than the screen is wide. */
function line(columns: number, ...pieces: readonly (readonly [string, Style | null])[]): string {
  let left = columns
  return pieces
    .map(([text, style]) => {
      const shown = [...visible(text)].slice(0, left).join('')
      left -= [...shown].length
      return coloured(shown, style)
    })
    .join('')
}

function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width)
  const most = Math.max(1, ...shown)
  return shown
    .map((value) => BARS[value === 0 ? 0 : Math.max(1, Math.round((value / most) * (BARS.length - 1)))])
    .join('')
    .padStart(width)
}
