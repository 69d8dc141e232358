/** Names of this machine's users by their ids, for what local processes tried. Kept, bounded, and asked for once a while. */
import type { ProcessRunner } from './process.ts'

export interface LocalUsers {
  /** The name, as far as it is known by now; null: nobody has the id, or it has just been asked for. */
  nameOf(uid: number): string | null
}

const TIMEOUT = 10_000
/** A shared host has some thousand customers. */
const MOST_USERS = 20_000
/** Milliseconds after which an id that nobody had is asked for again: customers come while the service runs. */
const ASK_AGAIN = 60_000

/** `now` in milliseconds since the epoch. Names come from getent(1), so from LDAP and the like, too. */
export function openLocalUsers(run: ProcessRunner, now: () => number): LocalUsers {
  const names = new Map<number, { readonly name: string | null; readonly asked: number }>()
  const ask = async (uid: number) => {
    const { stdout } = await run(['getent', 'passwd', String(uid)], { timeout: TIMEOUT })
    const [name = '', , id] = stdout.split('\n')[0]?.split(':') ?? []
    if (Number(id) === uid && /^[^\s:\p{C}]{1,64}$/u.test(name)) names.set(uid, { name, asked: now() })
  }
  return {
    nameOf(uid) {
      const known = names.get(uid)
      if (known !== undefined && (known.name !== null || now() - known.asked < ASK_AGAIN)) return known.name
      const [oldest] = names.keys()
      if (names.size >= MOST_USERS && oldest !== undefined) names.delete(oldest)
      names.set(uid, { name: null, asked: now() })
      // Who cannot be asked for stays without a name, and is asked for again later.
      ask(uid).catch(() => {})
      return null
    },
  }
}
