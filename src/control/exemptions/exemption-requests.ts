/** The way from a wish to an exemption: asked for, approved or refused, in force, and at last over. */
import { randomBytes } from 'node:crypto'
import type { Caller } from '../../caller.ts'
import type { Incident } from '../../detect/incident.ts'
import {
  type ExemptionRequest,
  endOf,
  type RequestState,
  requesterOf,
  settled,
} from '../../exemptions/exemption-request.ts'
import { graveIncidents, isGrave, newlyExempted, OpenIncidentError } from '../../exemptions/infected-hosts.ts'
import { parseDuration } from '../../policy/formats.ts'
import type { Model } from '../../policy/model.ts'
import { parsePrefix } from '../../policy/prefix.ts'
import { PrefixSet } from '../../policy/prefix-set.ts'
import type { ExemptionDocument } from '../../policy/schema.ts'
import type { RequestQuery, StoredRequest } from '../../store/exemption-requests.ts'
import { HalfMadeError } from '../changes/carry-out.ts'
import { DocumentError } from '../changes/document-change.ts'
import type { Controller, InForce } from '../controller.ts'
import { RequestBook, type RequestBookOptions } from './request-book.ts'
import { RequestFollower } from './request-follower.ts'
import { whyNever } from './why-never.ts'

/** There is no such request, or none that the caller may see. */
export class NoRequestError extends Error {}

/** It is decided already, or somebody is about to. */
export class RequestDecidedError extends Error {}

/** Whoever asks may not be the one who approves. */
export class FourEyesError extends Error {}

/** It needs to be said why. */
export class ReasonRequiredError extends Error {}

export interface ExemptionRequestsOptions extends Omit<RequestBookOptions, 'model'> {
  readonly controller: Pick<Controller, 'put' | 'delete' | 'inForce'>
  /** Whether somebody else than the one who asked must approve. */
  readonly fourEyes: boolean
  readonly openIncidents: () => readonly Incident[]
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
  readonly #book: RequestBook
  readonly #follower: RequestFollower
  /** Requests that are being decided. */
  readonly #busy = new Set<string>()
  /** Requests whose changes were made by half: files and rules differ until somebody applies, or the next start. */
  readonly #halfMade = new Set<string>()

  constructor(options: ExemptionRequestsOptions) {
    this.#options = options
    const { controller, now } = options
    this.#book = new RequestBook({ ...options, model: () => controller.inForce?.model ?? null })
    this.#follower = new RequestFollower(this.#book, now)
  }

  /** How many wait for somebody's decision. */
  get waiting(): number {
    return this.#book.waiting
  }

  list(query: RequestQuery): StoredRequest[] {
    return this.#book.list(query)
  }

  /** @throws NoRequestError also when it is somebody else's, and the caller may see none of those */
  get(id: string, by: Caller): ExemptionRequest {
    const found = this.#book.find(id)
    if (found === null || (by.role === 'requester' && requesterOf(found) !== by.name))
      throw new NoRequestError(`there is no request ${id}`)
    return found
  }

