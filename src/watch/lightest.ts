/**
 * Whom a learned set forgets when it is nearly full: those who did least. A flood from forged addresses fills it within a
 * second, with sources that are never heard of again; as long as they stay, nobody who comes later is counted.
 */
import type { Counted } from './source-counters.ts'

/** An element with the seconds until the kernel itself forgets it. */
export interface Expiring extends Counted {
  readonly expires: number
}

/** Of the set's size: so full, it makes room, and so much of it stays. */
const NEARLY_FULL = 0.75
const STAYS = 0.5
/** Seconds: who is forgotten so soon anyhow may be gone before we have said so. */
const SOON = 60

/** Whoever did most first, of equal ones who was heard of last. */
export function heaviestFirst(elements: readonly Expiring[]): Expiring[] {
  return elements.toSorted((a, b) => b.packets - a.packets || b.expires - a.expires)
}

/**
 * The addresses of those who did least, of equal ones who was quiet longest; none while there is room in a set of that
 * size. The elements have the heaviest first.
 */
export function lightest(elements: readonly Expiring[], size: number): string[] {
  if (elements.length < NEARLY_FULL * size) return []
  const most = elements.length - Math.floor(STAYS * size)
  const found: string[] = []
  for (let at = elements.length - 1; at >= 0 && found.length < most; at--) {
    const element = elements[at]
    if (element !== undefined && element.expires > SOON) found.push(element.address)
  }
  return found
}
