/** `/v1/exemption-requests`: who asks for an exemption, and what becomes of it. */
import { type TSchema, Type } from 'typebox'
import type { Caller } from '../../caller.ts'
import { completeDocument, DocumentError } from '../../control/changes/document-change.ts'
import {
  type ExemptionRequest,
  REQUEST_EVENTS,
  REQUEST_STATES,
  type RequestState,
  requesterOf,
  type Stage,
} from '../../exemptions/exemption-request.ts'
import { parseDuration } from '../../policy/formats.ts'
import { type ExemptionDocument, ExemptionSchema } from '../../policy/schema.ts'
import { checkShape } from '../../policy/shape.ts'
import type { Context } from '../context.ts'
import { limitOf, numberCursor, PageQuery, page } from '../http/page.ts'
import { CHANGE_PROBLEMS } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { documentSchema, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import { DOCUMENT_EXAMPLES } from './document-examples.ts'

const { kind: _kind, name: _name, ...properties } = ExemptionSchema.properties

/** An exemption without its kind; the name may be left to the service. */
const RequestBody = object(
  {
    name: Type.Optional(ExemptionSchema.properties.name),
    ...properties,
    for: Type.Optional(
      Type.String({
        format: 'duration',
        minLength: 1,
        maxLength: 20,
        description: 'how long it is to last from its approval, such as 30d; in place of expires',
      }),
    ),
  },
  { title: 'ExemptionRequestBody', description: 'an exemption that somebody asks for' },
)

const Reason = Type.Optional(Type.String({ minLength: 1, maxLength: 2_000, description: 'why' }))
const DecisionBody = object({ reason: Reason }, { title: 'Decision' })
const ApprovalBody = object(
  {
    reason: Reason,
    override_incident: Type.Optional(
      Type.Boolean({ description: 'although a host has an open incident; needs a reason' }),
    ),
  },
  { title: 'Approval' },
)

const Who = object({ by: Text, at: Time, reason: nullable(Text) })

export const ExemptionRequestSchema = object(
  {
    id: Text,
    state: oneOf(REQUEST_STATES),
    exemption: documentSchema('exemption'),
    for: nullable(Type.String({ description: 'how long it lasts from its approval' })),
    requested: Who,
    decided: nullable(Who),
    incidents: Type.Array(object({ id: Text, kind: Text, source: Text, summary: Text }), {
      description: 'open ones of hosts that it covers, which speak against it',
    }),
    history: Type.Array(
      object({
        event: oneOf(REQUEST_EVENTS),
        at: Time,
        by: Text,
        reason: nullable(Text),
        overrode: Type.Optional(Type.Array(Text, { description: 'ids of incidents' })),
      }),
    ),
  },
  { title: 'ExemptionRequest', description: 'who asked for an exemption, and what became of it' },
)

const IdParams = Type.Object({ id: Type.String({ pattern: '^[0-9a-f]{10}$' }) })
const ListQuery = object({
  ...PageQuery.properties,
  state: Type.Optional(oneOf(REQUEST_STATES)),
  requester: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
})

const CHANGING = [...CHANGE_PROBLEMS, 'file-exists'] as const

export const exemptionRequestRoutes: Routes<Context> = (app, { requests, expiring }) => {
  const body = (kept: ExemptionRequest) => {
    const { request, state } = requests.shown(kept, expiring)
    const [asked, ...since] = request.events.map(({ event, time, by, reason, overrode }) => ({
      event,
      at: new Date(time).toISOString(),
      by,
      reason,
      ...(overrode === undefined ? {} : { overrode: [...overrode] }),
    }))
    const who = (event: typeof asked) =>
      event === undefined ? null : { by: event.by, at: event.at, reason: event.reason }
    const incidents = state === 'requested' ? requests.incidentsOf(request) : []
    return {
      id: request.id,
      state,
      exemption: request.exemption,
      for: request.lasts,
      requested: who(asked) ?? { by: requesterOf(request), at: '', reason: null },
      decided: who(since[0]),
      incidents: incidents.map(({ id, kind, source, summary }) => ({ id, kind, source, summary })),
      history: asked === undefined ? [] : [asked, ...since],
    }
  }

  app.post(
    '/v1/exemption-requests',
    {
      schema: {
        operationId: 'requestExemption',
        summary: 'Ask for an exemption',
        tags: ['exemption-requests'],
        response: { 201: ExemptionRequestSchema },
      },
      config: {
        access: 'requester',
        body: { ...RequestBody, examples: [exampleBody()] } as TSchema,
        problems: ['invalid-document'],
      },
    },
    async ({ body: written, caller }, reply) => {
      const { exemption, lasts } = readRequest(written)
      const request = requests.ask(exemption, lasts, caller)
      return reply.code(201).header('location', `/v1/exemption-requests/${request.id}`).send(body(request))
    },
  )

  app.get(
    '/v1/exemption-requests',
    {
      schema: {
        operationId: 'listExemptionRequests',
        summary: 'Requests for exemptions, the latest first; a requester sees its own',
        tags: ['exemption-requests'],
        querystring: ListQuery,
        response: { 200: pageOf(ExemptionRequestSchema, 'a page of requests') },
      },
      config: { access: 'any' },
    },
    ({ query, caller }) => {
      const limit = limitOf(query)
      const { state } = query
      const requester = caller.role === 'requester' ? caller.name : (query.requester ?? null)
      if (caller.role === 'requester' && (query.requester ?? caller.name) !== caller.name)
        return { items: [], next: null }
      const stages = state === undefined ? null : STAGES[state]
      const found: { number: number; body: ReturnType<typeof body> }[] = []
      let after = numberCursor(query)
      // How an exemption is depends on the time, so pages of a state are filled by looking.
      while (found.length <= limit) {
        const some = requests.list({ stages, requester, limit: limit + 1, after })
        for (const request of some) {
          if (state !== undefined && requests.shown(request, expiring).state !== state) continue
          found.push({ number: request.number, body: body(request) })
        }
        after = some.at(-1)?.number ?? null
        if (some.length <= limit || after === null) break
      }
      const { items, next } = page(found, limit, ({ number }) => String(number))
      return { items: items.map((one) => one.body), next }
    },
  )

  app.get(
    '/v1/exemption-requests/:id',
    {
      schema: {
        operationId: 'getExemptionRequest',
        summary: 'One request',
        tags: ['exemption-requests'],
        params: IdParams,
        response: { 200: ExemptionRequestSchema },
      },
      config: { access: 'any', problems: ['not-found'] },
    },
    ({ params: { id }, caller }) => body(requests.get(id, caller)),
  )

  app.post(
    '/v1/exemption-requests/:id/approve',
    {
      schema: {
        operationId: 'approveExemptionRequest',
        summary: 'Bring the exemption into force',
        tags: ['exemption-requests'],
        params: IdParams,
        body: optional(ApprovalBody),
        response: { 200: ExemptionRequestSchema },
      },
      config: {
        access: 'operator',
        problems: [
          ...CHANGING,
          'not-found',
          'request-decided',
          'open-incident',
          'four-eyes',
          'reason-required',
        ],
      },
    },
    async ({ params: { id }, body: written, caller }) => {
      const { reason = null, override_incident = false } = written ?? {}
      return body(await requests.approve(id, { by: caller, reason, overrideIncident: override_incident }))
    },
  )

  const decision = (
    verb: 'refuse' | 'withdraw' | 'revoke',
    summary: string,
    access: 'operator' | 'requester',
    decide: (id: string, decision: { by: Caller; reason: string | null }) => Promise<ExemptionRequest>,
  ) =>
    app.post(
      `/v1/exemption-requests/:id/${verb}`,
      {
        schema: {
          operationId: `${verb}ExemptionRequest`,
          summary,
          tags: ['exemption-requests'],
          params: IdParams,
          body: optional(DecisionBody),
          response: { 200: ExemptionRequestSchema },
        },
        config: {
          access,
          problems: ['not-found', 'request-decided', ...(verb === 'revoke' ? CHANGING : [])],
        },
      },
      async ({ params: { id }, body: written, caller }) =>
        body(await decide(id, { by: caller, reason: written?.reason ?? null })),
    )
  decision('refuse', 'It does not come into force', 'operator', (id, how) => requests.refuse(id, how))
  decision('withdraw', 'It is not wanted any more', 'requester', (id, how) => requests.withdraw(id, how))
  decision('revoke', 'Take the exemption back', 'operator', (id, how) => requests.revoke(id, how))
}

const STAGES: Readonly<Record<RequestState, readonly Stage[]>> = {
  requested: ['requested', 'approving'],
  refused: ['refused'],
  withdrawn: ['withdrawn'],
  revoked: ['revoked', 'revoking', 'approved'],
  'in-force': ['approved', 'approving', 'revoking'],
  expiring: ['approved', 'approving', 'revoking'],
  expired: ['approved', 'approving', 'revoking', 'ended'],
}

/** A body that may be left out. */
function optional<S extends TSchema>(schema: S) {
  return Type.Union([schema, Type.Null()])
}

/** @throws DocumentError with every mistake */
function readRequest(written: unknown): { exemption: ExemptionDocument; lasts: string | null } {
  const problems = checkShape(RequestBody, written)
  if (problems.length > 0) throw new DocumentError(problems)
  const {
    for: lasts = null,
    name,
    ...rest
  } = written as Omit<ExemptionDocument, 'kind' | 'name'> & {
    for?: string
    name?: string
  }
  if (lasts !== null && (rest.expires !== undefined || parseDuration(lasts) === null)) {
    const message = 'for goes in place of expires'
    throw new DocumentError([{ pointer: '/for', code: 'bad-value', message }])
  }
  const made = name ?? nameFor(rest.sources, Date.now())
  return { exemption: completeDocument('exemption', made, rest) as ExemptionDocument, lasts }
}

/** After its first source, with something that tells it from others. */
function nameFor([first = '']: readonly string[], now: number): string {
  const host = first
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 36)
  return `${host || 'exemption'}-${Math.floor(now).toString(36)}`
}

function exampleBody() {
  const { expires: _, ...rest } = DOCUMENT_EXAMPLES.exemption.body
  return { ...rest, for: '30d' }
}
