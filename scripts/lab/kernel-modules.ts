// The modules of a kernel that lies unpacked in a folder, and what each of them needs to be loaded first.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

export interface KernelModule {
  readonly name: string
  /** Not compressed. */
  readonly image: Buffer
}

const SUFFIX = /\.ko(\.xz)?$/

/**
 * The named modules with all that they need, in an order in which they can be loaded.
 * @param folder `lib/modules/VERSION`
 * @throws Error when the kernel has no such module, neither as a file nor built in
 */
export function modulesInOrder(folder: string, names: readonly string[]): KernelModule[] {
  const files = new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => SUFFIX.test(path))
      .map((path) => [nameOf(path), join(folder, path)]),
  )
  const builtIn = new Set(readFileSync(join(folder, 'modules.builtin'), 'utf8').split('\n').map(nameOf))
  const found = new Map<string, KernelModule>()
  const add = (name: string) => {
    if (found.has(name) || builtIn.has(name)) return
    const file = files.get(name)
    if (file === undefined) throw new Error(`${folder} has no module ${name}`)
    const image = file.endsWith('.xz')
      ? execFileSync('xzcat', [file], { maxBuffer: 2 ** 28 })
      : readFileSync(file)
    for (const other of needsOf(image)) add(other)
    found.set(name, { name, image })
  }
  for (const name of names) add(name)
  return [...found.values()]
}

/** What the kernel calls it: a file's name may have hyphens where the module's has underscores. */
function nameOf(path: string): string {
  return basename(path).replace(SUFFIX, '').replaceAll('-', '_')
}

/** From its section .modinfo: `KEY=VALUE`, each ended by a zero byte. */
function needsOf(image: Buffer): string[] {
  const start = image.indexOf('\0depends=')
  if (start < 0) return []
  const value = start + '\0depends='.length
  const text = image.toString('latin1', value, image.indexOf(0, value))
  return text === '' ? [] : text.split(',').map(nameOf)
}
