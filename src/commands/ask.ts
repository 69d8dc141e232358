/** What commands that ask the service have in common: its answer, or why there is none. */
import { callService, UnreachableError } from '../client/client.ts'
import { readConfig } from '../config/config.ts'
import { complain, type Exit } from './outcome.ts'
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

/** What the service answered, with the version of a document; or how the command ends. */
export type Answered<Body> = { readonly body: Body; readonly etag: string | null } | { readonly exit: Exit }

/**
 * Asks the service that the configuration names. What it refuses is told, and the exit status for that answered.
 * @throws UnreachableError when no service runs, ConfigError
 */
export async function ask<Body>(
  { json, config }: Common,
  { method = 'GET', path, body, headers = {} }: Question,
): Promise<Answered<Body>> {
  const { listen } = await readConfig(config)
  const answer = await callService(listen, method, path, body, headers)
  if (answer.status < 300) return { body: answer.body as Body, etag: answer.etag }
  return { exit: complainOfProblem(answer.status, answer.body, { json }) }
}

/**
 * Asks for all pages of a list, one after the other.
 * @throws UnreachableError when no service runs, ConfigError
 */
export async function askForAll<Item>(
  common: Common,
  path: string,
  values: Readonly<Record<string, string | undefined>> = {},
): Promise<Answered<{ readonly items: Item[]; readonly next: null }>> {
  const items: Item[] = []
  for (let cursor: string | undefined; ; ) {
    const answer = await ask<{ items: Item[]; next: string | null }>(common, {
      path: `${path}${query({ ...values, limit: '1000', cursor })}`,
    })
    if ('exit' in answer) return answer
    items.push(...answer.body.items)
    if (answer.body.next === null) return { body: { items, next: null }, etag: null }
    cursor = answer.body.next
  }
}

/**
 * For commands that read the files where the service of this machine does not answer: says so.
 * @throws what it is given, when that was no such service
 */
export function sayThatFilesAreRead(error: unknown, directory: string): void {
  if (!(error instanceof UnreachableError) || error.service === 'elsewhere') throw error
  const why = error.service === 'absent' ? 'no service runs' : error.message
  complain(`egress25: ${why}; this is what the files in ${directory} say`)
}

/** Why somebody changes something, for the history; headers are no UTF-8. */
export function reasonHeader(reason: string | undefined): Readonly<Record<string, string>> {
  return reason === undefined ? {} : { 'egress25-reason': encodeURIComponent(reason) }
}

/** `?a=1&b=2` of what is there. */
export function query(values: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}
