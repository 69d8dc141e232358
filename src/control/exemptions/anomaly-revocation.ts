/** Takes back the exemptions of a host that turns out to be infected, where the operator wants that. */

import { SERVICE } from '../../caller.ts'
import type { Incident, IncidentEvent } from '../../detect/incident.ts'
import { exemptionsOf, isGrave } from '../../exemptions/infected-hosts.ts'
import type { DueRevocation, DueRevocations } from '../../store/due-revocations.ts'
import { findDocument } from '../changes/document-change.ts'
import type { Controller } from '../controller.ts'

export interface AnomalyRevocationOptions {
  readonly controller: Pick<Controller, 'delete' | 'inForce'>
  /** What is decided is kept there until it is done. */
  readonly due: DueRevocations
  /** Open at the start: whoever exempted such a host did so knowing it. */
  readonly resumed: readonly Incident[]
  readonly because: (name: string, reason: string) => void
  readonly onRevoked: (revocation: DueRevocation) => void
  readonly onFailed: (name: string, error: Error) => void
  /** A crash would forget what is decided. */
  readonly onUnkept: (error: Error) => void
}

/** Milliseconds until what could not be done is tried again. */
const RETRY = 10_000

export class AnomalyRevocation {
  readonly #options: AnomalyRevocationOptions
  /** Incidents that were acted on, by their ids: an exemption that is made later is made on purpose. */
  readonly #known: Set<string>
  /** By incident and exemption. */
  readonly #due: Map<string, DueRevocation>

  constructor(options: AnomalyRevocationOptions) {
    this.#options = options
    this.#known = new Set(options.resumed.filter(isGrave).map(({ id }) => id))
    this.#due = new Map(options.due.all().map((one) => [keyOf(one), one]))
  }

  /** Goes on with what an earlier run has left, once policies are in force. Resolves as `incident` does. */
  async resume(): Promise<void> {
    await this.#revokeAll([...this.#due.values()])
  }

  /**
   * To be called before the incident is kept: else a crash in between would leave one that is known, and not acted on.
   * Resolves when everything about it is done, or will be tried again.
   */
  async incident({ event, incident, time }: IncidentEvent): Promise<void> {
    if (event === 'resolved') this.#forget(incident.id)
    if (!isGrave(incident) || this.#known.has(incident.id)) return
    this.#known.add(incident.id)
    const decided = this.#exemptionsOf(incident, time)
    for (const one of decided) {
      this.#due.set(keyOf(one), one)
      this.#keep((due) => due.add(one))
    }
    await this.#revokeAll(decided)
  }

  #exemptionsOf({ id, source, summary }: Incident, time: number): DueRevocation[] {
    const { inForce } = this.#options.controller
    if (inForce === null) return []
    const reason = `Revoked because of incident ${id}: ${summary}`
    return exemptionsOf(inForce.model, source).flatMap(({ name }) => {
      const exemption = findDocument(inForce.loaded, 'exemption', name)?.document
      return exemption?.kind === 'exemption' ? [{ incident: id, exemption, reason, time, begun: false }] : []
    })
  }

  async #revokeAll(revocations: readonly DueRevocation[]): Promise<void> {
    for (const one of revocations) await this.#revoke(one)
  }

  async #revoke(one: DueRevocation): Promise<void> {
    const { controller, because, onRevoked, onFailed } = this.#options
    const { reason, exemption, begun } = one
    const { name } = exemption
    if (!this.#due.has(keyOf(one))) return
    let isThere = true
    try {
      await controller.delete('exemption', name, {
        by: SERVICE,
        reason,
        dryRun: false,
        mayGoAhead: (current) => {
          isThere = current !== null
          if (!isThere) return
          because(name, reason)
          this.#keep((due) => due.begin(one))
        },
      })
    } catch (error) {
      onFailed(name, error as Error)
      setTimeout(() => void this.#revoke(one), RETRY).unref()
      return
    }
    // What is gone, and was begun by an earlier run, is gone by that.
    if (isThere || begun) onRevoked(one)
    this.#due.delete(keyOf(one))
    this.#keep((due) => due.remove(one))
  }

  #forget(incident: string): void {
    this.#known.delete(incident)
    for (const [key, one] of this.#due) if (one.incident === incident) this.#due.delete(key)
    this.#keep((due) => due.forget(incident))
  }

  /** A full disk does not keep an exemption from being revoked. */
  #keep(work: (due: DueRevocations) => void): void {
    try {
      work(this.#options.due)
    } catch (error) {
      this.#options.onUnkept(error as Error)
    }
  }
}

function keyOf({ incident, exemption }: DueRevocation): string {
  return `${incident} ${exemption.name}`
}
