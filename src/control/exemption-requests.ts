/** The way from a wish to an exemption: asked for, approved or refused, in force, and at last over. */
import { randomBytes } from 'node:crypto'
import type { Caller } from '../caller.ts'
import type { Incident } from '../detect/incident.ts'
import { parseDuration } from '../policy/formats.ts'
import type { Model } from '../policy/model.ts'
import { parsePrefix } from '../policy/prefix.ts'
import { PrefixSet } from '../policy/prefix-set.ts'
import type { ExemptionDocument } from '../policy/schema.ts'
import type { ExemptionRequestStore, RequestQuery, StoredRequest } from '../store/exemption-requests.ts'
import type { Controller, InForce } from './controller.ts'
import { type ExemptionRequest, type RequestEvent, requesterOf } from './exemption-request.ts'
import { graveIncidents, isGrave, newlyExempted, OpenIncidentError } from './infected-hosts.ts'

/** There is no such request, or none that the caller may see. */
export class NoRequestError extends Error {}

/** It is decided already, or somebody is about to. */
export class RequestDecidedError extends Error {}

/** Whoever asks may not be the one who approves. */
export class FourEyesError extends Error {}

/** It needs to be said why. */
export class ReasonRequiredError extends Error {}

export interface ExemptionRequestsOptions {
  readonly store: ExemptionRequestStore
  readonly controller: Pick<Controller, 'put' | 'delete' | 'inForce'>
  /** Whether somebody else than the one who asked must approve. */
  readonly fourEyes: boolean
  readonly openIncidents: () => readonly Incident[]
  readonly now: () => number
  readonly onEvent: (request: ExemptionRequest, event: RequestEvent) => void
}

export interface Decision {
  readonly by: Caller
  readonly reason: string | null
}

export interface Approval extends Decision {
  /** An open incident of the host is known, and does not matter. */
  readonly overrideIncident: boolean
}

/** What is said about open incidents of the hosts that a change exempts. */
export type Override = Pick<Approval, 'overrideIncident' | 'reason'>

export class ExemptionRequests {
  readonly #options: ExemptionRequestsOptions
  /** Requests that are being decided. */
  readonly #busy = new Set<string>()
  /** Ids of requests that wait for a decision: a scrape asks how many, and is no reason to read the database. */
  readonly #waiting = new Set<string>()
  /** Requests whose exemptions are, or may be, in force, by their ids. */
  readonly #live = new Map<string, Pick<ExemptionRequest, 'stage' | 'exemption'>>()
  readonly #because = new Map<string, string | null>()

  constructor(options: ExemptionRequestsOptions) {
    this.#options = options
    const stages = ['requested', 'approving', 'approved'] as const
    for (const request of options.store.list({ stages, requester: null, limit: 1_000_000, after: null }))
      this.#remember(request)
  }

  /** How many wait for somebody's decision. */
  get waiting(): number {
    return this.#waiting.size
  }

  list(query: RequestQuery): StoredRequest[] {
    return this.#options.store.list(query)
  }

  /** @throws NoRequestError also when it is somebody else's, and the caller may see none of those */
  get(id: string, by: Caller): ExemptionRequest {
    const found = this.#options.store.get(id)
    if (found === null || (by.role === 'requester' && requesterOf(found) !== by.name))
      throw new NoRequestError(`there is no request ${id}`)
    return found
  }

