/** `nft -j list ruleset` to the common form, as libnftables-json(5) describes it. */
import type { Family } from '../policy/prefix.ts'
import { parseAddress } from '../policy/prefix.ts'
import { type Surroundings, unknown } from './conditions.ts'
import { isRecord, items, type Json, only, record, scalar } from './json.ts'
import { keyConditions, type MatchContext, matchConditions, tellExpiry, unreadable } from './nft-match.ts'
import { expressionText, ruleText } from './nft-text.ts'
import { mapEntries, type NamedSet, namedSet } from './nft-values.ts'
import { ImportError, type Remarks, shown } from './remark.ts'
import type { Action, BaseChain, Chain, Condition, Firewall, Hook, Rule } from './rule.ts'

const FAMILIES: Readonly<Record<string, readonly Family[]>> = { ip: [4], ip6: [6], inet: [4, 6] }
const HOOKS: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting']

/**
 * Reads a listing. Objects that are not what they should be are told of and passed over.
 * @throws ImportError when the text is not such a listing at all
 */
export function readNft(text: string, surroundings: Surroundings, remarks: Remarks): Firewall {
  const listed = listing(text)
  const sets = new Map<string, NamedSet>()
  const chains = new Map<string, { name: string; rules: Rule[] }>()
  const bases: BaseChain[] = []
  for (const object of listed) {
    const [kind, value] = only(object)
    const body = record(value)
    if (kind === 'set' || kind === 'map') {
      sets.set(`${tableOf(body)} ${scalar(body['name'])}`, namedSet(body))
    } else if (kind === 'chain') {
      const id = `${tableOf(body)} ${scalar(body['name'])}`
      if (isOwn(body)) {
        remarks.add('note', 'own-table', 'inet egress25', 'the table of egress25 itself was passed over')
        continue
      }
      if (!chains.has(id)) chains.set(id, { name: scalar(body['name']) ?? '', rules: [] })
      const base = baseChain(body, id)
      if (base !== null) bases.push(base)
    }
  }
  for (const object of listed) {
    const [kind, value] = only(object)
    if (kind !== 'rule') continue
    const body = record(value)
    if (isOwn(body)) continue
    const id = `${tableOf(body)} ${scalar(body['chain'])}`
    const where = shown(`${id} handle ${scalar(body['handle']) ?? '?'}`, 200)
    const chain = chains.get(id)
    if (chain === undefined || !Array.isArray(body['expr'])) {
      remarks.add('error', 'syntax', where, 'a rule without expressions, or of a chain that is not listed')
      continue
    }
    const family = scalar(body['family']) ?? ''
    const context: MatchContext = {
      findSet: (name) => sets.get(`${tableOf(body)} ${name}`) ?? null,
      surroundings,
      remarks,
      where,
    }
    const rules = rulesOf(body, where, context, (target) => `${tableOf(body)} ${target}`, chains)
    if (FAMILIES[family] === undefined) tellForeign(rules, family, remarks)
    else for (const rule of rules) chain.rules.push(rule)
  }
  return { chains: chains as ReadonlyMap<string, Chain>, bases }
}

function listing(text: string): readonly unknown[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? shown(error.message, 120) : ''
    throw new ImportError(`the input is not whole JSON: ${reason}`)
  }
  const list = isRecord(parsed) ? parsed['nftables'] : undefined
  if (!Array.isArray(list)) {
    throw new ImportError(
      'the input is JSON, but not what nft -j list ruleset prints: there is no "nftables" list',
    )
  }
  return list
}

function tableOf(body: Json): string {
  return `${scalar(body['family'])} ${scalar(body['table'])}`
}

function isOwn(body: Json): boolean {
  return body['family'] === 'inet' && body['table'] === 'egress25'
}

function baseChain(body: Json, id: string): BaseChain | null {
  const families = FAMILIES[scalar(body['family']) ?? '']
  const { type, hook, prio, policy } = body
  if (families === undefined || typeof hook !== 'string' || !HOOKS.includes(hook)) return null
  return {
    chain: id,
    families,
    hook: hook as Hook,
    type: type === 'nat' ? 'nat' : 'filter',
    priority: typeof prio === 'number' ? prio : 0,
    policy: policy === 'drop' ? 'drop' : 'accept',
    where: shown(id, 200),
    text: `policy ${policy === 'drop' ? 'drop' : 'accept'}`,
  }
}

/** Bridges and devices see frames, not what is routed. */
function tellForeign(rules: readonly Rule[], family: string, remarks: Remarks): void {
  for (const { where, text, conditions, action } of rules) {
    if (!conditions.some(({ is }) => is === 'port') || action.do === 'nothing') continue
    remarks.add(
      'error',
      'not-translated',
      where,
      `rules of family ${shown(family, 20)} are not followed: ${text}`,
    )
  }
}

