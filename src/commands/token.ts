/** `egress25 token`: who may use the API. Through the service when it runs, else in its database. */
import { tokenBody } from '../api/routes/tokens.ts'
import { ROLES, type Role } from '../caller.ts'
import { type Answer, callService, mustBeAbsent } from '../client/client.ts'
import { localCaller } from '../client/local-caller.ts'
import { readConfig } from '../config/config.ts'
import { ConfigError } from '../config-error.ts'
import { parseDuration } from '../policy/formats.ts'
import { openApiDatabase } from '../store/api-database.ts'
import { TokenExistsError, TokenStore, TooManyTokensError } from '../store/tokens.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem } from './service-directory.ts'
import { ago, type Column, printRows } from './table.ts'

interface Options {
  readonly json: boolean
  readonly config: string | null
}

type Body = ReturnType<typeof tokenBody>

/** Prints the token: it is told this once. */
export async function createToken(
  { name, role, expires }: { readonly name: string; readonly role: string; readonly expires: string },
  { json, config: file }: Options,
): Promise<Exit> {
  if (!(ROLES as readonly string[]).includes(role))
    throw new ConfigError(`${role} is none of the roles ${ROLES.join(', ')}`)
  const lifetime = parseDuration(expires)
  if (lifetime === null) throw new ConfigError(`${expires} is no duration like 30d`)
  const made = await throughService(
    file,
    (listen) => callService(listen, 'POST', '/v1/tokens', { name, role, expires_in: expires }),
    (tokens) => {
      const now = Date.now()
      const { token, secret } = tokens.create(
        { name, role: role as Role, expires: now + lifetime, by: localCaller().name },
        now,
      )
      return { ...tokenBody(token, now), token: secret }
    },
    json,
  )
  if ('exit' in made) return made.exit
  if (json) printJson(made.body)
  else {
    const { token, expires: until } = made.body as Body & { token: string }
    print(token)
    complain(`egress25: the token of ${name} (${role}) until ${until}; it is not shown again`)
  }
  return EXIT.done
}

export async function listTokens({ json, config: file }: Options): Promise<Exit> {
  const found = await throughService(
    file,
    (listen) => callService(listen, 'GET', '/v1/tokens?limit=1000'),
    (tokens) => ({ items: tokens.list(0, 1_000).map((token) => tokenBody(token, Date.now())), next: null }),
    json,
  )
  if ('exit' in found) return found.exit
  printRows(found.body as { items: Body[] }, COLUMNS, { json, none: 'no tokens' })
  return EXIT.done
}

const COLUMNS: readonly Column<Body>[] = [
  { title: 'id', text: ({ id }) => id },
  { title: 'name', text: ({ name }) => name, style: ({ in_force }) => (in_force ? 'bold' : 'dim') },
  { title: 'role', text: ({ role }) => role },
  { title: 'in force', text: ({ in_force, expires }) => (in_force ? `until ${expires}` : 'no longer') },
  {
    title: 'last used',
    text: ({ last_used }) => (last_used === null ? 'never' : ago(last_used, Date.now())),
  },
]

export async function revokeToken(id: string, { json, config: file }: Options): Promise<Exit> {
  const done = await throughService(
    file,
    (listen) => callService(listen, 'DELETE', `/v1/tokens/${encodeURIComponent(id)}`),
    (tokens) => tokens.revoke(id, Date.now()),
    json,
  )
  if ('exit' in done) return done.exit
  if (done.body === false) {
    complain(`egress25: there is no token ${id}; egress25 token list names them`)
    return EXIT.no
  }
  if (!json) print(`revoked: ${id}`)
  return EXIT.done
}

/** The service alone knows its tokens while it runs; the database is asked when there is none. */
async function throughService(
  file: string | null,
  ask: (listen: Awaited<ReturnType<typeof readConfig>>['listen']) => Promise<Answer>,
  work: (tokens: TokenStore) => unknown,
  json: boolean,
): Promise<{ readonly body: unknown } | { readonly exit: Exit }> {
  const { listen, stateDirectory } = await readConfig(file)
  try {
    const { status, body } = await ask(listen)
    return status < 300 ? { body } : { exit: complainOfProblem(status, body, { json }) }
  } catch (error) {
    mustBeAbsent(error)
  }
  const database = openApiDatabase(stateDirectory)
  try {
    return { body: work(new TokenStore(database)) }
  } catch (error) {
    if (!(error instanceof TokenExistsError || error instanceof TooManyTokensError)) throw error
    complain(`egress25: ${error.message}`)
    return { exit: EXIT.no }
  } finally {
    database.close()
  }
}
