/** Takes back the exemptions of a host that turns out to be a spam-bot, where the operator wants that. */
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import type { ExemptionDocument } from '../policy/schema.ts'
import { SERVICE } from './caller.ts'
import type { Controller } from './controller.ts'
import { findDocument } from './document-change.ts'
import { exemptionsOf, isGrave } from './infected-hosts.ts'

export interface AnomalyRevocationOptions {
  readonly controller: Pick<Controller, 'delete' | 'inForce'>
  /** Open at the start: whoever exempted such a host did so knowing it. */
  readonly resumed: readonly Incident[]
  readonly because: (name: string, reason: string) => void
  readonly onRevoked: (exemption: ExemptionDocument, incident: Incident) => void
  readonly onFailed: (name: string, error: Error) => void
}

/** Milliseconds until what could not be done is tried again. */
const RETRY = 10_000

export class AnomalyRevocation {
  readonly #options: AnomalyRevocationOptions
  /** Incidents that were acted on, by their ids: an exemption that is made later is made on purpose. */
  readonly #known: Set<string>

  constructor(options: AnomalyRevocationOptions) {
    this.#options = options
    this.#known = new Set(options.resumed.filter(isGrave).map(({ id }) => id))
  }

  /** Resolves when everything about it is done, or will be tried again. */
  async incident({ event, incident }: IncidentEvent): Promise<void> {
    if (event === 'resolved') this.#known.delete(incident.id)
    if (!isGrave(incident) || this.#known.has(incident.id)) return
    this.#known.add(incident.id)
    await this.#revokeAll(incident)
  }

  async #revokeAll(incident: Incident): Promise<void> {
    const { controller, because, onRevoked, onFailed } = this.#options
    const { inForce } = controller
    if (inForce === null) return
    for (const { name } of exemptionsOf(inForce.model, incident.source)) {
      const document = findDocument(inForce.loaded, 'exemption', name)?.document
      const reason = `Revoked because of incident ${incident.id}: ${incident.summary}`
      let isThere = true
      try {
        await controller.delete('exemption', name, {
          by: SERVICE,
          reason,
          dryRun: false,
          mayGoAhead(current) {
            isThere = current !== null
            if (isThere) because(name, reason)
          },
        })
        if (isThere && document?.kind === 'exemption') onRevoked(document, incident)
      } catch (error) {
        onFailed(name, error as Error)
        setTimeout(() => {
          if (this.#known.has(incident.id)) void this.#revokeAll(incident)
        }, RETRY).unref()
        return
      }
    }
  }
}
