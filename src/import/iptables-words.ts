/** A line of iptables-save to words, with quotes and escapes as its own parser reads them. */

export interface Word {
  readonly text: string
  /** A quoted word is never an option, whatever it begins with. */
  readonly quoted: boolean
}

/** null: a quote is left open. */
export function wordsOf(line: string): Word[] | null {
  const words: Word[] = []
  let at = 0
  while (at < line.length) {
    const c = line[at]!
    if (c === ' ' || c === '\t' || c === '\r') {
      at++
      continue
    }
    let text = ''
    let quoted = false
    let open: string | null = null
    for (; at < line.length; at++) {
      const c = line[at]!
      if (open !== null) {
        if (c === '\\' && at + 1 < line.length) text += line[++at]!
        else if (c === open) open = null
        else text += c
      } else if (c === '"' || c === "'") {
        open = c
        quoted = true
      } else if (c === ' ' || c === '\t' || c === '\r') break
      else if (c === '\\' && at + 1 < line.length) text += line[++at]!
      else text += c
    }
    if (open !== null) return null
    words.push({ text, quoted })
  }
  return words
}

/** An option with what follows it, up to the next; `!` before or after it negates. */
export interface Option {
  readonly name: string
  readonly not: boolean
  readonly values: readonly string[]
}

/** Words that stand before the first option are left out. */
export function optionsOf(words: readonly Word[]): Option[] {
  const options: { name: string; not: boolean; values: string[] }[] = []
  let not = false
  for (const { text, quoted } of words) {
    if (!quoted && text === '!') not = true
    else if (!quoted && /^--?[a-z]/i.test(text)) {
      options.push({ name: text, not, values: [] })
      not = false
    } else {
      const option = options.at(-1)
      if (option === undefined) continue
      option.values.push(text)
      // `-s ! 10.0.0.0/8`, as it was written long ago.
      if (not) option.not = true
      not = false
    }
  }
  return options
}
