/** `/v1/audit`: who changed what, and who was refused; and how that comes to be known. */
import type { Logger } from 'pino'
import { Type } from 'typebox'
import { ROLES } from '../../caller.ts'
import type { AuditStore } from '../../store/audit.ts'
import { isReading } from '../http/change-hooks.ts'
import { limitOf, numberCursor, PageQuery, page } from '../http/page.ts'
import type { Api, Routes } from '../route.ts'
import { nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'

const AuditQuery = object({
  ...PageQuery.properties,
  caller: Type.Optional(Type.String({ maxLength: 64 })),
  outcome: Type.Optional(oneOf(['done', 'refused'])),
})

const EntrySchema = object(
  {
    time: Time,
    request_id: Text,
    caller: nullable(Text),
    role: nullable(oneOf(ROLES)),
    address: nullable(Type.String({ description: 'null over the unix socket' })),
    method: Text,
    url: Text,
    status: Type.Integer(),
    code: nullable(Type.String({ description: 'of the problem that was answered' })),
  },
  { title: 'AuditEntry', description: 'a change, or a request that was refused' },
)

const LONGEST_URL = 300

/** Every change and every refusal is told. Of one refusal again and again, the first are enough. */
export function keepAudit(app: Api, store: AuditStore, log: Logger): void {
  const audit = log.child({ audit: true })
  // Told before it is sent: also where nobody waits for the answer any more. What is written past Fastify is a reader's.
  app.addHook('onSend', (request, reply, payload, done) => {
    const { method, url, identity, problem, isRepeated } = request
    const isRefusal = reply.statusCode === 401 || reply.statusCode === 403 || reply.statusCode === 429
    if (isRepeated || (isReading(method) && !isRefusal)) return done(null, payload)
    const record = {
      time: Date.now(),
      requestId: request.id,
      caller: identity?.name ?? null,
      role: identity?.role ?? null,
      address: request.ip || null,
      method,
      url: url.slice(0, LONGEST_URL),
      status: reply.statusCode,
      code: problem,
    }
    const { time: _, requestId: request_id, ...told } = record
    if (isRefusal) audit.warn({ request_id, ...told }, 'refused')
    else audit.info({ request_id, ...told }, 'request')
    store.add(record)
    done(null, payload)
  })
}

export const auditRoutes: Routes<AuditStore> = (app, store) => {
  app.get(
    '/v1/audit',
    {
      schema: {
        operationId: 'listAudit',
        summary: 'Changes, and requests that were refused, the latest first',
        tags: ['access'],
        querystring: AuditQuery,
        response: { 200: pageOf(EntrySchema, 'a page of the audit') },
      },
      config: { access: 'admin' },
    },
    ({ query }) => {
      const { caller, outcome } = query
      const limit = limitOf(query)
      const before = numberCursor(query)
      try {
        store.flush()
      } catch {
        // They wait, and the log has them. What is there can be read.
      }
      const found = store.list({
        limit: limit + 1,
        ...(caller === undefined ? {} : { caller }),
        ...(outcome === undefined ? {} : { outcome }),
        ...(before === null ? {} : { before }),
      })
      const { items, next } = page(found, limit, ({ id }) => String(id))
      return {
        items: items.map(({ id: _, time, requestId, ...entry }) => ({
          time: new Date(time).toISOString(),
          request_id: requestId,
          ...entry,
        })),
        next,
      }
    },
  )
}