/** One rule; several where it has a verdict map. */
function rulesOf(
  body: Json,
  where: string,
  context: MatchContext,
  idOf: (chain: string) => string,
  chains: ReadonlyMap<string, unknown>,
): Rule[] {
  const expressions = items(body['expr'])
  const text = ruleText(expressions)
  const comment = typeof body['comment'] === 'string' ? shown(body['comment'], 200) : null
  const conditions: Condition[] = []
  const rules: Rule[] = []
  const finish = (action: Action, more: readonly Condition[] = [], of = text) =>
    rules.push({ where, text: of, comment, conditions: [...conditions, ...more], action })
  const jump = (kind: 'jump' | 'goto', value: unknown): Action => {
    const chain = scalar(record(value)['target']) ?? ''
    if (chains.has(idOf(chain))) return { do: kind, chain: idOf(chain) }
    context.remarks.add('error', 'unknown-chain', where, `there is no chain ${shown(chain, 60)}: ${text}`)
    return { do: 'unknown', what: `the chain ${shown(chain, 60)}` }
  }
  for (const expression of expressions) {
    const [kind, value] = only(expression)
    switch (kind) {
      case 'match':
        conditions.push(...matchConditions(value, context))
        break
      case 'accept':
      case 'drop':
      case 'return':
        finish({ do: kind })
        return rules
      case 'continue':
        break
      case 'reject': {
        const type = record(value)['type']
        finish({ do: 'reject', tcpReset: type === 'tcp reset' })
        return rules
      }
      case 'jump':
      case 'goto':
        finish(jump(kind, value))
        return rules
      case 'vmap': {
        const { key, data } = record(value)
        try {
          const { entries, expires } = mapEntries(data, context.findSet)
          tellExpiry(expires, context)
          for (const [element, verdict] of entries) {
            const [name, target] = only(verdict)
            const more = keyConditions(key, element, context)
            const of = shown(
              `${text} [${expressionText(element)}: ${name} ${scalar(record(target)['target']) ?? ''}]`,
            )
            if (name === 'accept' || name === 'drop' || name === 'return') finish({ do: name }, more, of)
            else if (name === 'jump' || name === 'goto') finish(jump(name, target), more, of)
            else if (name !== 'continue')
              finish({ do: 'unknown', what: `the verdict ${shown(name, 40)}` }, more, of)
          }
        } catch (error) {
          const condition = unreadable(error, context)
          finish({ do: 'unknown', what: 'a verdict map' }, [condition])
        }
        break
      }
      case 'dnat':
        finish(redirection(record(value)))
        return rules
      case 'snat':
      case 'masquerade':
        finish({ do: 'accept' })
        return rules
      case 'redirect':
      case 'queue':
      case 'tproxy':
      case 'synproxy':
        finish({ do: 'unknown', what: kind })
        if (kind !== 'synproxy') return rules
        break
      case 'xt':
        if (isPassingTarget(record(value))) break
        if (record(value)['type'] === 'target') {
          finish({ do: 'unknown', what: `${xtName(value)}: give what iptables-save prints instead` })
          return rules
        }
        if (record(value)['name'] !== 'comment') {
          conditions.push(unknown(`${xtName(value)}: give what iptables-save prints instead`))
        }
        break
      case 'limit':
      case 'quota':
      case 'ct count':
        conditions.push(unknown(kind === 'limit' ? 'a rate limit' : kind))
        break
      case 'set':
      case 'map':
      case 'meter':
        conditions.push(unknown('a set that is filled while packets pass'))
        break
      case 'counter':
      case 'log':
      case 'mangle':
      case 'notrack':
      case 'flow':
      case 'ct helper':
      case 'ct timeout':
      case 'ct expectation':
      case 'secmark':
      case 'dup':
        break
      default:
        conditions.push(
          unknown(kind === '' ? 'an expression that is not known' : `the statement ${shown(kind, 40)}`),
        )
    }
  }
  if (rules.length === 0) finish({ do: 'nothing' })
  return rules
}

/** An address alone, and port 25 if any: that is what a redirect to a relay can be. */
function redirection({ addr, port }: Json): Action {
  const address = typeof addr === 'string' ? parseAddress(addr) : null
  const samePort = port === undefined || port === 25 || port === 'smtp'
  if (address === null || !samePort)
    return { do: 'unknown', what: 'dnat to more than one address, or another port' }
  return { do: 'redirect', to: address }
}

function xtName(value: unknown): string {
  return `the iptables extension ${shown(scalar(record(value)['name']) ?? '?', 30)}`
}

function isPassingTarget({ type, name }: Json): boolean {
  return (
    type === 'target' &&
    [
      'LOG',
      'NFLOG',
      'MARK',
      'CONNMARK',
      'TCPMSS',
      'CT',
      'NOTRACK',
      'TRACE',
      'CLASSIFY',
      'DSCP',
      'TOS',
    ].includes(String(name))
  )
}
