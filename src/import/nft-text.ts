/** nft's JSON back to something like nft's own language, so that a person finds the rule that is meant. */
import { only, record } from './json.ts'
import { shown } from './remark.ts'

const DEEPEST = 12

/** Bounded in length and depth; whatever is not known is shown as JSON. */
export function ruleText(expressions: readonly unknown[]): string {
  return shown(
    expressions
      .slice(0, 32)
      .map((one) => statement(one))
      .join(' '),
    240,
  )
}

export function expressionText(value: unknown, depth = 0): string {
  if (depth > DEEPEST) return '…'
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  if (Array.isArray(value)) {
    return value
      .slice(0, 16)
      .map((one) =>
        // In a map: what is looked up, and what comes of it.
        Array.isArray(one) && one.length === 2
          ? `${expressionText(one[0], depth + 1)} : ${statement(one[1])}`
          : expressionText(one, depth + 1),
      )
      .join(', ')
  }
  const [key, body] = only(value)
  const fields = record(body)
  switch (key) {
    case 'payload':
      return `${text(fields['protocol'])} ${text(fields['field'])}`.trim()
    case 'meta':
      return `meta ${text(fields['key'])}`
    case 'ct':
      return `ct ${text(fields['dir'])} ${text(fields['key'])}`.replace('  ', ' ')
    case 'fib':
      return `fib ${expressionText(fields['flags'], depth + 1)} ${text(fields['result'])}`
    case 'prefix':
      return `${expressionText(fields['addr'], depth + 1)}/${text(fields['len'])}`
    case 'range':
      return Array.isArray(body) ? body.map((one) => expressionText(one, depth + 1)).join('-') : '…'
    case 'set':
      return `{ ${expressionText(body, depth + 1)} }`
    case 'concat':
      return Array.isArray(body)
        ? body
            .slice(0, 16)
            .map((one) => expressionText(one, depth + 1))
            .join(' . ')
        : '…'
    case 'elem':
      return expressionText(fields['val'], depth + 1)
    case '&':
    case '|':
    case '^':
      return Array.isArray(body)
        ? body
            .slice(0, 16)
            .map((one) => expressionText(one, depth + 1))
            .join(` ${key} `)
        : '…'
    default:
      return shown(key === '' ? '…' : key, 60)
  }
}

function statement(value: unknown): string {
  const [key, body] = only(value)
  const fields = record(body)
  switch (key) {
    case 'match': {
      const op = fields['op'] === '==' || fields['op'] === 'in' ? ' ' : ` ${text(fields['op'])} `
      return `${expressionText(fields['left'])}${op}${expressionText(fields['right'])}`
    }
    case 'vmap':
      return `${expressionText(fields['key'])} vmap ${expressionText(fields['data'])}`
    case 'jump':
    case 'goto':
      return `${key} ${text(fields['target'])}`
    case 'limit':
      return `limit rate ${text(fields['rate'])}/${text(fields['per'])}`
    case 'dnat':
    case 'snat':
      return `${key} to ${expressionText(fields['addr'])}${fields['port'] === undefined ? '' : `:${expressionText(fields['port'])}`}`
    case 'reject':
      return fields['type'] === undefined
        ? 'reject'
        : `reject with ${text(fields['type'])} ${text(fields['expr'])}`.trim()
    case 'xt':
      return `xt ${text(fields['type'])} ${text(fields['name'])}`
    default:
      return shown(key, 60)
  }
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? shown(String(value), 60) : ''
}
