/** Where a machine is, as operators say it: by the network of the policy that governs it. */
import { governingPolicy } from '../policy/decide.ts'
import type { Model } from '../policy/model.ts'
import { formatPrefix, parsePrefix } from '../policy/prefix.ts'

/** null: no policy governs the source (any more). */
export function networkOf(model: Model | null, source: string): string | null {
  const prefix = parsePrefix(source)
  if (model === null || typeof prefix === 'string') return null
  const governing = governingPolicy(model, prefix)
  return governing === null ? null : formatPrefix(governing.network)
}
