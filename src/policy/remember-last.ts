/**
 * Remembers the last result of a function: as long as the same objects come in, the same result comes out. What is
 * large and seldom changes (the networks of all policies) is thus worked through once and not at each change of
 * something else.
 */
export function rememberLast<Item extends object, Result>(
  work: (items: readonly Item[]) => Result,
): (items: readonly Item[]) => Result {
  let last: { items: readonly Item[]; result: Result } | null = null
  return (items) => {
    const isSame =
      last?.items.length === items.length && items.every((item, index) => item === last?.items[index])
    if (last === null || !isSame) last = { items: [...items], result: work(items) }
    return last.result
  }
}
