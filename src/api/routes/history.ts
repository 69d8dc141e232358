/** `/v1/history`: who changed what, when and why, and the way back. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { revertSubject } from '../../history/change-record.ts'
import type { RevisionPage } from '../../history/history.ts'
import { UnchangeableError } from '../../history/history-error.ts'
import type { Revision } from '../../history/revisions.ts'
import { planBody } from '../../plan/plan-body.ts'
import { FORMATS } from '../../policy/formats.ts'
import type { Context } from '../context.ts'
import { limitOf, PageQuery, partsOfCursor } from '../http/page.ts'
import { ApiError, CHANGE_PROBLEMS, type ProblemCode, wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { KindSchema, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import { OVERRIDE_PROBLEMS, OverrideQuery, overridesIncident } from './override-incident.ts'
import { PlanSchema } from './plan-schema.ts'
import { ReasonHeader, reasonOf } from './reason.ts'

const RevisionParams = Type.Object({
  revision: Type.String({ pattern: '^([0-9a-f]{7,64}|HEAD)$', examples: ['HEAD'] }),
})
const Change = oneOf(['added', 'changed', 'removed'])
const Person = object({ name: Text, email: Text })

const REVISION = {
  revision: Type.String({ description: 'the id of the commit' }),
  parents: Type.Array(Text),
  author: Person,
  committer: Person,
  time: Time,
  subject: Text,
  reason: nullable(Type.String({ description: 'why, as whoever made the change said' })),
  request_id: nullable(
    Type.String({ description: 'of the request that made it; null: it came by another way' }),
  ),
  reverts: nullable(Type.String({ description: 'the revision that it takes back' })),
}
const RevisionSchema = object(REVISION, { title: 'Revision', description: 'one change of the policies' })
const DetailSchema = object(
  {
    ...REVISION,
    documents: Type.Array(object({ change: Change, kind: KindSchema, name: Text, file: Text })),
    files: Type.Array(object({ path: Text, change: Change })),
    diff: nullable(Type.String({ description: 'as git shows it; null: it is longer than 1 MiB' })),
  },
  { title: 'RevisionDetail', description: 'one change, with what it changed' },
)

const ListQuery = object({
  ...PageQuery.properties,
  path: Type.Optional(
    Type.String({ minLength: 1, maxLength: 500, description: 'only what changed this file or folder' }),
  ),
})

const READING: readonly ProblemCode[] = ['no-history', 'history-failed']
const CHANGING: readonly ProblemCode[] = [
  ...READING,
  ...CHANGE_PROBLEMS,
  'not-found',
  'history-conflict',
  ...OVERRIDE_PROBLEMS,
]

export const historyRoutes: Routes<Context> = (app, { controller, repository, requests }) => {
  app.get(
    '/v1/history',
    {
      schema: {
        operationId: 'listRevisions',
        summary: 'Who changed what, the latest first',
        tags: ['history'],
        querystring: ListQuery,
        response: { 200: pageOf(RevisionSchema, 'a page of revisions') },
      },
      config: { access: 'viewer', startsPrograms: true, problems: READING },
    },
    async ({ query }) => {
      const from = readCursor(query)
      const fault = query.path === undefined ? null : FORMATS['relative-path'](query.path)
      if (fault !== null) throw wrong('/querystring/path', fault.message)
      const { revisions, next } = await repository.history.list(from, limitOf(query), query.path ?? null)
      const cursor = next === null ? null : Buffer.from(`${next.head} ${next.skip}`).toString('base64url')
      return { items: revisions.map(revisionBody), next: cursor }
    },
  )

  app.get(
    '/v1/history/:revision',
    {
      schema: {
        operationId: 'getRevision',
        summary: 'One change: its documents, files and diff',
        tags: ['history'],
        params: RevisionParams,
        response: { 200: DetailSchema },
      },
      config: { access: 'viewer', startsPrograms: true, problems: [...READING, 'not-found'] },
    },
    async ({ params }) => {
      const { documents, files, patch, ...revision } = await repository.history.show(params.revision)
      return { ...revisionBody(revision), documents, files, diff: patch }
    },
  )

  app.post(
    '/v1/history/:revision/revert',
    {
      schema: {
        operationId: 'revertRevision',
        summary: 'Take a change back, with a new one that is validated and applied like any other',
        tags: ['history'],
        params: RevisionParams,
        headers: ReasonHeader,
        querystring: object({
          dry_run: Type.Optional(oneOf(['true', 'false'])),
          ...OverrideQuery.properties,
        }),
        response: {
          200: Type.Union([RevisionSchema, object({ dry_run: Type.Literal(true), plan: PlanSchema })]),
        },
      },
      config: { access: 'admin', problems: CHANGING },
    },
    async ({ params, query, headers, caller }) => {
      const { history } = repository
      const reason = reasonOf(headers)
      const override = { overrideIncident: overridesIncident(query), reason }
      const plan = await controller.changeFiles(
        async () => {
          const { revision, files } = await history.revertOf(params.revision)
          if (files.length === 0)
            throw new ApiError('history-conflict', 'it is taken back already; there is nothing to change', {
              files: [],
            })
          const link = files.find(({ mode }) => !mode.startsWith('100'))
          if (link !== undefined) throw new UnchangeableError(link.path, 'it is a link in that revision')
          const { directory } = history.repository.git
          const changed = await Promise.all(
            files.map(async ({ path, content }) => ({
              path,
              text: content === null ? null : content.toString('utf8'),
              before: await readFile(join(directory, path), 'utf8').catch(() => null),
            })),
          )
          await history.mustBeCommitted(new Map(changed.map(({ path, before }) => [path, before])))
          const subject = revertSubject(revision.subject)
          const remember = () =>
            history.begin({ by: caller, subject, reason, reverts: revision.id, files: changed })
          return { files: changed.map(({ path, text }) => ({ path, text })), remember }
        },
        {
          by: caller,
          dryRun: query.dry_run === 'true',
          mayBecome: (model) => void requests.mayBecome(model, override),
        },
      )
      if (plan !== null) return { dry_run: true as const, plan: planBody(plan) }
      await history.recorder.settle()
      const { revisions } = await history.list(null, 1, null)
      const [made] = revisions
      if (made === undefined) throw new ApiError('history-failed', 'the history is empty')
      return revisionBody(made)
    },
  )
}

function revisionBody({
  id,
  parents,
  author,
  committer,
  time,
  subject,
  reason,
  requestId,
  reverts,
}: Revision) {
  const when = new Date(time).toISOString()
  return {
    revision: id,
    parents: [...parents],
    author,
    committer,
    time: when,
    subject,
    reason,
    request_id: requestId,
    reverts,
  }
}

function readCursor(query: Static<typeof PageQuery>): RevisionPage['next'] {
  const [, head, skip] = partsOfCursor(query, /^([0-9a-f]{40,64}) (\d{1,9})$/) ?? []
  return head === undefined ? null : { head, skip: Number(skip) }
}
