/** Messages of one channel that have not arrived yet, and the incidents that they tell of: their next news must wait. */

export class UnderWay {
  readonly #messages = new Map<number, readonly string[]>()
  readonly #incidents = new Map<string, number>()

  get size(): number {
    return this.#messages.size
  }

  has(incident: string): boolean {
    return this.#incidents.has(incident)
  }

  /** A message is on its way (again). */
  add(id: number, incidents: readonly string[]): void {
    if (this.#messages.has(id)) return
    this.#messages.set(id, incidents)
    for (const incident of incidents) this.#incidents.set(incident, (this.#incidents.get(incident) ?? 0) + 1)
  }

  /** It is on its way no more. */
  remove(id: number): void {
    for (const incident of this.#messages.get(id) ?? []) {
      const left = (this.#incidents.get(incident) ?? 0) - 1
      if (left > 0) this.#incidents.set(incident, left)
      else this.#incidents.delete(incident)
    }
    this.#messages.delete(id)
  }
}
