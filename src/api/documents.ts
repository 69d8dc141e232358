/** `/v1/{policies,relays,exemptions,lists,tests}`: the documents as resources. */
import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import type { Precondition } from '../control/controller.ts'
import { completeDocument, findDocument } from '../control/document-change.ts'
import { planBody } from '../plan/plan-body.ts'
import { type Document, KINDS, type Kind, PLURALS } from '../policy/schema.ts'
import type { Context } from './context.ts'
import { limitOf, PageQuery, page, readCursor } from './page.ts'
import { ApiError } from './problem.ts'

const NameParams = Type.Object({ name: Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,47}$' }) })
const ChangeQuery = Type.Object(
  { dry_run: Type.Optional(Type.Enum(['true', 'false'])) },
  { additionalProperties: false },
)

type Headers = Readonly<Record<string, string | string[] | undefined>>

export function documentRoutes(app: FastifyInstance, context: Context): void {
  for (const kind of KINDS) routesOf(app, context, kind)
}

function routesOf(app: FastifyInstance, { controller }: Context, kind: Kind): void {
  const path = `/v1/${PLURALS[kind]}`
  const inForce = () => ({ documents: controller.inForce?.loaded.documents ?? [] })

  app.get<{ Querystring: Static<typeof PageQuery> }>(
    path,
    { schema: { querystring: PageQuery } },
    ({ query }) => {
      const after = readCursor(query) ?? ''
      const limit = limitOf(query)
      const found = inForce()
        .documents.map(({ document }) => document)
        .filter((document) => document.kind === kind && document.name > after)
        .sort((a, b) => (a.name < b.name ? -1 : 1))
      return page(found.slice(0, limit + 1), limit, ({ name }) => name)
    },
  )

  app.get<{ Params: Static<typeof NameParams> }>(
    `${path}/:name`,
    { schema: { params: NameParams } },
    ({ params: { name } }, reply) => {
      const found = findDocument(inForce(), kind, name)
      if (found === null) throw missing(kind, name)
      return reply.header('etag', etagOf(found.document)).send(found.document)
    },
  )

  app.put<{ Params: Static<typeof NameParams>; Querystring: Static<typeof ChangeQuery> }>(
    `${path}/:name`,
    { schema: { params: NameParams, querystring: ChangeQuery } },
    async ({ params: { name }, query, headers, body, caller }, reply) => {
      const document = completeDocument(kind, name, body)
      let created = false
      const plan = await controller.put(document, {
        mayGoAhead(current) {
          created = current === null
          checkPut(headers, current)
        },
        dryRun: query.dry_run === 'true',
        by: caller,
      })
      if (plan !== null) return reply.send({ dry_run: true, document, plan: planBody(plan) })
      return reply
        .code(created ? 201 : 200)
        .header('etag', etagOf(document))
        .send(document)
    },
  )

  app.delete<{ Params: Static<typeof NameParams>; Querystring: Static<typeof ChangeQuery> }>(
    `${path}/:name`,
    { schema: { params: NameParams, querystring: ChangeQuery } },
    async ({ params: { name }, query, headers, caller }, reply) => {
      const mayGoAhead: Precondition = (current) => {
        if (current === null) throw missing(kind, name)
        if (headers['if-match'] !== undefined) checkMatch(headers, current)
      }
      const plan = await controller.delete(kind, name, {
        mayGoAhead,
        dryRun: query.dry_run === 'true',
        by: caller,
      })
      if (plan !== null) return reply.send({ dry_run: true, plan: planBody(plan) })
      return reply.code(204).send()
    },
  )
}

/** A strong validator (RFC 9110 §8.8.3): the same document has the same tag on every gateway. */
function etagOf(document: Document): string {
  return `"${createHash('sha256').update(JSON.stringify(document)).digest('hex').slice(0, 32)}"`
}

/** Nobody replaces what they have not seen. */
function checkPut(headers: Headers, current: Document | null): void {
  if (headers['if-none-match'] === '*') {
    if (current !== null)
      throw new ApiError('precondition-failed', `${current.kind} ${current.name} exists already`)
    return
  }
  if (headers['if-match'] !== undefined) {
    checkMatch(headers, current)
    return
  }
  if (current !== null) {
    throw new ApiError(
      'precondition-required',
      `${current.kind} ${current.name} exists; name its ETag in If-Match`,
    )
  }
}

function checkMatch(headers: Headers, current: Document | null): void {
  const wanted = String(headers['if-match']).split(/\s*,\s*/)
  if (current === null || !(wanted.includes('*') || wanted.includes(etagOf(current)))) {
    throw new ApiError('precondition-failed', 'the document is not the version that If-Match names')
  }
}

function missing(kind: Kind, name: string): ApiError {
  return new ApiError('not-found', `there is no ${kind} ${name}`)
}