  /** The incidents that speak against it. */
  incidentsOf({ exemption }: Pick<ExemptionRequest, 'exemption'>): Incident[] {
    const open = this.#options.openIncidents().filter(isGrave)
    return open.length === 0 ? [] : graveIncidents(this.#sourcesOf(exemption), open)
  }

  /**
   * Nothing comes into force.
   * @param lasts such as `30d`; null: as the exemption says
   * @throws DocumentError for what nobody could approve
   */
  ask(exemption: ExemptionDocument, lasts: string | null, by: Caller): ExemptionRequest {
    const { controller, now } = this.#options
    const problems = whyNever(exemption, controller.inForce?.loaded ?? null, now())
    if (problems.length > 0) throw new DocumentError(problems)
    const event = this.#book.event('requested', { by, reason: exemption.reason ?? null })
    const id = randomBytes(5).toString('hex')
    return this.#book.save({ id, stage: 'requested', exemption, lasts, events: [event] }, event)
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
      const end = endOf(request)
      if (request.lasts === null && end !== null && end <= now())
        throw new RequestDecidedError(
          `the time of request ${id} was over before anybody approved it; refuse it`,
        )
      const ends = request.lasts === null ? null : now() + (parseDuration(request.lasts) ?? 0)
      const exemption: ExemptionDocument = {
        ...request.exemption,
        ...(ends === null ? {} : { expires: new Date(ends).toISOString().replace(/\.\d+Z$/, 'Z') }),
      }
      // A change that goes alone after all, because the ones beside it were refused, is asked twice.
      let event = this.#book.event('approved', { by, reason })
      const deciding = () =>
        ({ ...request, exemption, stage: 'approving', events: [...request.events, event] }) as const
      this.#book.keep(deciding())
      await this.#orUndo(request, () =>
        controller.put(exemption, {
          by,
          reason: reasonOf(request, reason),
          dryRun: false,
          mayGoAhead(current) {
            if (current === null) return
            throw new RequestDecidedError(
              `an exemption ${exemption.name} is there already: extend or revoke it, or refuse this one`,
            )
          },
          mayBecome: (model) => {
            const overrode = this.mayExempt(model, exemption.name, { overrideIncident, reason })
            if (overrode.length === 0) return
            event = { ...event, overrode }
            this.#book.keep(deciding())
          },
        }),
      )
      return this.#book.finish({ ...deciding(), stage: 'approved' }, event)
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
    const gone = () => new RequestDecidedError(`request ${id} has no exemption in force`)
    if (request.stage !== 'approved' || this.#busy.has(id)) throw gone()
    const event = this.#book.event('revoked', { by, reason })
    const deciding = { ...request, stage: 'revoking', events: [...request.events, event] } as const
    return this.#alone(id, async () => {
      this.#book.keep(deciding)
      await this.#orUndo(request, () =>
        this.#options.controller.delete('exemption', request.exemption.name, {
          by,
          reason,
          dryRun: false,
          mayGoAhead(current) {
            if (current === null) throw gone()
          },
        }),
      )
      return this.#book.finish({ ...deciding, stage: 'revoked' }, event)
    })
  }

  /** Why an exemption is about to be changed or revoked, for the history of its request; null: it is not, after all. */
  because(name: string, reason: string | null): void {
    this.#follower.because(name, reason)
  }

  /**
   * A change is made: in the kernel and in its files.
   * @param isWhole it is all that the policies say, so that a change which was made by half is one no more
   * @throws Error when the database cannot be written
   */
  made(inForce: Pick<InForce, 'loaded'>, by: Caller, isWhole: boolean): void {
    if (isWhole) this.#halfMade.clear()
    this.#follower.made(inForce, by, (id) => this.#busy.has(id) || this.#halfMade.has(id))
  }

  /** The request as it has come to be, and how it stands. @param lead as `stateOf` has it */
  shown(request: ExemptionRequest, lead: number): { request: ExemptionRequest; state: RequestState } {
    return this.#book.shown(request, lead)
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
    const event = this.#book.event(stage, decision)
    return this.#book.save({ ...request, stage, events: [...request.events, event] }, event)
  }

  async #decide(
    id: string,
    by: Caller,
    decide: (request: ExemptionRequest) => Promise<ExemptionRequest>,
  ): Promise<ExemptionRequest> {
    const request = this.#undecided(this.get(id, by))
    if (request.stage !== 'requested' || this.#busy.has(id))
      throw new RequestDecidedError(`request ${id} is decided: ${request.events.at(-1)?.event}`)
    return this.#alone(id, () => decide(request))
  }

  async #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    this.#busy.add(id)
    try {
      return await work()
    } finally {
      this.#busy.delete(id)
    }
  }

  /** Makes a change. When it is not made, its request is what it was; when by half, that is left to what is in force. */
  async #orUndo(request: ExemptionRequest, change: () => Promise<unknown>): Promise<void> {
    try {
      await change()
    } catch (error) {
      if (error instanceof HalfMadeError) this.#halfMade.add(request.id)
      else {
        try {
          this.#book.keep(request)
        } catch {
          // Why it was not done is what its caller has to hear; what is in force tells the rest.
        }
      }
      throw error
    }
  }

  /** An approval that failed while the database could not be written has left it half decided. */
  #undecided(request: ExemptionRequest): ExemptionRequest {
    const { id, stage } = request
    if (stage !== 'approving' || this.#busy.has(id) || this.#options.controller.inForce === null)
      return request
    if (this.#halfMade.has(id))
      throw new RequestDecidedError(
        `request ${id} was approved, and its exemption made by half: egress25 apply, or a restart, brings it to its end`,
      )
    const isThere = this.#book.isThere(request)
    return isThere ? request : settled(request, isThere)
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
