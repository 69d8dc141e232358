/** Which files a source has at present, in the order in which they are to be read. */
import { glob, stat } from 'node:fs/promises'

/** One file for each network access server and day, as FreeRADIUS writes them; more are not looked at. */
const MOST_FILES = 1_000

/**
 * Kea rewrites its file now and then (kea-lfc(8)): what was is moved to `.1`, and comes back without what is past as
 * `.completed`, then `.2`. Until then the lines are in those, of which the later ones count.
 */
export function keaFiles(file: string): string[] {
  return [`${file}.completed`, `${file}.2`, `${file}.1`, file]
}

/** Files whose names match, the one written last at the end; `*` stands for anything within a name. */
export async function filesLike(pattern: string): Promise<string[]> {
  if (!pattern.includes('*')) return [pattern]
  const found: { path: string; time: number }[] = []
  for await (const path of glob(pattern)) {
    const time = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    )
    found.push({ path, time })
  }
  return found
    .sort((a, b) => a.time - b.time)
    .slice(-MOST_FILES)
    .map(({ path }) => path)
}
