/** `/v1/{policies,relays,exemptions,lists,tests}`: the documents as resources. */
import { type TSchema, Type } from 'typebox'
import { completeDocument, findDocument } from '../../control/changes/document-change.ts'
import { planBody } from '../../plan/plan-body.ts'
import { NAME } from '../../policy/name.ts'
import { DOCUMENT_SCHEMAS, KINDS, type Kind, PLURALS } from '../../policy/schema.ts'
import type { Context } from '../context.ts'
import { ETags, etagOf, GetConditions, NOT_MODIFIED } from '../http/etag.ts'
import { limitOf, PageQuery, page, textCursor } from '../http/page.ts'
import { checkConditions, checkPut, isKnown } from '../http/preconditions.ts'
import { ApiError, CHANGE_PROBLEMS } from '../http/problem.ts'
import type { Api, Routes } from '../route.ts'
import { documentSchema, object, oneOf, pageOf, titleOf } from '../schemas.ts'
import { DOCUMENT_EXAMPLES } from './document-examples.ts'
import { OVERRIDE_PROBLEMS, OverrideQuery, overridesIncident } from './override-incident.ts'
import { PlanSchema } from './plan-schema.ts'
import { ReasonHeader, reasonOf } from './reason.ts'

const ChangeQuery = object({
  dry_run: Type.Optional(oneOf(['true', 'false'], { description: 'true: only say what it would change' })),
})

const Preconditions = Type.Object({
  'if-match': ETags,
  'if-none-match': ETags,
  ...ReasonHeader.properties,
})
const ExemptingQuery = object({ ...ChangeQuery.properties, ...OverrideQuery.properties })

/** What may let a host through: an exemption, and a list that one uses. */
const EXEMPTING: readonly Kind[] = ['exemption', 'list']

const CHANGING = [...CHANGE_PROBLEMS, 'precondition-failed'] as const

export const documentRoutes: Routes<Context> = (app, context) => {
  for (const kind of KINDS) routesOf(app, context, kind)
}