  /** The incidents that speak against it. */
  incidentsOf({ exemption }: Pick<ExemptionRequest, 'exemption'>): Incident[] {
    const open = this.#options.openIncidents().filter(isGrave)
    return open.length === 0 ? [] : graveIncidents(this.#sourcesOf(exemption), open)
  }

  /** Nothing comes into force. @param lasts such as `30d`; null: as the exemption says */
  ask(exemption: ExemptionDocument, lasts: string | null, by: Caller): ExemptionRequest {
    const event = this.#event('requested', { by, reason: exemption.reason ?? null })
    const id = randomBytes(5).toString('hex')
    return this.#save({ id, stage: 'requested', exemption, lasts, events: [event] }, event)
  }

  /**
   * Brings it into force.
   * @throws FourEyesError, RequestDecidedError, OpenIncidentError, ReasonRequiredError, or what a change throws; then
   *   it is still to be decided
   */
  async approve(id: string, { by, reason, overrideIncident }: Approval): Promise<ExemptionRequest> {
    const { controller, fourEyes, now } = this.#options
    return this.#decide(id, by, async (request) => {
      if (fourEyes && requesterOf(request) === by.name)
        throw new FourEyesError(`${by.name} asked for it, so somebody else must approve it`)
      const ends = request.lasts === null ? null : now() + (parseDuration(request.lasts) ?? 0)
      const exemption: ExemptionDocument = {
        ...request.exemption,
        ...(ends === null ? {} : { expires: new Date(ends).toISOString().replace(/\.\d+Z$/, 'Z') }),
      }
      // A change that goes alone after all, because the ones beside it were refused, is asked twice.
      let overrode: readonly string[] = []
      const deciding = { ...request, exemption, stage: 'approving' } as const
      this.#keep(deciding)
      try {
        await controller.put(exemption, {
          by,
          reason: reasonOf(request, reason),
          dryRun: false,
          mayGoAhead(current) {
            if (current !== null)
              throw new RequestDecidedError(
                `an exemption ${exemption.name} is there already; refuse this one`,
              )
          },
          mayBecome: (model) => {
            overrode = this.mayExempt(model, exemption.name, { overrideIncident, reason })
          },
        })
      } catch (error) {
        try {
          this.#keep(request)
        } catch {
          // Why it was not approved is what its caller has to hear; a request that nobody decides is undecided all the same.
        }
        throw error
      }
      const event = this.#event('approved', { by, reason }, overrode)
      return this.#save({ ...deciding, stage: 'approved', events: [...request.events, event] }, event)
    })
  }

  refuse(id: string, decision: Decision): Promise<ExemptionRequest> {
    return this.#decide(id, decision.by, async (request) => this.#end(request, 'refused', decision))
  }

  /** By the one who asked, or somebody who might have refused it. @throws NoRequestError or RequestDecidedError */
  withdraw(id: string, decision: Decision): Promise<ExemptionRequest> {
    return this.#decide(id, decision.by, async (request) => this.#end(request, 'withdrawn', decision))
  }

  /**
   * Whether an exemption may be, given the hosts that it covers. Answers the incidents that were overridden.
   * @throws OpenIncidentError or ReasonRequiredError
   */
  mayExempt(model: Model, name: string, override: Override): string[] {
    const exemption = model.exemptions.find((one) => one.name === name)
    const open = this.#options.openIncidents()
    return overridden(exemption === undefined ? [] : graveIncidents(exemption.sources, open), override)
  }

  /**
   * Whether the policies may become these, where a change of something else than an exemption brings exemptions back, or
   * makes them wider. Answers the incidents that were overridden.
   * @throws OpenIncidentError or ReasonRequiredError
   */
  mayBecome(model: Model, override: Override): string[] {
    const { controller, openIncidents, now } = this.#options
    return overridden(
      newlyExempted(controller.inForce?.model ?? null, model, openIncidents(), now()),
      override,
    )
  }

  /** Takes an exemption back that was approved. @throws NoRequestError, RequestDecidedError, or what a change throws */
  async revoke(id: string, { by, reason }: Decision): Promise<ExemptionRequest> {
    const request = this.get(id, by)
    if (request.stage !== 'approved') throw new RequestDecidedError(`request ${id} has no exemption in force`)
    this.#because.set(request.exemption.name, reason)
    try {
      await this.#options.controller.delete('exemption', request.exemption.name, {
        by,
        reason,
        dryRun: false,
        mayGoAhead() {},
      })
    } catch (error) {
      // It would be said of whoever revokes it another time.
      this.#because.delete(request.exemption.name)
      throw error
    }
    return this.get(id, by)
  }

  /** Why an exemption is about to be revoked, for the history of its request. */
  because(name: string, reason: string): void {
    this.#because.set(name, reason)
  }

  /** An exemption that is gone was revoked, by whoever made the change. */
  applied({ model }: Pick<InForce, 'model'>, by: Caller): void {
    if (this.#live.size > 0) {
      const names = new Set(model.exemptions.map(({ name }) => name))
      for (const [id, { stage, exemption }] of this.#live) {
        if (this.#busy.has(id)) continue
        const request = this.#options.store.get(id)
        if (request === null) continue
        const isThere = names.has(exemption.name)
        if (stage === 'approving') {
          // A crash came between the kernel and this.
          this.#keep({ ...request, stage: isThere ? 'approved' : 'requested' })
        } else if (!isThere) {
          this.#end(request, 'revoked', { by, reason: this.#because.get(exemption.name) ?? null })
        }
      }
    }
    this.#because.clear()
  }

  /** What the sources are, with the lists that are in force. */
  #sourcesOf({ sources }: ExemptionDocument): PrefixSet {
    const lists = this.#options.controller.inForce?.loaded.lists
    return PrefixSet.union(
      sources.map((source) => {
        if (source.startsWith('@')) return lists?.get(source.slice(1)) ?? PrefixSet.of([])
        const prefix = parsePrefix(source)
        return PrefixSet.of(typeof prefix === 'object' ? [prefix] : [])
      }),
    )
  }

  #end(
    request: ExemptionRequest,
    stage: 'refused' | 'withdrawn' | 'revoked',
    decision: Decision,
  ): ExemptionRequest {
    const event = this.#event(stage, decision)
    return this.#save({ ...request, stage, events: [...request.events, event] }, event)
  }

  async #decide(
    id: string,
    by: Caller,
    decide: (request: ExemptionRequest) => Promise<ExemptionRequest>,
  ): Promise<ExemptionRequest> {
    const request = this.#undecided(this.get(id, by))
    if (request.stage !== 'requested' || this.#busy.has(id))
      throw new RequestDecidedError(`request ${id} is decided: ${request.events.at(-1)?.event}`)
    this.#busy.add(id)
    try {
      return await decide(request)
    } finally {
      this.#busy.delete(id)
    }
  }

  /** An approval that failed while the database could not be written has left it half decided. */
  #undecided(request: ExemptionRequest): ExemptionRequest {
    const { id, stage, exemption } = request
    const inForce = this.#options.controller.inForce
    if (stage !== 'approving' || this.#busy.has(id) || inForce === null) return request
    const isThere = inForce.model.exemptions.some(({ name }) => name === exemption.name)
    return isThere ? request : { ...request, stage: 'requested' }
  }

  #event(
    event: RequestEvent['event'],
    { by, reason }: Decision,
    overrode: readonly string[] = [],
  ): RequestEvent {
    const time = this.#options.now()
    return { event, time, by: by.name, reason, ...(overrode.length === 0 ? {} : { overrode }) }
  }

  #save(request: ExemptionRequest, event: RequestEvent): ExemptionRequest {
    this.#keep(request)
    this.#options.onEvent(request, event)
    return request
  }

  #keep(request: ExemptionRequest): void {
    this.#options.store.save(request)
    this.#remember(request)
  }

  #remember({ id, stage, exemption }: ExemptionRequest): void {
    if (stage === 'requested') this.#waiting.add(id)
    else this.#waiting.delete(id)
    if (stage === 'approving' || stage === 'approved') this.#live.set(id, { stage, exemption })
    else this.#live.delete(id)
  }
}

/** Answers the ids of incidents that speak against a change. @throws OpenIncidentError or ReasonRequiredError */
function overridden(against: readonly Incident[], { overrideIncident, reason }: Override): string[] {
  if (against.length === 0) return []
  if (!overrideIncident) throw new OpenIncidentError(against)
  if (reason === null)
    throw new ReasonRequiredError('say why the host is exempted although an incident is open')
  return against.map(({ id }) => id)
}

function reasonOf(request: ExemptionRequest, reason: string | null): string {
  const asked = `Asked for by ${requesterOf(request)} in request ${request.id}.`
  return [request.exemption.reason, asked, reason].filter((part) => part != null).join('\n\n')
}
