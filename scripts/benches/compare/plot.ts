// A comparison as a picture: seconds over prefixes, both on logarithmic scales, a panel for each task.
import { type Compared, unique } from './tables.ts'

const PANEL = { width: 420, height: 300, left: 64, top: 44, gap: 76 }
const FOOT = 84
/** Told apart by colour and by mark, for whoever sees few colours. */
const STYLES = [
  { colour: '#0b63b8', mark: (x: number, y: number) => `<circle cx="${x}" cy="${y}" r="5"/>` },
  {
    colour: '#b3401b',
    mark: (x: number, y: number) => `<rect x="${x - 5}" y="${y - 5}" width="10" height="10"/>`,
  },
  {
    colour: '#2f7d32',
    mark: (x: number, y: number) => `<path d="M${x} ${y - 6}l6 11h-12z"/>`,
  },
  {
    colour: '#7a3fa0',
    mark: (x: number, y: number) => `<path d="M${x} ${y - 7}l6 7-6 7-6-7z"/>`,
  },
] as const

/** An SVG document of its own. */
export function plot(figures: readonly Compared[]): string {
  const tasks = unique(figures.map(({ cell }) => cell.task))
  const programs = unique(figures.map(({ cell }) => cell.program))
  const sizes = unique(figures.map(({ cell }) => cell.prefixes))
  const limit = Math.max(
    0,
    ...figures.filter(({ cell }) => cell.outcome === 'over').map(({ result }) => result),
  )
  const shown = figures.filter(({ cell }) => cell.outcome === 'done' || cell.outcome === 'over')
  const x = scale(
    shown.map(({ cell }) => cell.prefixes),
    PANEL.width,
  )
  const y = scale(
    shown.map(({ result }) => result),
    PANEL.height,
  )
  const width = PANEL.left + tasks.length * PANEL.width + (tasks.length - 1) * PANEL.gap + 44
  const height = PANEL.top + PANEL.height + FOOT
  const panels = tasks.map((task, index) => {
    const left = PANEL.left + index * (PANEL.width + PANEL.gap)
    const px = (value: number) => round(left + x.at(value))
    const py = (value: number) => round(PANEL.top + PANEL.height - y.at(value))
    const grid = [
      ...y.ticks.map(
        (tick) =>
          `<path class="grid" d="M${left} ${py(tick)}h${PANEL.width}"/><text class="end" x="${left - 8}" y="${py(tick) + 4}">${seconds(tick)}</text>`,
      ),
      ...x.ticks.map(
        (tick) =>
          `<path class="grid" d="M${px(tick)} ${PANEL.top}v${PANEL.height}"/><text class="middle" x="${px(tick)}" y="${PANEL.top + PANEL.height + 18}">${tick.toLocaleString('en')}</text>`,
      ),
    ]
    const ceiling =
      limit === 0
        ? ''
        : `<path class="limit" d="M${left} ${py(limit)}h${PANEL.width}"/><text x="${left + 6}" y="${py(limit) - 6}">limit: ${limit} s</text>`
    const lines = programs.map((program, which) => {
      const { colour, mark } = styleOf(which)
      const points = shown
        .filter(({ cell }) => cell.task === task && cell.program === program)
        .map(({ cell, result }) => ({
          x: px(cell.prefixes),
          y: py(result),
          isOver: cell.outcome === 'over',
          at: sizes.indexOf(cell.prefixes),
        }))
      if (points.length === 0) return ''
      // No line leads past what could not be measured.
      const path = points
        .map((point, index) => {
          const isNext = points[index - 1]?.at === point.at - 1
          return `${isNext ? 'L' : 'M'}${point.x} ${point.y}`
        })
        .join('')
      const marks = points.map((point) =>
        point.isOver ? `<g fill="#fff">${mark(point.x, point.y)}</g>` : mark(point.x, point.y),
      )
      return `<g stroke="${colour}" fill="${colour}"><path class="line" d="${path}"/>${marks.join('')}</g>`
    })
    const title = `<text class="title" x="${left}" y="${PANEL.top - 18}">${task}: seconds, by prefixes</text>`
    return [title, ...grid, ceiling, ...lines].join('\n')
  })
  const legend = programs.map((program, which) => {
    const { colour, mark } = styleOf(which)
    const at = PANEL.left + which * 220
    const row = PANEL.top + PANEL.height + 52
    return `<g stroke="${colour}" fill="${colour}">${mark(at, row)}</g><text x="${at + 14}" y="${row + 4}">${program}</text>`
  })
  const note = `<text x="${PANEL.left}" y="${height - 8}">Hollow marks: ended at the limit.</text>`
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${tasks.join(' and ')}: seconds by the number of prefixes</title>
<style>
text { font: 13px sans-serif; fill: #222 } .title { font-weight: bold } .end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #ddd } .limit { stroke: #888; stroke-dasharray: 5 4 } .line { fill: none; stroke-width: 2 }
</style>
<rect width="${width}" height="${height}" fill="#fff"/>
${panels.join('\n')}
${legend.join('\n')}
${limit === 0 ? '' : note}
</svg>
`
}

/** From the power of ten below the smallest value to the one above the largest. */
function scale(values: readonly number[], length: number) {
  const logs = values.map((value) => Math.log10(value))
  const from = Math.floor(Math.min(...logs))
  const to = Math.max(from + 1, Math.ceil(Math.max(...logs)))
  return {
    at: (value: number) => ((Math.log10(value) - from) / (to - from)) * length,
    ticks: Array.from({ length: to - from + 1 }, (_, index) => 10 ** (from + index)),
  }
}

function styleOf(which: number) {
  return STYLES[which % STYLES.length] ?? STYLES[0]
}

function seconds(value: number): string {
  return value >= 1 ? `${value}` : value.toFixed(Math.round(-Math.log10(value)))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
