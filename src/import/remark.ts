/** What an import has to say beside its documents: what it could not translate, what it assumed, where it differs. */

/**
 * error: not translated, or not with the same meaning. warning: translated, and something is left for a person to do.
 * note: good to know. Only errors change the exit status.
 */
export type RemarkSeverity = 'error' | 'warning' | 'note'

/** Every code a remark can carry, with what it means; docs/import.md has the same table. */
export const REMARK_CODES = {
  syntax: 'a line or an object that is not what its format says; it was passed over',
  'not-translated': 'a rule that concerns port 25 and whose meaning egress25 cannot express',
  'left-ungoverned':
    'a general rule blocks these sources, but which of them depends on something egress25 cannot see',
  differs: 'for this source and destination the documents decide otherwise than the old rules',
  'more-differences': 'there are more differences than are listed',
  'compared-in-part': 'there are too many edges to compare all of them',
  'unknown-set': 'a set that the input does not contain',
  'unknown-chain': 'a jump to a chain that the input does not contain',
  'unknown-user': 'a user id without a name that egress25 takes',
  expires: 'an element that the old firewall would have removed by itself',
  'other-ports': 'a rule for port 25 and other ports: only port 25 was translated',
  'two-hooks': 'forwarded packets and those of this machine itself are blocked differently',
  hooks: 'what firewall.hooks must say for the documents to mean what the old rules meant',
  'outside-interfaces':
    'what firewall.outside_interfaces must say for the documents to mean what the old rules meant',
  'governs-everybody': 'a policy for every address in the world',
  'local-user': 'a relay that stands for users of the gateway itself',
  established: 'the old rules let established connections go on; egress25 cuts them',
  'reject-with': 'the old rules refuse with another answer than a TCP reset',
  shadowed: 'a rule that no packet to port 25 reaches: earlier rules decide',
  'no-effect': 'a rule that changes nothing for port 25: without it the verdict would be the same',
  'other-hook': 'a rule for port 25 where packets arrive at this machine: not outbound',
  'own-table': 'the table of egress25 itself, which was passed over',
  'nothing-blocked': 'nothing in the input blocks outbound port 25',
  assumed: 'something the input does not say, and what was taken for it',
  'large-output': 'more documents than one policy file may hold',
} as const

export type RemarkCode = keyof typeof REMARK_CODES

export interface Remark {
  readonly severity: RemarkSeverity
  /** `line 12`, or the family, table, chain and handle of an nft rule; empty where the whole input is meant. */
  readonly where: string
  readonly code: RemarkCode
  /** A sentence; with the text of the rule where one is meant. */
  readonly message: string
}

/** Files of the wrong kind have a fault in every line; so many of one code tell enough. */
const MOST_OF_A_CODE = 1_000

/** Collects remarks, each once: a rule is looked at for both families, several hooks and interfaces. */
export class Remarks {
  readonly #list: Remark[] = []
  readonly #seen = new Set<string>()
  readonly #counts = new Map<RemarkCode, number>()

  add(severity: RemarkSeverity, code: RemarkCode, where: string, message: string): void {
    const key = `${code}\n${where}\n${message}`
    if (this.#seen.has(key)) return
    this.#seen.add(key)
    const count = (this.#counts.get(code) ?? 0) + 1
    this.#counts.set(code, count)
    if (count <= MOST_OF_A_CODE) this.#list.push({ severity, where, code, message })
  }

  /** In the order in which they were made, and at the end how many of a code were left out. */
  list(): readonly Remark[] {
    const more = [...this.#counts].filter(([, count]) => count > MOST_OF_A_CODE)
    return [
      ...this.#list,
      ...more.map(([code, count]): Remark => {
        const severity = this.#list.find((remark) => remark.code === code)?.severity ?? 'error'
        return { severity, where: '', code, message: `and ${count - MOST_OF_A_CODE} more of these` }
      }),
    ]
  }
}

/** `FILE: where: code: sentence`; a line number joins the file as compilers write it. */
export function formatRemark(file: string, { severity, where, code, message }: Remark): string {
  const line = /^line (\d+)$/.exec(where)?.[1]
  const place = line !== undefined ? `${file}:${line}` : where === '' ? file : `${file}: ${where}`
  return `${place}: ${code}: ${severity === 'error' ? '' : `${severity}: `}${message}`
}

/** Somebody else's text inside a message: on one line, bounded, without control characters. */
export function shown(text: string, most = 240): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is the point
  const plain = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\s]+/g, ' ').trim()
  // Cut between characters, not inside a surrogate pair, which no YAML could hold.
  const whole = plain.toWellFormed()
  return whole.length > most ? `${[...whole.slice(0, most)].slice(0, -1).join('')}…`.toWellFormed() : whole
}

/** The input as a whole cannot be imported; the message is for the user. */
export class ImportError extends Error {}
