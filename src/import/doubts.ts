/**
 * Rules whose conditions egress25 cannot see. They are left out, and what that changes is said: who was let through
 * and is blocked now, or was blocked and is let through. Where a general rule at the end (`policy drop`) blocks what
 * general rules before it did not let in, nothing about mail was meant, and nobody is governed on its account.
 */
import type { Decided, Doubt, Interpretation } from './interpret.ts'
import type { Budget, Region } from './region.ts'
import { compact, EMPTY, intersectRegions, joinRegions, subtractRegions } from './region.ts'
import type { Remark, RemarkCode, Remarks } from './remark.ts'
import type { Rule } from './rule.ts'

export interface Settled extends Interpretation {
  /** Blocked by general rules only, and perhaps not even that. */
  readonly undecided: Region
  /** Destinations that general rules block whatever the port: none of egress25's business. */
  readonly ignored: Region
  readonly remarks: readonly Remark[]
}

/** Takes doubts into account: what is left in `blocked` is to become policies. */
export function settle(interpretation: Interpretation, budget: Budget): Settled {
  const remarks: Remark[] = []
  let undecided = EMPTY
  const general = interpretation.blocked.filter(({ specific, aimed }) => aimed && !specific)
  for (const { unit } of general) remarks.push(notForMail(unit.rule))
  const ignored = compact(
    general.flatMap(({ region }) => region),
    budget,
  )
  let blocked = interpretation.blocked.filter((block) => !general.includes(block))
  for (const doubt of interpretation.doubts) {
    if (!mayLetThrough(doubt)) continue
    let matters = false
    const kept: Decided[] = []
    for (const block of blocked) {
      const later = block.order > doubt.order && (block.base === doubt.base || doubt.outcome === 'unknown')
      const overlap = later ? intersectRegions(block.region, doubt.region, budget) : EMPTY
      if (overlap.length === 0) {
        kept.push(block)
        continue
      }
      if (doubt.specific || block.specific) {
        matters = true
        kept.push(block)
        continue
      }
      undecided = joinRegions(undecided, overlap, budget)
      const region = subtractRegions(block.region, overlap, budget)
      if (region.length > 0) kept.push({ ...block, region })
      remarks.push(leftUngoverned(block, doubt))
    }
    blocked = kept
    if (matters) remarks.push(notTranslated(doubt, 'what it lets through is blocked now'))
    else if (doubt.outcome === 'unknown' && doubt.specific)
      remarks.push(notTranslated(doubt, 'it was left out'))
  }
  for (const doubt of interpretation.doubts) {
    if (mayLetThrough(doubt) && doubt.outcome !== 'unknown') continue
    if (doubt.outcome === 'unknown') continue
    const open = blocked.reduce(
      (rest, block) => (rest.length === 0 ? rest : subtractRegions(rest, block.region, budget)),
      doubt.region,
    )
    if (open.length > 0) remarks.push(notTranslated(doubt, 'what it blocks is let through now'))
  }
  return { ...interpretation, blocked, undecided, ignored, remarks }
}

function mayLetThrough({ outcome }: Doubt): boolean {
  return outcome === 'allow' || outcome === 'return' || outcome === 'unknown'
}

function notTranslated({ unit, reasons }: Doubt, effect: string): Remark {
  const { where, text } = unit.rule
  return remark('not-translated', where, `${effect}; it depends on ${reasons.join(', ')}: ${text}`)
}

function leftUngoverned({ unit }: Decided, doubt: Doubt): Remark {
  const { where, text } = unit.rule
  const { rule } = doubt.unit
  return remark(
    'left-ungoverned',
    where,
    `what this blocks depends on ${doubt.reasons.join(', ')} (${rule.where}: ${rule.text}); keep it in force beside egress25: ${text}`,
  )
}

/** What blocks some destinations, or some interfaces, for all ports alike. */
export function notForMail({ where, text }: Pick<Rule, 'where' | 'text'>): Remark {
  const message = `a general rule, not made for mail: keep it in force beside egress25: ${text}`
  return { severity: 'warning', where, code: 'left-ungoverned', message }
}

function remark(code: RemarkCode, where: string, message: string): Remark {
  return { severity: 'error', where, code, message }
}

export function tellAll(remarks: Remarks, list: readonly Remark[]): void {
  for (const { severity, code, where, message } of list) remarks.add(severity, code, where, message)
}
