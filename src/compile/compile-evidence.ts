/**
 * What is counted while policies observe, for the report on who runs a real mail server: of observed machines what they
 * sent and how many connections they ended in order, and of all machines behind the gateway what they received on port
 * 25. Nothing of it is there when no policy observes.
 */
import { verdictOf } from '../policy/decide.ts'
import type { Model, Policy } from '../policy/model.ts'
import { addressBits, FAMILIES, type Family } from '../policy/prefix.ts'
import type { Context } from './context.ts'
import type { Rule } from './ruleset.ts'

/** Seconds after its last packet for which the kernel keeps a count; the service reads it each minute. */
const REMEMBERED = 86_400

/** For the chain of a policy: after the attempt was counted, before the verdict. */
export function evidenceOfSending(policy: Policy, { learn }: Context): Rule[] {
  if (verdictOf(policy, null) !== 'observe') return []
  return FAMILIES.flatMap((family) =>
    (['sent', 'closed'] as const).map((what): Rule => {
      const length = family === 4 ? 32 : policy.thresholds.ipv6Prefix
      const set = learn(evidenceSet(what, family, length), family, 'counter', REMEMBERED)
      return { rule: 'count-evidence', what, set, family, length, notLeavingBy: [] }
    }),
  )
}

/** Where what comes in passes: `leaving` tells it by its way, `ungoverned` by what no policy is for. */
export function evidenceOfReceiving(
  model: Model,
  { learn, options }: Context,
  at: 'leaving' | 'ungoverned',
): Rule[] {
  if (!model.policies.some((policy) => verdictOf(policy, null) === 'observe')) return []
  const notLeavingBy = options.outsideInterfaces
  if ((at === 'leaving') !== notLeavingBy.length > 0) return []
  return FAMILIES.map((family): Rule => {
    const length = addressBits(family)
    const set = learn(evidenceSet('received', family, length), family, 'counter', REMEMBERED)
    return { rule: 'count-evidence', what: 'received', set, family, length, notLeavingBy }
  })
}

export type EvidenceKind = 'sent' | 'closed' | 'received'

function evidenceSet(what: EvidenceKind, family: Family, length: number): string {
  return family === 4 ? `${what}4` : `${what}6-${length}`
}

/** What a learned set counts; null when it is of another kind. */
export function evidenceIn(set: string): { readonly what: EvidenceKind; readonly length: number } | null {
  const [, what, length = '32'] = /^(sent|closed|received)(?:4|6-(\d{1,3}))$/.exec(set) ?? []
  return what === undefined ? null : { what: what as EvidenceKind, length: Number(length) }
}
