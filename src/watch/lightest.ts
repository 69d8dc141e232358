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

/** The addresses of those who did least, of equal ones who was quiet longest; none while there is room in a set of that size. */
export function lightest(elements: readonly Expiring[], size: number): string[] {
  if (elements.length < NEARLY_FULL * size) return []
  return elements
    .filter(({ expires }) => expires > SOON)
    .sort((a, b) => a.packets - b.packets || a.expires - b.expires)
    .slice(0, elements.length - Math.floor(STAYS * size))
    .map(({ address }) => address)
}
