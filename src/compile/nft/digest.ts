/** By what a ruleset is recognised in the kernel. */
import { createHash } from 'node:crypto'
import type { Keys, Ruleset } from '../ruleset.ts'
import { frame } from './frame.ts'

/**
 * The digest by which a ruleset is recognised in the kernel: 128 bits in hexadecimal. Of everything but the elements
 * the text is digested, so that a release that writes rules in another way does not take the old ones for its own.
 */
export function digestOf(ruleset: Ruleset): string {
  const hash = createHash('sha256').update(frame(ruleset))
  for (const { name, parts } of ruleset.tables) {
    hash.update(`${name}\n`)
    // In whatever order the documents were read.
    for (const part of parts.map(({ keys, target }) => `${digestOfKeys(keys)} ${target}`).sort()) {
      hash.update(`${part}\n`)
    }
  }
  return hash.digest('hex').slice(0, 32)
}

/** A list is digested once, however many rulesets it is in. */
const DIGESTS = new WeakMap<Keys, string>()

function digestOfKeys(keys: Keys): string {
  let digest = DIGESTS.get(keys)
  if (digest === undefined) {
    const hash = createHash('sha256')
    if (keys instanceof Uint32Array) hash.update(keys)
    else for (const key of keys) hash.update(`${key} `)
    digest = hash.digest('base64')
    DIGESTS.set(keys, digest)
  }
  return digest
}
