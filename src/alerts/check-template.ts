/** Whether a mustache template can be rendered, before anybody relies on it. Pure. */
import mustache from 'mustache'
import { quote } from '../policy/formats.ts'
import { suggest } from '../policy/suggest.ts'
import type { Variables } from './text-variables.ts'

export interface TemplateFault {
  /** Where in the template, in characters. */
  readonly offset: number
  readonly message: string
}

type Token = readonly [
  type: string,
  name: string,
  start: number,
  end: number,
  children?: readonly Token[] | string,
]

/** Every fault: of syntax the first, of variables all. */
export function templateFaults(template: string, variables: Variables): TemplateFault[] {
  let tokens: readonly Token[]
  try {
    tokens = mustache.parse(template) as unknown as Token[]
  } catch (error) {
    const [, message = '', offset = '0'] = /^(.*) at (\d+)/.exec((error as Error).message) ?? []
    return [
      { offset: startOf(message, template) ?? Number(offset), message: message || (error as Error).message },
    ]
  }
  return walk(tokens, [variables])
}

/** The parser says where it noticed; what was never closed is where it began. */
function startOf(message: string, template: string): number | null {
  if (message === 'Unclosed tag') return template.lastIndexOf('{{')
  const [, name] = /^Unclosed section "(.*)"$/.exec(message) ?? []
  if (name === undefined) return null
  const found = [...template.matchAll(/\{\{[#^]\s*([^{}]*?)\s*\}\}/g)].filter(([, one]) => one === name)
  return found.at(-1)?.index ?? null
}

function walk(tokens: readonly Token[], scopes: readonly Variables[]): TemplateFault[] {
  return tokens.flatMap(([type, name, offset, , children]): TemplateFault[] => {
    if (type === 'text') return []
    if (type === '>' || type === '=') {
      return [
        {
          offset,
          message: `{{${type}${name}}}: a text stands by itself, without partials and other delimiters`,
        },
      ]
    }
    const scope = [...scopes].reverse().find((one) => Object.hasOwn(one, name))
    if (scope === undefined) {
      const known = [...new Set(scopes.flatMap((one) => Object.keys(one)))]
      return [{ offset, message: `there is no variable ${quote(name)} here${suggest(name, known)}` }]
    }
    const items = scope[name] ?? null
    if (!Array.isArray(children)) {
      return items === null
        ? []
        : [{ offset, message: `${name} is a list: write {{#${name}}} … {{/${name}}}` }]
    }
    return walk(children, type === '#' && items !== null ? [...scopes, items] : scopes)
  })
}
