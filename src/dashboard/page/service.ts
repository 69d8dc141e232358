/** The API as this page asks it: with a token when one is needed, and never without end. */

export class UnauthenticatedError extends Error {}

/** Milliseconds for one answer. */
const TIMEOUT = 10_000
const TOKEN = 'egress25-token'

/** For as long as the tab lives; no other tab and no later visitor has it. */
export const keptToken = (): string | null => sessionStorage.getItem(TOKEN)
export const keepToken = (token: string): void => sessionStorage.setItem(TOKEN, token)
export const forgetToken = (): void => sessionStorage.removeItem(TOKEN)

/**
 * Paths are relative to the page, so that it may also live below a path of a proxy's.
 * @throws UnauthenticatedError, or Error with a sentence to be shown
 */
export async function request(
  path: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Response> {
  const token = keptToken()
  const response = await fetch(path, {
    headers: token === null ? headers : { ...headers, authorization: `Bearer ${token}` },
    cache: 'no-store',
    credentials: 'same-origin',
    redirect: 'error',
    signal,
  })
  if (response.ok) return response
  const sentence = await sentenceOf(response)
  throw response.status === 401 ? new UnauthenticatedError(sentence) : new Error(sentence)
}

export async function get<Answer>(path: string, signal: AbortSignal): Promise<Answer> {
  const either = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)])
  const response = await request(path, { accept: 'application/json' }, either)
  return (await response.json()) as Answer
}

/** What went wrong, as RFC 9457 has it. */
async function sentenceOf(response: Response): Promise<string> {
  const problem = (await response.json().catch(() => null)) as { detail?: unknown } | null
  const { detail } = problem ?? {}
  return typeof detail === 'string' ? detail : `The service answered with status ${response.status}.`
}
