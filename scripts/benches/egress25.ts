// The command that is measured, as it is called from a checkout.
import { closeSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { timed } from './timed.ts'

export const egress25 = fileURLToPath(new URL('../egress25', import.meta.url))

/** Writes the nft script for a directory of policies to a file. */
export async function compileTo(path: string, directory: string): Promise<void> {
  const file = openSync(path, 'w')
  try {
    await timed([egress25, 'compile', directory], { stdio: ['ignore', file, 'pipe'] })
  } finally {
    closeSync(file)
  }
}
