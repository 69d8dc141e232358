/** `/v1/sources`: the machines with the most attempts, and `/v1/sources/{address}`: what one machine did. */
import { Type } from 'typebox'
import { incidentBody } from '../../detect/incident-body.ts'
import { governingPolicy } from '../../policy/decide.ts'
import { FORMATS } from '../../policy/formats.ts'
import {
  addressBits,
  formatAddress,
  formatPrefix,
  type Prefix,
  parsePrefix,
  truncate,
} from '../../policy/prefix.ts'
import { HistoryUnavailableError } from '../../store/attempts.ts'
import type { Machine } from '../../store/attempts-query.ts'
import { learnedSetOf } from '../../watch/source-counters.ts'
import type { Context } from '../context.ts'
import { limitOf, numberCursor, PageQuery, page } from '../http/page.ts'
import { type ApiError, wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Count, Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import { AttemptSchema, attemptBody, VERDICTS } from './attempts.ts'
import { modelOf } from './explain.ts'
import {
  PointSchema,
  pointBody,
  rankingSpan,
  readSpan,
  SpanQuery,
  StepSchema,
  seriesSpan,
} from './history-query.ts'
import { IncidentSchema } from './incidents.ts'
import { SubscriberSchema } from './subscribers.ts'

const SourceParams = Type.Object({
  address: Type.String({
    maxLength: 64,
    description: 'an address, or the prefix that is one machine, as `source` of incidents and rankings',
    examples: ['100.64.1.2'],
  }),
})
const ListQuery = Type.Object(
  {
    ...PageQuery.properties,
    ...SpanQuery.properties,
    policy: Type.Optional(Name),
    role: Type.Optional(oneOf(['governed', 'allowed'])),
  },
  { additionalProperties: false },
)
const OneQuery = Type.Object(
  { ...SpanQuery.properties, step: Type.Optional(StepSchema) },
  { additionalProperties: false },
)

export const MachineSchema = object(
  {
    source: Text,
    policy: nullable(Name),
    verdict: nullable(oneOf(VERDICTS)),
    attempts: Count,
    told: Count,
    destinations: Count,
    first_seen: Time,
    last_seen: Time,
  },
  { title: 'Machine', description: 'a machine that tried port 25 in a span of time' },
)

const SourceSchema = object(
  {
    source: Text,
    policy: nullable(Name),
    subscriber: nullable(SubscriberSchema),
    attempts: Type.Integer({
      minimum: 0,
      description: 'by the kernel, which forgets after a quiet day, and in a flood',
    }),
    incidents: Type.Array(IncidentSchema),
    incident_ids: Type.Array(Text),
    first_seen: nullable(Time),
    last_seen: nullable(Time),
    series: nullable(object({ step: StepSchema, points: Type.Array(PointSchema) })),
    destinations: nullable(Type.Array(object({ destination: Text, attempts: Count }))),
    recent: nullable(Type.Array(AttemptSchema)),
  },
  { title: 'Source', description: 'what one machine did' },
)

const RECENT = 20
const DESTINATIONS = 20
const INCIDENTS = 50
/** Pages end there: nobody reads on, and each costs as much as all before it. */
const MAX_OFFSET = 100_000

export const sourceRoutes: Routes<Context> = (app, context) => {
  const { history, retain, subscribers } = context

  app.get(
    '/v1/sources',
    {
      schema: {
        operationId: 'listSources',
        summary: 'The machines with the most attempts',
        tags: ['attempts'],
        querystring: ListQuery,
        response: {
          200: object({
            ...pageOf(MachineSchema, '').properties,
            from: Time,
            to: Time,
          }),
        },
      },
      config: { access: 'viewer', problems: ['history-unavailable'] },
    },
    ({ query }) => {
      const { policy, role } = query
      const limit = limitOf(query)
      const offset = numberCursor(query, MAX_OFFSET) ?? 0
      const now = Date.now()
      const span = rankingSpan(readSpan(query, now), now)
      const found = history.log.top({
        ...span,
        allowed: role === 'allowed',
        limit: limit + 1,
        offset,
        ...(policy === undefined ? {} : { policy }),
      })
      const following = offset + limit
      const { items, next } = page(found.slice(0, following > MAX_OFFSET ? limit : found.length), limit, () =>
        String(following),
      )
      const [from, to] = [new Date(span.from).toISOString(), new Date(span.to).toISOString()]
      return { items: items.map(machineBody), next, from, to }
    },
  )

  app.get(
    '/v1/sources/:address',
    {
      schema: {
        operationId: 'getSource',
        summary: 'What one machine did',
        tags: ['attempts'],
        params: SourceParams,
        querystring: OneQuery,
        response: { 200: SourceSchema },
      },
      config: { access: 'viewer', startsPrograms: true, problems: ['kernel-refused'] },
    },
    async ({ params, query }) => {
      const asked = readMachine(params.address)
      const address = firstOf(asked)
      const now = Date.now()
      const span = seriesSpan(readSpan(query, now), query.step, {
        now,
        retain,
      })
      const policy = governingPolicy(modelOf(context), address)?.policy ?? null
      const length = address.family === 6 ? (policy?.thresholds.ipv6Prefix ?? 128) : addressBits(4)
      if (asked.length < length) throw wrongMachine('has more than one machine')
      const machine = truncate(address, length)
      const source = formatPrefix(machine)
      const attempts = policy === null ? 0 : await countOf(context, machine)
      const open = context.monitor.detector.openOf(source)
      return {
        source,
        policy: policy?.name ?? null,
        /** Who has it now. */
        subscriber: subscribers.find(address, now, null),
        /** By the kernel; it forgets a machine after a quiet day. */
        attempts,
        incidents: open.map((one) => incidentBody(one, context.incidents.subscriberOf(one.id))),
        incident_ids: context.incidents.idsOf(source, INCIDENTS),
        ...remembered(),
      }

      /** Nothing of it where the memory cannot be read: the rest is known all the same. */
      function remembered() {
        try {
          const seen = history.log.seen(source)
          const points = history.log.series({ source }, span).map(pointBody)
          return {
            first_seen: seen === null ? null : new Date(seen.firstSeen).toISOString(),
            last_seen: seen === null ? null : new Date(seen.lastSeen).toISOString(),
            series: { step: span.step, points },
            destinations: history.log.topDestinations(source, span, DESTINATIONS),
            recent: history.log
              .recent({ source: machine, limit: RECENT })
              .map((attempt) => attemptBody(attempt, context)),
          }
        } catch (error) {
          if (!(error instanceof HistoryUnavailableError)) throw error
          return { first_seen: null, last_seen: null, series: null, destinations: null, recent: null }
        }
      }
    },
  )
}

/** A machine as it is named in incidents and rankings: an address, or the prefix that is one subscriber. @throws ApiError */
function readMachine(text: string): Prefix {
  const prefix = parsePrefix(text)
  if (typeof prefix !== 'string') return prefix
  throw wrongMachine(FORMATS.prefix(text)?.message ?? prefix)
}

function firstOf(prefix: Prefix): Prefix {
  return prefix.family === 4 ? { ...prefix, length: 32 } : { ...prefix, length: 128 }
}

function wrongMachine(message: string): ApiError {
  return wrong('/params/address', message)
}

/** What the kernel has counted; the memory learns of it, too. */
async function countOf({ enforcer, history }: Context, machine: Prefix): Promise<number> {
  const address = formatAddress(machine)
  const attempts = await enforcer.countSource(learnedSetOf(machine, false), address)
  if (attempts > 0) history.countOne(machine, false, address, attempts)
  return attempts
}

function machineBody({ firstSeen, lastSeen, ...machine }: Machine) {
  return {
    ...machine,
    first_seen: new Date(firstSeen).toISOString(),
    last_seen: new Date(lastSeen).toISOString(),
  }
}
