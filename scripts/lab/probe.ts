// Real TCP connections, many at once, made or accepted by one long-lived worker inside a namespace.
import type { Accepted, Attempt, Cut, Outcome, ProbeHandlers, SendOutcome } from './probe-worker.ts'
import type { Handlers, Worker } from './worker-host.ts'

export type { Accepted, Attempt, Cut, Outcome, SendOutcome } from './probe-worker.ts'

export interface SendOptions {
  /** What to send; default a line. Nothing at all (''): only waits for what the other side says, such as a greeting. */
  readonly text?: string
  /** Whether an answer is due (a listener that holds echoes); default true. */
  readonly reply?: boolean
  /**
   * How long to wait for the answer, or when none is due for a refusal; default 30 s and 900 ms. Who answers may have to wait for
   * its turn on a busy machine; so who expects that no answer comes says for how long.
   */
  readonly timeoutMs?: number
}

export interface Probe {
  /**
   * One handshake: `connected`, `reset` (a TCP reset or a port unreachable), `timeout` (nothing came back
   * within `timeoutMs`, by default 900 ms), or `unreachable` (any other ICMP error). Closes it again.
   * The lab's cables have no delay, so an ICMP error may arrive while the kernel is still busy sending, and
   * is then ignored until the next SYN, a second later: who waits for `unreachable` waits 1,500 ms.
   */
  connect(attempt: Attempt): Promise<Outcome>
  /** Many handshakes, at most `inFlight` (default 200) at a time; the outcomes in the order of the attempts. */
  connectAll(attempts: readonly Attempt[], inFlight?: number): Promise<Outcome[]>
  /** Listens on all addresses, IPv4 and IPv6. Closes what it accepts, or with `echo` holds and echoes. */
  listen(ports: readonly number[], options?: { echo?: boolean }): Promise<void>
  /** What the listeners have accepted since the last call. */
  accepted(): Promise<Accepted[]>
  /** Opens a connection and keeps it; answers its id. Fails unless it connects. */
  hold(attempt: Attempt): Promise<number>
  /** Sends on a held connection: `ok` when it was answered (or, with `reply: false`, not refused). */
  send(id: number, options?: SendOptions): Promise<SendOutcome>
  /** Like `send`, for those who want the answer too. */
  converse(id: number, options?: SendOptions): Promise<{ outcome: SendOutcome; reply: string }>
  /** Resolves the moment a held connection is cut, or with null after `timeoutMs` (default 10,000). */
  cut(id: number, timeoutMs?: number): Promise<Cut | null>
  /** Closes a held connection. */
  release(id: number): Promise<void>
  /** From now on, and for good, connections are made by a process of this local user. */
  become(uid: number): Promise<void>
  close(): Promise<void>
}

interface WorkerStarter {
  worker<H extends Handlers>(namespace: string, script: URL): Worker<H>
}

/** Starts a probe inside a namespace of the lab. */
export async function openProbe(lab: WorkerStarter, namespace: string): Promise<Probe> {
  const worker = lab.worker<ProbeHandlers>(namespace, new URL('probe-worker.ts', import.meta.url))
  const converse: Probe['converse'] = (
    id,
    { text = 'still there?\r\n', reply = true, timeoutMs = reply ? 30_000 : 900 } = {},
  ) => worker.call('send', { id, text, reply, timeoutMs })
  await worker.call('accepted') // it has started
  return {
    connect: (attempt) => worker.call('connect', attempt),
    connectAll: (attempts, inFlight = 200) =>
      eachOf(attempts, inFlight, (attempt) => worker.call('connect', attempt)),
    listen: (ports, { echo = false } = {}) => worker.call('listen', { ports, echo }),
    accepted: () => worker.call('accepted'),
    async hold(attempt) {
      const { outcome, id } = await worker.call('hold', attempt)
      if (outcome !== 'connected') throw new Error(`${attempt.from} to ${attempt.to}: ${outcome}`)
      return id
    },
    converse,
    send: async (id, options) => (await converse(id, options)).outcome,
    cut: (id, timeoutMs = 10_000) => worker.call('cut', { id, timeoutMs }),
    release: (id) => worker.call('release', { id }),
    become: (uid) => worker.call('become', { uid }),
    close: () => worker.close(),
  }
}

async function eachOf<T, R>(
  items: readonly T[],
  inFlight: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const queue = items.entries()
  const lane = async () => {
    for (const [index, item] of queue) results[index] = await work(item)
  }
  await Promise.all(Array.from({ length: Math.min(inFlight, items.length) }, lane))
  return results
}
