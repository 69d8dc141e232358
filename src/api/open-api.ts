/** The API with all that it needs of its own: what it remembers, who may use it, and its sockets. */
import type { Logger } from 'pino'
import { type ApiConfig, isLoopback, type Listen } from '../config/api.ts'
import { ConfigError } from '../config-error.ts'
import { openApiDatabase } from '../store/api-database.ts'
import { AuditStore } from '../store/audit.ts'
import { AnswerStore } from '../store/idempotency.ts'
import { TokenStore } from '../store/tokens.ts'
import { roleOfPlace } from './access/authenticate.ts'
import { createApp, type Needs } from './app.ts'
import type { Context } from './context.ts'
import { listen } from './http/listen.ts'

export interface OpenApi {
  /** Reads certificates anew. */
  reload(): Promise<void>
  stop(): Promise<void>
}

export interface ApiOptions extends Pick<Needs, 'config' | 'addPage'> {
  readonly addresses: readonly Listen[]
  readonly stateDirectory: string
  /** Milliseconds for which the past is remembered. */
  readonly retain: number
  readonly log: Logger
}

/** Milliseconds between writing down what was audited, and between forgetting what is over. */
const FLUSH_INTERVAL = 1_000
const PRUNE_INTERVAL = 3_600_000

/** Listens, and answers as soon as the context is ready. @throws ConfigError when it cannot as configured */
export async function openApi(
  context: Context,
  { config, addPage, addresses, stateDirectory, retain, log }: ApiOptions,
): Promise<OpenApi> {
  const database = open(stateDirectory)
  const tokens = new TokenStore(database)
  const audit = new AuditStore(database)
  const needs = { tokens, audit, answers: new AnswerStore(database), config, addPage }
  try {
    mustKnowSomebody(config, tokens.everMade)
    const app = await createApp(context, needs, log)
    const listeners = await listen(app, addresses, config)
    tellOfOpenDoors(config, tokens.everMade, log)
    const flush = () => {
      try {
        audit.flush()
      } catch (error) {
        log.error({ reason: (error as Error).message }, 'the audit cannot be written; it is in this log')
      }
    }
    const flushing = setInterval(flush, FLUSH_INTERVAL)
    const prune = () => tokens.prune(Date.now() - retain)
    const pruning = setInterval(prune, PRUNE_INTERVAL)
    return {
      reload: () => listeners.reload(),
      async stop() {
        clearInterval(flushing)
        clearInterval(pruning)
        listeners.close()
        await app.close()
        listeners.closeAllConnections()
        flush()
        database.close()
      },
    }
  } catch (error) {
    database.close()
    throw error
  }
}

function open(stateDirectory: string) {
  try {
    return openApiDatabase(stateDirectory)
  } catch (error) {
    throw new ConfigError(`cannot open api.db in ${stateDirectory}: ${(error as Error).message}`)
  }
}

/** Where others can reach it, there must be somebody who may. @throws ConfigError */
function mustKnowSomebody({ listen, tls }: ApiConfig, tokensEverMade: boolean): void {
  const beyond = listen.find((one) => one.kind === 'tcp' && !isLoopback(one.host))
  if (beyond?.kind !== 'tcp' || tokensEverMade || (tls?.clients.length ?? 0) > 0) return
  throw new ConfigError(
    `${beyond.host}:${beyond.port} is beyond loopback, which needs tokens, and there are none: egress25 token create, or api.tls.clients`,
  )
}

/** Who lets everybody in should know it. */
function tellOfOpenDoors(config: ApiConfig, tokensEverMade: boolean, log: Logger): void {
  const role = roleOfPlace('loopback', config, tokensEverMade)
  if (role === 'none' || !config.listen.some(({ kind }) => kind === 'tcp') || config.tls !== null) return
  log.warn(
    { role },
    'every user of this machine has this role over loopback: egress25 token create, or api.loopback_role: none',
  )
}
