/**
 * Keeps those who are watched in bounded memory: of more than `most`, the first that is not needed is forgotten. In a map
 * into which each is put anew when it does something, that is the one that was quiet longest.
 */
export function makeRoom<T>(all: Map<string, T>, most: number, isNeeded: (one: T) => boolean): void {
  if (all.size <= most) return
  for (const [key, one] of all) {
    if (isNeeded(one)) continue
    all.delete(key)
    return
  }
}
