/**
 * What the table and its parts are called, and how numbers are written where nft takes marks.
 *
 * The files of this folder are the only ones that know nft's syntax (nft(8), versions 1.0.6 and later). Nothing that a
 * person wrote reaches it unchecked: names match `[a-z0-9-]`, interfaces are allow-listed by the configuration, and
 * everything else is a number.
 */

export const TABLE = 'inet egress25'
export const TOTALS_SET = 'totals'
export const APPLIED_MAP = 'applied'

/** The number under which `applied` has the era of its table. */
export const ERA = 0

/** The set whose name says which writing of the table this is: see `applied-log.ts`. */
export function eraSet(era: string): string {
  return `era-${era}`
}

/** A number as nft takes marks. */
export function mark(id: number): string {
  return `0x${id.toString(16).padStart(8, '0')}`
}

/** 128 bits in hexadecimal, as four marks. */
export function marks(digest: string): string {
  return (digest.match(/.{8}/g) ?? []).map((part) => `0x${part}`).join(' . ')
}
