/** ", did you mean `addresses`?" when one of the words is near what was written; otherwise nothing. */
export function suggest(written: unknown, words: readonly string[]): string {
  if (typeof written !== 'string' || written.length > 64) return ''
  let best: string | null = null
  let least = Math.max(1, Math.floor(written.length / 3)) + 1
  for (const word of words) {
    const distance = editDistance(written, word)
    if (distance < least) {
      least = distance
      best = word
    }
  }
  return best === null ? '' : `, did you mean ${best}?`
}

/** Levenshtein's distance: insertions, deletions and substitutions between two short words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
