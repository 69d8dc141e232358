/**
 * How a route is written: a plugin for each resource, and of each route its schemas and who may use it, in one place.
 * Validation, types and `/openapi.json` all come from there.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import { type Static, type TSchema, Type } from 'typebox'
import type { Role } from '../caller.ts'
import type { ProblemCode } from './http/problem.ts'

/** The least role that a route asks for; `any`: whatever role somebody has; `public`: whoever can connect. */
export type Access = Role | 'any' | 'public'

declare module 'fastify' {
  interface FastifyContextConfig {
    readonly access?: Access
    /** What may be answered beside the problems that every route can have. */
    readonly problems?: readonly ProblemCode[]
    /** A body that the handler checks by this schema itself, because it says more about mistakes. */
    readonly body?: TSchema
  }
}

/** What a handler may answer is what its schemas say, and it may be frozen. */
export type Answered<S extends TSchema> = Immutable<Static<S>>
type Immutable<T> = T extends readonly (infer Item)[]
  ? readonly Immutable<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Immutable<T[Key]> }
    : T

export interface TypeBoxProvider extends FastifyTypeProvider {
  readonly validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  readonly serializer: this['schema'] extends TSchema ? Answered<this['schema']> : unknown
}

export type Api = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression & IncomingMessage,
  RawReplyDefaultExpression & ServerResponse,
  FastifyBaseLogger,
  TypeBoxProvider
>

/** The routes of one resource. */
export type Routes<Needs> = (app: Api, needs: Needs) => void

/** The routes as a Fastify plugin. */
export async function addRoutes<Needs>(app: Api, routes: Routes<Needs>, needs: Needs): Promise<void> {
  await app.register(async (scope) => {
    refuseUnknownParameters(scope)
    routes(scope.withTypeProvider<TypeBoxProvider>(), needs)
  })
}

const NO_PARAMETERS = Type.Object({}, { additionalProperties: false })

/**
 * A route that takes no parameters refuses them: whoever sends `?dry_run=true` where it is not known must not find that it
 * was done. Probes, scrapes and the page are read in many ways, and change nothing.
 */
function refuseUnknownParameters(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    if (!route.url.startsWith('/v1/') || route.schema?.querystring !== undefined) return
    route.schema = { ...route.schema, querystring: NO_PARAMETERS }
  })
}
