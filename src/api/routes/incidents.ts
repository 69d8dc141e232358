/** `/v1/incidents`: infected and misconfigured machines. */
import { type Static, Type } from 'typebox'
import { EVIDENCE_RULES, INCIDENT_KINDS, type Incident, type IncidentEvent } from '../../detect/incident.ts'
import { incidentBody } from '../../detect/incident-body.ts'
import type { Context } from '../context.ts'
import { GetConditions, NOT_MODIFIED } from '../http/etag.ts'
import { answerAtOnce, type KeptAnswers, sendKept } from '../http/kept-answers.ts'
import { limitOf, PageQuery, page, partsOfCursor } from '../http/page.ts'
import { ApiError } from '../http/problem.ts'
import type { Answered, Routes } from '../route.ts'
import { Count, counts, Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import { SubscriberSchema } from './subscribers.ts'

const IdParams = Type.Object({ id: Type.String({ maxLength: 64 }) })
const ListQuery = object({
  ...PageQuery.properties,
  state: Type.Optional(oneOf(['open', 'resolved'])),
  kind: Type.Optional(oneOf(INCIDENT_KINDS)),
})

const EvidenceSchema = object(
  {
    rule: oneOf(EVIDENCE_RULES),
    window_seconds: Count,
    attempts: Count,
    connections: Count,
    destinations: Count,
    sources: Type.Integer({ minimum: 0, description: 'distinct source addresses' }),
    limits: counts(['attempts', 'connections', 'destinations', 'sources'], {
      description: 'what the policy says is too much',
    }),
    usual: nullable(
      object(
        { attempts: Count, destinations: Count },
        { description: 'the most that an exempt host did in so long a time until then' },
      ),
    ),
  },
  { description: 'the numbers behind the judgement, as they were when it was made' },
)

export const IncidentSchema = object(
  {
    id: Text,
    kind: oneOf(INCIDENT_KINDS),
    confidence: oneOf(['likely', 'definite'], { description: 'RFC 6561 §4' }),
    state: oneOf(['open', 'resolved']),
    source: Type.String({
      description:
        'the machine: an address, or an IPv6 prefix; of a flood, `policy:` and the name of a policy',
    }),
    user: nullable(
      object(
        { uid: Count, name: nullable(Text) },
        {
          description:
            'of the machine itself, where several share its address; null: not of one of its users',
        },
      ),
    ),
    process: nullable(
      object(
        { name: Text, path: nullable(Text) },
        { description: "the program that was seen making one of the user's attempts; null: nobody saw" },
      ),
    ),
    subscriber: nullable(SubscriberSchema),
    policy: nullable(Name),
    verdict: oneOf(['block', 'redirect', 'observe', 'allow']),
    first_seen: Time,
    last_seen: Time,
    attempts: Count,
    lost: Type.Integer({
      minimum: 0,
      description:
        'of the attempts, those that the kernel counted and nobody told; of a user, none while there are several on the host',
    }),
    destinations: Type.Integer({
      minimum: 0,
      description: 'distinct ones; of more than 1,000 at least so many',
    }),
    top_destinations: Type.Array(object({ destination: Text, attempts: Count })),
    evidence: EvidenceSchema,
    interfaces: Type.Array(Text),
    hardware_addresses: Type.Array(Text),
    reopened: Type.Integer({ minimum: 0, description: 'how often it was resolved and came back' }),
    acknowledged: Type.Boolean({ description: 'somebody looks after it' }),
    summary: Text,
  },
  { title: 'Incident', description: "one machine's misbehaviour over time" },
)

const IncidentPage = pageOf(IncidentSchema, 'a page of incidents')

interface Needs extends Pick<Context, 'incidents' | 'monitor' | 'onIncident'> {
  readonly kept: KeptAnswers
}

export const incidentRoutes: Routes<Needs> = (app, { incidents, monitor, onIncident, kept }) => {
  /** An open incident grows from second to second; the detector has its latest. */
  const latest = (incident: Incident): Incident => monitor.detector.find(incident.id) ?? incident
  const find = (id: string): Incident => {
    const found = incidents.get(id)
    if (found === null) throw new ApiError('not-found', `there is no incident ${id}`)
    return latest(found)
  }

  const body = (incident: Incident) => incidentBody(incident, incidents.subscriberOf(incident.id))

  const pageFor = (query: Static<typeof ListQuery>): Answered<typeof IncidentPage> => {
    const limit = limitOf(query)
    const after = readCursor(query)
    const { state, kind } = query
    const found = incidents.list({
      limit: limit + 1,
      ...(state === undefined ? {} : { state }),
      ...(kind === undefined ? {} : { kind }),
      ...(after === null ? {} : { after }),
    })
    const { items, next } = page(found, limit, ({ lastSeen, id }) => `${lastSeen} ${id}`)
    return { items: items.map((incident) => body(latest(incident))), next }
  }

  app.get(
    '/v1/incidents',
    {
      onRequest: answerAtOnce(kept),
      schema: {
        operationId: 'listIncidents',
        summary: 'Infected and misconfigured machines, the latest first',
        tags: ['incidents'],
        querystring: ListQuery,
        headers: GetConditions,
        response: { 200: IncidentPage, 304: NOT_MODIFIED },
      },
      config: { access: 'viewer', problems: ['precondition-failed'] },
    },
    (request, reply) => sendKept(request, reply, kept, () => pageFor(request.query)),
  )

  app.get(
    '/v1/incidents/:id',
    {
      schema: {
        operationId: 'getIncident',
        summary: 'One incident',
        tags: ['incidents'],
        params: IdParams,
        response: { 200: IncidentSchema },
      },
      config: { access: 'viewer', problems: ['not-found'] },
    },
    ({ params }) => body(find(params.id)),
  )

  /** A person's word about an incident. Of one that is over, or that was told so before, nothing changes. */
  const decision = (
    path: 'acknowledge' | 'resolve',
    summary: string,
    decide: (id: string) => IncidentEvent | null,
  ) =>
    app.post(
      `/v1/incidents/:id/${path}`,
      {
        schema: {
          operationId: `${path}Incident`,
          summary,
          tags: ['incidents'],
          params: IdParams,
          response: { 200: IncidentSchema },
        },
        config: { access: 'operator', problems: ['not-found'] },
      },
      ({ params }) => {
        const incident = find(params.id)
        // Where nothing can be written, nothing is decided: it would be forgotten at the next start.
        if (incident.state === 'open') incidents.save(incident)
        const event = decide(incident.id)
        if (event === null) return body(incident)
        onIncident(event)
        return body(event.incident)
      },
    )
  decision('acknowledge', 'Somebody looks after it', (id) => monitor.detector.acknowledge(id, Date.now()))
  decision('resolve', 'It is over', (id) => monitor.detector.resolve(id, Date.now()))
}

function readCursor(query: Static<typeof PageQuery>): { lastSeen: number; id: string } | null {
  const [, time, id = ''] = partsOfCursor(query, /^(\d{1,16}) (\S{1,64})$/) ?? []
  return time === undefined ? null : { lastSeen: Number(time), id }
}
