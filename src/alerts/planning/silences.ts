/** Silences of the configuration and those that people make: which holds for news, and how much each has swallowed. */

import { formatPrefix, parsePrefix } from '../../policy/prefix.ts'
import type { AlertSilences } from '../../store/alert-silences.ts'
import type { Facts } from './facts.ts'
import { isSilencedBy, type Silence } from './silence.ts'

export interface KnownSilence extends Silence {
  /** Whether the configuration has it: then only the configuration can end it. */
  readonly isConfigured: boolean
  /** News that was not told because of it. */
  readonly silenced: number
}

/** More of them are no maintenance, but a channel that should be removed. */
const MOST = 1_000

export class TooManySilencesError extends Error {}

export class Silences {
  readonly #store: AlertSilences
  readonly #configured: readonly Silence[]
  readonly #made: Map<string, Silence>

  constructor(store: AlertSilences, configured: readonly Silence[]) {
    this.#store = store
    this.#configured = configured
    this.#made = new Map(store.all().map((body) => [idOf(body), parse(body)]))
  }

  /** Of the first that holds; null: none does. */
  holding(channel: string, facts: Facts, now: number): string | null {
    for (const one of this.#configured) if (isSilencedBy(one, channel, facts, now)) return one.id
    for (const one of this.#made.values()) if (isSilencedBy(one, channel, facts, now)) return one.id
    return null
  }

  list(): KnownSilence[] {
    const counts = this.#store.silenced()
    const known = (isConfigured: boolean) => (one: Silence) => ({
      ...one,
      isConfigured,
      silenced: counts.get(one.id) ?? 0,
    })
    return [...this.#configured.map(known(true)), ...[...this.#made.values()].map(known(false))]
  }

  get(id: string): KnownSilence | null {
    return this.list().find((one) => one.id === id) ?? null
  }

  /** @throws TooManySilencesError */
  add(silence: Silence): void {
    if (this.#made.size >= MOST) throw new TooManySilencesError(`there are ${MOST} silences already`)
    this.#save(silence)
  }

  /** Ends it now; what it has swallowed is still counted. null: there is none of that id that people have made. */
  end(id: string, now: number): Silence | null {
    const silence = this.#made.get(id)
    if (silence === undefined) return null
    const ended = { ...silence, from: Math.min(silence.from, now), until: Math.min(silence.until, now) }
    this.#save(ended)
    return ended
  }

  prune(before: number): void {
    this.#store.prune(before)
    for (const { id, until } of this.#made.values()) if (until < before) this.#made.delete(id)
  }

  #save(silence: Silence): void {
    this.#store.save(silence.id, silence.until, serialize(silence))
    this.#made.set(silence.id, silence)
  }
}

function serialize(silence: Silence): string {
  const { concern, ...rest } = silence
  return JSON.stringify({ ...rest, concern: { ...concern, networks: concern.networks.map(formatPrefix) } })
}

function parse(body: string): Silence {
  const { concern, ...rest } = JSON.parse(body)
  const networks = (concern.networks as string[]).flatMap((text) => {
    const prefix = parsePrefix(text)
    return typeof prefix === 'string' ? [] : [prefix]
  })
  return { ...rest, concern: { ...concern, networks } }
}

function idOf(body: string): string {
  return String(JSON.parse(body).id)
}