function routesOf(app: Api, { controller, requests, fourEyes }: Context, kind: Kind): void {
  const path = `/v1/${PLURALS[kind]}`
  const tags = [PLURALS[kind]]
  const example = DOCUMENT_EXAMPLES[kind]
  const title = titleOf(kind)
  const Answered = documentSchema(kind)
  const params = Type.Object({
    name: Type.String({ pattern: NAME.source, examples: [example.name] }),
  })
  const access = kind === 'exemption' ? 'operator' : 'admin'
  /** The request for an exemption tells why it was changed. */
  const because = (name: string, reason: string | null) => {
    if (kind === 'exemption') requests.because(name, reason)
  }
  const notAfterAll = (name: string) => (error: unknown) => {
    because(name, null)
    throw error
  }
  const inForce = () => ({ documents: controller.inForce?.loaded.documents ?? [] })

  app.get(
    path,
    {
      schema: {
        operationId: `list${plural(title)}`,
        summary: `The documents of kind ${kind}, by name`,
        tags,
        querystring: PageQuery,
        response: { 200: pageOf(Answered, `a page of documents of kind ${kind}`) },
      },
      config: { access: 'viewer' },
    },
    ({ query }) => {
      const after = textCursor(query, NAME) ?? ''
      const limit = limitOf(query)
      const found = inForce()
        .documents.map(({ document }) => document)
        .filter((document) => document.kind === kind && document.name > after)
        .sort((a, b) => (a.name < b.name ? -1 : 1))
      return page(found.slice(0, limit + 1), limit, ({ name }) => name)
    },
  )

  app.get(
    `${path}/:name`,
    {
      schema: {
        operationId: `get${title}`,
        summary: `One document of kind ${kind}`,
        tags,
        params,
        headers: GetConditions,
        response: { 200: Answered, 304: NOT_MODIFIED },
      },
      config: { access: 'viewer', problems: ['not-found', 'precondition-failed'] },
    },
    async (request, reply) => {
      const { name } = request.params
      const found = findDocument(inForce(), kind, name)
      if (found === null) throw missing(kind, name)
      if (isKnown(request, reply, etagOf(found.document))) return reply.code(304).send()
      return reply.send(found.document)
    },
  )

  app.put(
    `${path}/:name`,
    {
      schema: {
        operationId: `put${title}`,
        summary: `Create or replace a document of kind ${kind}`,
        tags,
        params,
        querystring: EXEMPTING.includes(kind) ? ExemptingQuery : ChangeQuery,
        headers: Preconditions,
        response: {
          200: Type.Union([
            Answered,
            object({ dry_run: Type.Literal(true), document: Answered, plan: PlanSchema }),
          ]),
          201: Answered,
        },
      },
      config: {
        access,
        body: written(kind),
        problems: [
          ...CHANGING,
          'invalid-document',
          'file-exists',
          'precondition-required',
          ...(EXEMPTING.includes(kind) ? OVERRIDE_PROBLEMS : []),
          ...(kind === 'exemption' ? (['four-eyes'] as const) : []),
        ],
      },
    },
    async ({ params: { name }, query, headers, body, caller }, reply) => {
      const document = completeDocument(kind, name, body)
      const reason = reasonOf(headers)
      if (kind === 'exemption' && fourEyes && caller.role !== 'admin') {
        throw new ApiError('four-eyes', 'exemptions are asked for here: POST /v1/exemption-requests')
      }
      const override = { overrideIncident: overridesIncident(query), reason }
      let created = false
      const dryRun = query.dry_run === 'true'
      const putting = controller.put(document, {
        mayGoAhead(current) {
          created = current === null
          checkPut(headers, current)
          if (!dryRun) because(name, reason)
        },
        mayBecome(model) {
          if (kind === 'exemption') requests.mayExempt(model, name, override)
          else if (kind === 'list') requests.mayBecome(model, override)
        },
        dryRun,
        by: caller,
        reason,
      })
      const plan = await putting.catch(notAfterAll(name))
      if (plan !== null) return reply.send({ dry_run: true, document, plan: planBody(plan) })
      return reply
        .code(created ? 201 : 200)
        .header('etag', etagOf(document))
        .send(document)
    },
  )

  app.delete(
    `${path}/:name`,
    {
      schema: {
        operationId: `delete${title}`,
        summary: `Remove a document of kind ${kind}`,
        tags,
        params,
        querystring: ChangeQuery,
        headers: Preconditions,
        response: {
          200: object({ dry_run: Type.Literal(true), plan: PlanSchema }),
          204: { description: 'it is gone' },
        },
      },
      config: { access, problems: [...CHANGING, 'not-found'] },
    },
    async ({ params: { name }, query, headers, caller }, reply) => {
      const dryRun = query.dry_run === 'true'
      const reason = reasonOf(headers)
      const deleting = controller.delete(kind, name, {
        mayGoAhead(current) {
          if (current === null) throw missing(kind, name)
          checkConditions(headers, current)
          if (!dryRun) because(name, reason)
        },
        dryRun,
        by: caller,
        reason,
      })
      const plan = await deleting.catch(notAfterAll(name))
      if (plan !== null) return reply.send({ dry_run: true, plan: planBody(plan) })
      return reply.code(204).send(null)
    },
  )
}

/** A document as it is sent: the address has its kind and name, so they may be left out. */
function written(kind: Kind): TSchema {
  const { properties, required = [] } = DOCUMENT_SCHEMAS[kind] as { properties: object; required?: string[] }
  return {
    ...DOCUMENT_SCHEMAS[kind],
    title: `${titleOf(kind)}Body`,
    properties,
    required: required.filter((key) => key !== 'kind' && key !== 'name'),
    examples: [DOCUMENT_EXAMPLES[kind].body],
  } as TSchema
}

function plural(title: string): string {
  return title.endsWith('y') ? `${title.slice(0, -1)}ies` : `${title}s`
}

function missing(kind: Kind, name: string): ApiError {
  return new ApiError('not-found', `there is no ${kind} ${name}`)
}
