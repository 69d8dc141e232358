/** What an apply would change: documents, the verdicts that follow from them, and the rules in the kernel. */
import type { Ruleset } from '../compile/ruleset.ts'
import type { Loaded } from '../policy/load.ts'
import type { Model } from '../policy/model.ts'
import { type DocumentChange, documentChanges } from './document-changes.ts'
import { type RuleChanges, ruleChanges } from './rule-changes.ts'
import { type TrafficChange, type TriedSource, trafficChanges } from './traffic-changes.ts'
import { type VerdictChanges, verdictChanges } from './verdict-changes.ts'

export interface Plan {
  readonly documents: readonly DocumentChange[]
  readonly verdicts: VerdictChanges
  readonly rules: RuleChanges
  /** null: nobody knows who tried. */
  readonly traffic: readonly TrafficChange[] | null
}

/** A directory without mistakes, and what it compiles to. */
export interface Compiled {
  readonly loaded: Loaded
  readonly model: Model
  readonly ruleset: Ruleset
}

const EMPTY: Model = { policies: [], relays: [], exemptions: [], tests: [] }

/** Nothing in force: what a first apply starts from. */
export const NOTHING: Compiled = {
  loaded: { model: EMPTY, diagnostics: [], documents: [], lists: new Map(), files: new Map() },
  model: EMPTY,
  ruleset: { tables: [], learned: [], totals: [], chains: [] },
}

/**
 * Pure; `now` is in milliseconds since the epoch and decides which exemptions count.
 * @param tried machines that tried port 25 lately, where there is a gateway that knows
 */
export function makePlan(
  before: Compiled,
  after: Compiled,
  now: number,
  tried: readonly TriedSource[] | null = null,
): Plan {
  return {
    documents: documentChanges(before.loaded, after.loaded),
    verdicts: verdictChanges(before.model, after.model, now),
    rules: ruleChanges(before.ruleset, after.ruleset),
    traffic: tried === null ? null : trafficChanges(before.model, after.model, tried, now),
  }
}
