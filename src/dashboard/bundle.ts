/** The page as a browser takes it: built from src/dashboard/page when somebody first asks, and kept in memory. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tagOf } from '../api/http/etag.ts'
import { ROOT } from '../root.ts'

export interface Asset {
  readonly type: string
  readonly text: string
  /** RFC 9110 §8.8.3, with its quotation marks. */
  readonly etag: string
}

export const ASSETS = ['index.html', 'page.js', 'page.css', 'icon.svg'] as const
export type AssetName = (typeof ASSETS)[number]

export type Bundle = Readonly<Record<AssetName, Asset>>

const SOURCE = join(ROOT, 'src/dashboard/page')

/** Writes no file: the code of an installed service is read-only. @throws Error when esbuild cannot build it */
export async function bundlePage(): Promise<Bundle> {
  // Not at the top: whoever never looks at the page does without.
  const { build, stop } = await import('esbuild')
  try {
    const { outputFiles } = await build({
      entryPoints: { page: join(SOURCE, 'main.tsx'), style: join(SOURCE, 'page.css') },
      outdir: SOURCE,
      write: false,
      bundle: true,
      minify: true,
      format: 'esm',
      target: 'es2022',
      logLevel: 'silent',
      tsconfigRaw: { compilerOptions: { jsx: 'react-jsx', jsxImportSource: 'preact' } },
    })
    const output = (name: string) => outputFiles.find(({ path }) => path.endsWith(`/${name}`))?.text ?? ''
    return {
      'index.html': asset('text/html', await readFile(join(SOURCE, 'index.html'), 'utf8')),
      'icon.svg': asset('image/svg+xml', await readFile(join(SOURCE, 'icon.svg'), 'utf8')),
      'page.js': asset('text/javascript', output('page.js')),
      'page.css': asset('text/css', output('style.css')),
    }
  } finally {
    // Its process would stay and wait for more.
    await stop()
  }
}

function asset(type: string, text: string): Asset {
  return { type: `${type}; charset=utf-8`, text, etag: tagOf(text) }
}
