/** The labelled corpus: so many hosts of each class, made anew from a seed whenever somebody needs them. */
import { MODELS } from './models.ts'
import { nameOf, receivedBy } from './network.ts'
import { seeded } from './random.ts'
import type { CorpusOptions, LabelledHost } from './types.ts'

/** The same options give the same hosts with the same connections. Connections are made while they are read. */
export function* corpus({ seed, half, hosts, start, blocked }: CorpusOptions): Generator<LabelledHost> {
  const random = seeded(seed).fork(half)
  let number = 0
  for (const model of MODELS) {
    for (let i = 0; i < hosts; i++, number++) {
      const own = () => random.fork(`${model.label} ${i}`)
      const address = addressOf(model.family, number)
      const stage = () => ({ random: own(), half, address, start, blocked })
      const offset = model.misbehaves(stage())
      const traits = own().fork('traits')
      yield {
        label: model.label,
        machine: model.family === 6 ? `${address}/64` : address,
        exempt: model.exempt,
        received: receivedBy(model, half, traits.fork('received')),
        name: nameOf(model, half, address, traits.fork('name')),
        since: offset === null ? null : start + offset,
        connections: { [Symbol.iterator]: () => model.connections(stage()) },
      }
    }
  }
}

/** An IPv4 address each, or a /64. */
function addressOf(family: 4 | 6, number: number): string {
  if (family === 6) return `2001:db8:100:${(number + 1).toString(16)}::`
  return `100.64.${number >> 8}.${number & 255}`
}
