/** Requests for exemptions, as they are kept, and as they are shown beside what is in force. */

import type { Caller } from '../../caller.ts'
import {
  type ExemptionRequest,
  type RequestEvent,
  type RequestState,
  type Stage,
  settled,
  stateOf,
} from '../../exemptions/exemption-request.ts'
import type { Model } from '../../policy/model.ts'
import type { ExemptionRequestStore, RequestQuery, StoredRequest } from '../../store/exemption-requests.ts'

export interface RequestBookOptions {
  readonly store: ExemptionRequestStore
  /** null: nobody knows. */
  readonly model: () => Model | null
  readonly now: () => number
  readonly onEvent: (request: ExemptionRequest, event: RequestEvent) => void
  /** What was done could not be written down; it is, with the next change or start. */
  readonly onUnwritable: (error: Error) => void
}

/** Whose exemptions are, or may be, in force. */
const LIVE: readonly Stage[] = ['approving', 'approved', 'revoking']

export class RequestBook {
  readonly #options: RequestBookOptions
  /** Ids of requests that wait for a decision: a scrape asks how many, and is no reason to read the database. */
  readonly #waiting = new Set<string>()
  readonly #live = new Map<string, Pick<ExemptionRequest, 'stage' | 'exemption'>>()
  /** Names of exemptions in force. */
  #known: { readonly model: Model; readonly names: ReadonlySet<string> } | null = null

  constructor(options: RequestBookOptions) {
    this.#options = options
    const stages: readonly Stage[] = ['requested', ...LIVE]
    for (const request of options.store.list({ stages, requester: null, limit: 1_000_000, after: null }))
      this.#remember(request)
  }

  /** How many wait for somebody's decision. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Requests whose exemptions are, or may be, in force, by their ids. */
  get live(): ReadonlyMap<string, Pick<ExemptionRequest, 'stage' | 'exemption'>> {
    return this.#live
  }

  find(id: string): ExemptionRequest | null {
    return this.#options.store.get(id)
  }

  list(query: RequestQuery): StoredRequest[] {
    return this.#options.store.list(query)
  }

  event(
    event: RequestEvent['event'],
    { by, reason }: { readonly by: Pick<Caller, 'name'>; readonly reason: string | null },
  ): RequestEvent {
    return { event, time: this.#options.now(), by: by.name, reason }
  }

  /** Durable when it returns. */
  keep(request: ExemptionRequest): void {
    this.#options.store.save(request)
    this.#remember(request)
  }

  /** The same, and told. */
  save(request: ExemptionRequest, event: RequestEvent): ExemptionRequest {
    this.keep(request)
    this.#options.onEvent(request, event)
    return request
  }

  /** The same of what is in force already, whether it can be written down or not. */
  finish(request: ExemptionRequest, event: RequestEvent): ExemptionRequest {
    try {
      this.keep(request)
    } catch (error) {
      this.#options.onUnwritable(error as Error)
    }
    this.#options.onEvent(request, event)
    return request
  }

  /** Whether its exemption is in force; where nobody knows what is, it is taken to be as it was. */
  isThere({ stage, exemption }: Pick<ExemptionRequest, 'stage' | 'exemption'>): boolean {
    const model = this.#options.model()
    if (model === null) return stage !== 'approving'
    if (this.#known?.model !== model)
      this.#known = { model, names: new Set(model.exemptions.map(({ name }) => name)) }
    return this.#known.names.has(exemption.name)
  }

  /** The request as it has come to be, and how it stands. @param lead as `stateOf` has it */
  shown(request: ExemptionRequest, lead: number): { request: ExemptionRequest; state: RequestState } {
    const isThere = this.isThere(request)
    const known = settled(request, isThere)
    return { request: known, state: stateOf(known, { now: this.#options.now(), lead, isThere }) }
  }

  #remember({ id, stage, exemption }: ExemptionRequest): void {
    if (stage === 'requested') this.#waiting.add(id)
    else this.#waiting.delete(id)
    if (LIVE.includes(stage)) this.#live.set(id, { stage, exemption })
    else this.#live.delete(id)
  }
}
