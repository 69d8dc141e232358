/** Requests follow what became of their exemptions, by whoever made the change, and also where a crash came between. */
import { isDeepStrictEqual } from 'node:util'
import type { Caller } from '../../caller.ts'
import { type ExemptionRequest, endOf, settled } from '../../exemptions/exemption-request.ts'
import type { ExemptionDocument } from '../../policy/schema.ts'
import type { InForce } from '../controller.ts'
import type { RequestBook } from './request-book.ts'

export class RequestFollower {
  readonly #book: RequestBook
  readonly #now: () => number
  readonly #because = new Map<string, string>()
  #isFirst = true

  constructor(book: RequestBook, now: () => number) {
    this.#book = book
    this.#now = now
  }

  /** Why an exemption is about to be changed or revoked, for the history of its request; null: it is not, after all. */
  because(name: string, reason: string | null): void {
    if (reason === null) this.#because.delete(name)
    else this.#because.set(name, reason)
  }

  /**
   * A change is made: in the kernel and in its files.
   * @param isOpen of which requests somebody else sees to it
   * @throws Error when the database cannot be written; what is left is looked at again with the next change
   */
  made({ loaded }: Pick<InForce, 'loaded'>, by: Caller, isOpen: (id: string) => boolean): void {
    const { live } = this.#book
    const names = new Set([...live.values()].map(({ exemption }) => exemption.name))
    const documents = new Map<string, ExemptionDocument>()
    if (names.size > 0) {
      for (const { document } of loaded.documents)
        if (document.kind === 'exemption' && names.has(document.name)) documents.set(document.name, document)
    }
    try {
      for (const [id, { stage, exemption }] of live) {
        if (isOpen(id)) continue
        const document = documents.get(exemption.name) ?? null
        if (stage === 'approved' && document !== null && isDeepStrictEqual(document, exemption)) continue
        const request = this.#book.find(id)
        if (request !== null) this.#follow(request, document, by)
      }
    } finally {
      this.#because.clear()
    }
    this.#isFirst = false
  }

  #follow(request: ExemptionRequest, document: ExemptionDocument | null, by: Caller): void {
    const book = this.#book
    const now = settled(request, document !== null)
    if (now.stage !== request.stage) {
      const event = now.events.at(-1)
      if (now.events.length < request.events.length || event === undefined) book.keep(now)
      else book.save(now, event)
    } else if (document !== null) {
      const reason = this.#because.get(request.exemption.name) ?? null
      const event = book.event('changed', { by, reason })
      book.save({ ...request, exemption: document, events: [...request.events, event] }, event)
    } else if ((endOf(request) ?? Number.POSITIVE_INFINITY) <= this.#now()) {
      book.keep({ ...request, stage: 'ended' })
    } else {
      const unknown = this.#isFirst ? 'It was not in the policies when the service started.' : null
      const event = book.event('revoked', {
        by,
        reason: this.#because.get(request.exemption.name) ?? unknown,
      })
      book.save({ ...request, stage: 'revoked', events: [...request.events, event] }, event)
    }
  }
}
