/** `-j` and `-g` of an iptables rule, with the options that belong to the target. */
import { type Family, parseAddress } from '../policy/prefix.ts'
import { unknown } from './conditions.ts'
import type { Option } from './iptables-words.ts'
import { shown } from './remark.ts'
import type { Action, Condition } from './rule.ts'

/** Targets after which the packet goes on to the next rule. */
const PASSING = new Set(
  (
    'LOG NFLOG ULOG MARK CONNMARK SECMARK CONNSECMARK TCPMSS TCPOPTSTRIP CT NOTRACK TRACE CLASSIFY DSCP TOS TTL HL ' +
    'CHECKSUM SET AUDIT ACCOUNT RATEEST IDLETIMER LED NFACCT ECN TEE HMARK'
  ).split(' '),
)

export interface TargetContext {
  readonly family: Family
  /** The key of a chain of the same table; null: there is none of that name. */
  idOf(chain: string): string | null
}

/** The options are those that no match took: `-j`, its own options, and whatever nobody knows. */
export function actionOf(
  options: readonly Option[],
  { family, idOf }: TargetContext,
): { action: Action; conditions: Condition[] } {
  const at = options.findIndex(({ name }) => ['-j', '--jump', '-g', '--goto'].includes(name))
  const strange = (before: readonly Option[]): Condition[] =>
    before.map(({ name }) => unknown(`the option ${shown(name, 40)}`))
  const target = options[at]
  if (target === undefined) return { action: { do: 'nothing' }, conditions: strange(options) }
  const conditions = strange(options.slice(0, at))
  const own = options.slice(at + 1)
  const name = target.values[0] ?? ''
  const action = targetAction(name, own, target.name === '-g' || target.name === '--goto', family, idOf)
  return { action, conditions }
}

function targetAction(
  name: string,
  own: readonly Option[],
  goto: boolean,
  family: Family,
  idOf: TargetContext['idOf'],
): Action {
  const chain = idOf(name)
  if (chain !== null) return { do: goto ? 'goto' : 'jump', chain }
  const option = (wanted: string) => own.find((one) => one.name === wanted)?.values[0]
  switch (name) {
    case 'ACCEPT':
      return { do: 'accept' }
    case 'DROP':
      return { do: 'drop' }
    case 'REJECT':
      return { do: 'reject', tcpReset: option('--reject-with') === 'tcp-reset' }
    case 'RETURN':
      return { do: 'return' }
    case 'DNAT':
      return destination(option('--to-destination') ?? '', family)
    case 'SNAT':
    case 'MASQUERADE':
    case 'NETMAP':
      return { do: 'accept' }
    default:
      if (PASSING.has(name)) return { do: 'nothing' }
      return { do: 'unknown', what: /^[A-Z0-9]+$/.test(name) ? name : `the chain ${shown(name, 60)}` }
  }
}

/** One address, and port 25 if any: `192.0.2.25`, `192.0.2.25:25`, `[2001:db8::25]:25`. */
function destination(text: string, family: Family): Action {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text)
  const [, host = text, port = '25'] =
    bracketed ?? (family === 4 ? /^([^:]+)(?::(\d+))?$/.exec(text) : null) ?? []
  const address = parseAddress(host)
  if (address?.family === family && port === '25') return { do: 'redirect', to: address }
  return { do: 'unknown', what: 'DNAT to more than one address, or another port' }
}
