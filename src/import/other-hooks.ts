/** Rules about port 25 where egress25 does not look: told of, not followed. */
import type { Remarks } from './remark.ts'
import { type BaseChain, type Firewall, MOST_JUMPS, namesPort25, type Rule } from './rule.ts'

/**
 * Also tells of what only packets of established connections meet, and of port 25 among other ports.
 * Answers the chains that only such hooks lead to.
 */
export function tellOtherHooks(firewall: Firewall, remarks: Remarks): ReadonlySet<string> {
  const followed = new Set<string>()
  const others: BaseChain[] = []
  for (const base of firewall.bases) {
    if (isFollowed(base)) reach(firewall, base.chain, followed)
    else others.push(base)
  }
  const elsewhere = new Set<string>()
  for (const base of others) {
    const here = new Set<string>()
    reach(firewall, base.chain, here)
    for (const id of here) {
      if (!followed.has(id)) elsewhere.add(id)
      for (const rule of firewall.chains.get(id)?.rules ?? []) tellOther(base, rule, remarks)
    }
  }
  for (const id of followed) {
    for (const rule of firewall.chains.get(id)?.rules ?? []) tellOfOwn(rule, remarks)
  }
  return elsewhere
}

function isFollowed({ hook, type }: BaseChain): boolean {
  return type === 'nat' ? hook === 'prerouting' || hook === 'output' : hook === 'forward' || hook === 'output'
}

function reach({ chains }: Firewall, start: string, seen: Set<string>): void {
  const queue = [{ id: start, depth: 0 }]
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const { id, depth } = next
    if (seen.has(id) || depth > MOST_JUMPS) continue
    seen.add(id)
    for (const { action } of chains.get(id)?.rules ?? []) {
      if (action.do === 'jump' || action.do === 'goto') queue.push({ id: action.chain, depth: depth + 1 })
    }
  }
}

function tellOther(base: BaseChain, rule: Rule, remarks: Remarks): void {
  const { where, text, action } = rule
  if (!namesPort25(rule) || isNever(rule) || action.do === 'nothing') return
  const at = `${base.hook} (${base.type})`
  if (base.hook === 'input') {
    remarks.add('note', 'other-hook', where, `this is about mail that arrives at this machine: ${text}`)
  } else if (action.do === 'accept' || action.do === 'return') {
    remarks.add('note', 'other-hook', where, `rules at ${at} are not followed: ${text}`)
  } else remarks.add('error', 'not-translated', where, `rules at ${at} are not followed: ${text}`)
}

function tellOfOwn(rule: Rule, remarks: Remarks): void {
  const { where, text, action, conditions } = rule
  const later = conditions.some((condition) => condition.is === 'never' && condition.later)
  const never = conditions.some((condition) => condition.is === 'never' && !condition.later)
  if (never || action.do === 'nothing') return
  if (later) {
    if (action.do === 'accept') {
      const message = `egress25 judges every packet and cuts established connections too: ${text}`
      remarks.add('note', 'established', where, message)
    } else if (namesPort25(rule)) {
      const message = `only packets after the first of a connection meet this: ${text}`
      remarks.add('error', 'not-translated', where, message)
    }
    return
  }
  if (conditions.some((condition) => condition.is === 'port' && condition.others)) {
    const message = `only port 25 was translated; keep this rule for the other ports: ${text}`
    remarks.add('warning', 'other-ports', where, message)
  }
}

function isNever({ conditions }: Rule): boolean {
  return conditions.some(({ is }) => is === 'never')
}
