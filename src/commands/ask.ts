/** What commands that ask the service have in common: its answer, or why there is none. */
import { callService } from '../client.ts'
import { readConfig } from '../config.ts'
import type { Exit } from './outcome.ts'
import { complainOfProblem } from './service-directory.ts'

export interface Common {
  readonly json: boolean
  readonly config: string | null
}

export interface Question {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * Asks the service that the configuration names. What it refuses is told, and the exit status for that answered.
 * @throws UnreachableError when no service runs, ConfigError
 */
export async function ask<Body>(
  { json, config }: Common,
  { method = 'GET', path, body, headers = {} }: Question,
): Promise<{ readonly body: Body } | { readonly exit: Exit }> {
  const { listen } = await readConfig(config)
  const answer = await callService(listen, method, path, body, headers)
  if (answer.status < 300) return { body: answer.body as Body }
  return { exit: complainOfProblem(answer.status, answer.body, { json }) }
}

/** `?a=1&b=2` of what is there. */
export function query(values: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}
