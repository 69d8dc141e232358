/** At most so many UTF-16 units, as JavaScript and most services count, and no half of a character; the end is an ellipsis. */
export function shorten(text: string, longest: number): string {
  if (text.length <= longest) return text
  return `${text.slice(0, longest - 1).replace(/[\ud800-\udbff]$/, '')}…`
}
