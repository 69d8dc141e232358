/** The picture of a series, in the colours of the page. */
import UPlot from 'uplot'
import type { Series } from './answers.ts'
import { formatDay, formatNumber, formatTime } from './words.ts'

export interface Drawing {
  show(series: Series): void
  remove(): void
}

const DAY = 86_400
const SECONDS = { minute: 60, hour: 3_600, day: DAY, week: 7 * DAY } as const

export function drawing(place: HTMLElement): Drawing {
  const root = document.documentElement
  const property = (name: string) => getComputedStyle(root).getPropertyValue(name).trim()
  const text = Number.parseFloat(getComputedStyle(root).fontSize) * 0.8
  const axis: UPlot.Axis = {
    stroke: () => property('--soft'),
    grid: { stroke: () => property('--line'), width: 1 },
    ticks: { show: false },
    font: `${text}px system-ui, sans-serif`,
  }
  let span: [number, number] = [0, 1]
  const plot = new UPlot(
    {
      ...sizeOf(place),
      legend: { show: false },
      cursor: { show: false },
      padding: [text / 2, text / 2, 0, 0],
      scales: { x: { range: () => span }, y: { range: (_, __, most) => [0, Math.max(4, most * 1.05)] } },
      axes: [
        {
          ...axis,
          size: text * 2.2,
          space: text * 6,
          grid: { show: false },
          values: (_, times) => labels(times),
        },
        { ...axis, size: text * 4, space: text * 3, values: (_, counts) => counts.map(countLabel) },
      ],
      series: [
        {},
        {
          stroke: () => property('--bar'),
          fill: () => property('--bar'),
          width: 0,
          points: { show: false },
          paths: UPlot.paths.bars?.({ size: [0.8, 60], align: 1 }) as UPlot.Series.PathBuilder,
        },
      ],
    },
    [[], []],
    place,
  )
  const observer = new ResizeObserver(() => plot.setSize(sizeOf(place)))
  observer.observe(place)
  const scheme = matchMedia('(prefers-color-scheme: dark)')
  const redraw = () => plot.redraw()
  scheme.addEventListener('change', redraw)
  return {
    show({ points, step }) {
      const [first = '', last = ''] = [points[0]?.time, points.at(-1)?.time]
      // A bar begins at its time, and the last one needs room, too.
      span = [Date.parse(first) / 1000, Date.parse(last) / 1000 + SECONDS[step]]
      plot.setData([
        points.map(({ time }) => Date.parse(time) / 1000),
        points.map(({ attempts }) => attempts),
      ])
    },
    remove() {
      observer.disconnect()
      scheme.removeEventListener('change', redraw)
      plot.destroy()
    },
  }
}

const sizeOf = ({ clientWidth, clientHeight }: HTMLElement) => ({ width: clientWidth, height: clientHeight })

/** Days when ticks are a day apart, else times of the day. */
function labels(times: readonly number[]): string[] {
  const [first = 0, second = first] = times
  const format = second - first >= DAY ? formatDay : formatTime
  return times.map((time) => format(time * 1000))
}

/** There are no half attempts. */
const countLabel = (count: number): string => (Number.isInteger(count) ? formatNumber(count) : '')
