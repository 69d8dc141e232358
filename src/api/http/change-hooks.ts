/** Hooks for requests that change something: those that only read, which are most, do without. */
import type { onSendHookHandler, preHandlerHookHandler, preValidationHookHandler } from 'fastify'
import type { Api } from '../route.ts'

export interface ChangeHooks {
  readonly preValidation?: preValidationHookHandler
  readonly preHandler?: preHandlerHookHandler
  readonly onSend?: onSendHookHandler
}

export function isReading(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

/** Before those that a route has of its own. To be called before there are routes. */
export function hookChanges(app: Api, hooks: ChangeHooks): void {
  app.addHook('onRoute', (route) => {
    if ([route.method].flat().every(isReading)) return
    const { preValidation, preHandler, onSend } = hooks
    if (preValidation !== undefined)
      route.preValidation = [preValidation, ...[route.preValidation ?? []].flat()]
    if (preHandler !== undefined) route.preHandler = [preHandler, ...[route.preHandler ?? []].flat()]
    if (onSend !== undefined) route.onSend = [onSend, ...[route.onSend ?? []].flat()]
  })
}
