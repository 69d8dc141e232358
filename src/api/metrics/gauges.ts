/** Gauges that are read when they are asked for. */
import { Gauge, type Registry } from 'prom-client'

/** Makes them for a registry: `collect` sets their values at each scrape. */
export function gaugesOf(registry: Registry) {
  return <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (gauge: Gauge<L>) => void,
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        collect(this)
      },
    })
}
