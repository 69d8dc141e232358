/**
 * Characters that are not seen, or that make others be seen elsewhere than they stand: what YAML 1.2 §5.1 calls not
 * printable (terminals obey some of it), other line ends, and what turns the direction of writing. Who reviews a
 * policy must see what is in it, and whoever prints a name from it must not have to look for them.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
const UNSEEN = /[\0-\x08\v\f\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe\uffff\p{Cs}]/u

/** The first of them in a text that may have lines and tabs; null: there is none. */
export function findUnseen(text: string): { readonly character: string; readonly index: number } | null {
  const found = UNSEEN.exec(text)
  return found === null ? null : { character: found[0], index: found.index }
}

/** As it is called, since it cannot be shown. */
export function nameOfCharacter(character: string): string {
  return `the character U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
}
