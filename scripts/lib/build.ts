/**
 * Puts the command and its libraries into a few files, `built/`, which start in a third of the time of the 540 to 1,300 that
 * they are made of. `scripts/egress25` takes them while nothing in `src/` is younger.
 */
import { chmod, chown, mkdtemp, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { isBuiltin } from 'node:module'
import { basename, join } from 'node:path'
import { build, type OutputFile, type Plugin } from 'esbuild'
import { ROOT } from '../../src/root.ts'

const BUILT = join(ROOT, 'built')

/**
 * Node.js looks at every export of its own modules that are imported, and some are whole libraries (`fetch`, HTTP/2) that
 * no command needs. Asked for like this, they are loaded when they are used.
 */
const lazyBuiltins: Plugin = {
  name: 'lazy-builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /.*/ }, ({ path, kind }) => {
      if (!isBuiltin(path)) return null
      // Whoever imports one when it is needed gets the module itself, with its names.
      return kind === 'dynamic-import' ? { path, external: true } : { path, namespace: 'builtin' }
    })
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)})`,
    }))
  },
}

/** The files, at the paths where they are to be; nothing is written. */
export async function bundle(): Promise<readonly OutputFile[]> {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/cli.ts'],
    outdir: BUILT,
    write: false,
    bundle: true,
    // What subcommands load when they are called stays in files of its own.
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // It starts a program that lies beside it.
    external: ['esbuild'],
    plugins: [lazyBuiltins],
    logLevel: 'warning',
  })
  return outputFiles
}

/** Complete, or not there. */
async function place(): Promise<void> {
  const started = new Date()
  const files = await bundle()
  const fresh = await mkdtemp(join(ROOT, '.built-'))
  // Whoever owns the code, and may read it, owns what is made of it and may read that.
  const { uid, gid, mode } = await stat(join(ROOT, 'src'))
  await chown(fresh, uid, gid)
  await chmod(fresh, mode)
  for (const { path, contents } of files) {
    const file = join(fresh, basename(path))
    await writeFile(file, contents)
    await chown(file, uid, gid)
  }
  // What is edited meanwhile is younger.
  await utimes(join(fresh, 'cli.js'), started, started)
  await rm(BUILT, { recursive: true, force: true })
  await rename(fresh, BUILT)
}

if (import.meta.main) await place()
