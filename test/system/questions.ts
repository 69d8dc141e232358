/** Requests at random, from what `/openapi.json` says: right ones, wrong ones, and such as nobody would think of. */
import fc from 'fast-check'
import type { Contract, Described } from './contract.ts'
import type { Question } from './socket-client.ts'

const METHODS = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'OPTIONS', 'PATCH']

/** Text of all kinds, also such as does not belong into an address. */
const text = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc.constantFrom('', '0', '-1', '1e309', 'true', 'null', '/etc', '../../etc/passwd', 'a\0b', ':(exclude)x'),
  fc.constantFrom('100.64.1.2', '2001:db8::1/64', '::ffff:100.64.1.2', '__proto__', 'constructor'),
  fc.constant('x'.repeat(400)),
)
const anyBody = fc.oneof(
  fc.json({ maxDepth: 3 }),
  fc.string({ maxLength: 200 }),
  fc.constant('{"a":1,"a":2}'),
)

/** In one of so many cases. */
function oneIn<T>(count: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: count - 1, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
}

/** A value with something in it changed. */
function changed(value: unknown): fc.Arbitrary<unknown> {
  if (typeof value !== 'object' || value === null) return fc.anything({ maxDepth: 1 })
  const keys = Object.keys(value)
  return fc
    .record({
      drop: fc.subarray(keys, { maxLength: 1 }),
      put: fc.dictionary(fc.constantFrom(...keys, 'kind', 'name', '__proto__', 'x'), fc.jsonValue(), {
        maxKeys: 2,
      }),
    })
    .map(({ drop, put }) => {
      const rest = Object.entries(value).filter(([key]) => !drop.includes(key))
      return { ...Object.fromEntries(rest), ...put }
    })
}

function headers(): fc.Arbitrary<Record<string, string>> {
  const visible = fc.string({
    unit: fc.integer({ min: 33, max: 126 }).map((code) => String.fromCharCode(code)),
    maxLength: 40,
  })
  return fc
    .record({
      accept: oneIn(
        8,
        fc.oneof(fc.constantFrom('*/*', 'application/json;q=0', 'text/html, */*;q=0.1'), visible),
      ),
      'content-type': oneIn(
        8,
        fc.oneof(
          fc.constantFrom('application/yaml', 'text/plain', 'application/json; charset=latin1'),
          visible,
        ),
      ),
      'if-match': oneIn(3, fc.oneof(fc.constantFrom('*', 'W/"x"', ''), visible)),
      'if-none-match': oneIn(6, fc.constantFrom('*', '"x"')),
      'idempotency-key': oneIn(4, visible),
      'x-request-id': oneIn(4, visible),
      authorization: oneIn(
        12,
        fc.oneof(fc.constant(`Bearer egress25_000000000000_${'a'.repeat(43)}`), visible),
      ),
      origin: oneIn(12, fc.constantFrom('http://evil.example', 'null')),
      'x-egress25-user': oneIn(4, visible),
    })
    .map((all) =>
      Object.fromEntries(
        Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
      ),
    )
}

function pathOf({ path, parameters = [] }: Described): fc.Arbitrary<string> {
  const inPath = parameters.filter((one) => one.in === 'path')
  const inQuery = parameters.filter((one) => one.in === 'query')
  const values = (one: (typeof parameters)[number]) =>
    fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(one.example ?? '', ...(one.schema.enum ?? [])) },
      { weight: 2, arbitrary: text },
    )
  return fc
    .record({
      path: fc.tuple(...inPath.map(values)),
      query: fc.tuple(...inQuery.map((one) => oneIn(one.required === true ? 1 : 4, values(one)))),
      more: oneIn(10, fc.tuple(text, text)),
      ending: fc.constantFrom('', '', '', '', '/', '?%zz', '%'),
    })
    .map(({ path: given, query, more, ending }) => {
      let at = 0
      const filled = path.replace(/\{\w+\}/g, () => encodeURIComponent(given[at++] ?? ''))
      const pairs: (readonly [string, string])[] = query.flatMap((value, index) =>
        value === undefined ? [] : [[inQuery[index]?.name ?? '', value] as const],
      )
      if (more !== undefined) pairs.push(more)
      const written = pairs.map((pair) => pair.map(encodeURIComponent).join('=')).join('&')
      return `${filled}${written === '' ? '' : `?${written}`}${ending}`
    })
}

/** A request to one of the operations, or to its address by another method. */
export function anyQuestion(contract: Contract): fc.Arbitrary<Question> {
  // A stream has no end.
  const operations = contract.operations.filter(({ path }) => path !== '/v1/events')
  return fc.constantFrom(...operations).chain((operation) => {
    const example = operation.requestBody?.content['application/json']?.example
    const bodies =
      example === undefined
        ? [anyBody]
        : [changed(example).map((value) => JSON.stringify(value) ?? ''), anyBody]
    return fc
      .record({
        method: fc.oneof(
          { weight: 5, arbitrary: fc.constant(operation.method) },
          { weight: 1, arbitrary: fc.constantFrom(...METHODS) },
        ),
        path: pathOf(operation),
        headers: headers(),
        body: oneIn(example === undefined ? 8 : 1, fc.oneof(...bodies)),
      })
      .map(({ body, headers: given, ...rest }): Question => {
        const type = body === undefined ? {} : { 'content-type': 'application/json' }
        return { ...rest, headers: { ...type, ...given }, ...(body === undefined ? {} : { body }) }
      })
  })
}
