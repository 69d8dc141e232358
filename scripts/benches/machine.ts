// The machine that a figure was taken on: without it, a figure says little.
import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'

export interface Machine {
  /** ISO 8601, the day. */
  readonly date: string
  readonly cores: number
  readonly processor: string
  readonly memoryGiB: number
  readonly kernel: string
  readonly nft: string
  readonly node: string
  /** Processes that wanted to run just before: much above 0, and the machine was not quiet. */
  readonly load: number
}

export function thisMachine(): Machine {
  const [cpu] = cpus()
  const nft = execFileSync('nft', ['--version'], { encoding: 'utf8' })
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: cpus().length,
    processor: cpu?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    nft: /v[\d.]+/.exec(nft)?.[0] ?? nft.trim(),
    node: process.version,
    load: Math.round((loadavg()[0] ?? 0) * 10) / 10,
  }
}

export function describe({ date, cores, processor, memoryGiB, kernel, nft, node, load }: Machine): string {
  return (
    `${date}: ${cores} cores (${processor}), ${memoryGiB} GiB, Linux ${kernel}, nft ${nft}, Node.js ${node}; ` +
    `load before it ${load.toFixed(1)}`
  )
}
