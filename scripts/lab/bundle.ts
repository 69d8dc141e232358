// The service as few files of plain JavaScript: an emulated machine takes minutes to strip the types of hundreds.
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const ROOT = new URL('../..', import.meta.url).pathname

/** What the bundle reads beside itself, at the paths where this checkout has it. */
export const BESIDE = ['scripts/rollback-guard', 'src/alerts/texts', 'package.json'].map((path) =>
  join(ROOT, path),
)

/** Writes them to the folder; `cli.mjs` is the command. */
export async function bundle(folder: string): Promise<void> {
  const cli = join(ROOT, 'src/cli.ts')
  await build({
    ...{ entryPoints: [cli], outdir: folder, outExtension: { '.js': '.mjs' }, logLevel: 'error' },
    ...{ bundle: true, splitting: true, platform: 'node', format: 'esm', target: 'node24' },
    external: ['esbuild'],
    // Some packages are CommonJS.
    banner: {
      js: `import {createRequire as _} from "node:module"; const require = _(${JSON.stringify(cli)});`,
    },
    plugins: [
      { name: 'where-it-was', setup: (builder) => builder.onLoad({ filter: /\.[cm]?[jt]s$/ }, load) },
    ],
  })
}

/** A module in a bundle finds what lies beside it where it would be without the bundle. */
async function load({ path }: { path: string }) {
  const here: Record<string, string> = {
    'import.meta.url': pathToFileURL(path).href,
    'import.meta.dirname': dirname(path),
    __dirname: dirname(path),
  }
  const contents = (await readFile(path, 'utf8')).replaceAll(
    /import\.meta\.url|import\.meta\.dirname|\b__dirname\b/g,
    (word) => JSON.stringify(here[word]),
  )
  return { contents, loader: path.endsWith('ts') ? ('ts' as const) : ('js' as const) }
}
