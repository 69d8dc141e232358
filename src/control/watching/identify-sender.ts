/** Who was behind an attempt: a subscriber by the address, or a user of this machine itself. */
import type { LocalUsers } from '../../kernel/local-users.ts'
import type { Subscriber } from '../../subscribers/subscriber.ts'
import type { Subscribers } from '../../subscribers/subscribers.ts'
import type { Attempt } from '../../watch/attempt.ts'

/** The source that names local users. */
export const LOCAL_USERS = 'local-users'

/** On a shared host the address is everybody's, and the user is the customer. null: nobody knows. */
export function identify(
  { source, sourcePort, time, uid }: Attempt,
  subscribers: Pick<Subscribers, 'find'>,
  users: LocalUsers,
): Subscriber | null {
  const user = uid === null ? null : users.nameOf(uid)
  if (user === null) return subscribers.find(source, time, sourcePort)
  return { name: null, account: user, contact: null, mac: null, port: null, source: LOCAL_USERS, since: null }
}
