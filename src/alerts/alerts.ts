/**
 * Alerts, put together: news is left here in the transaction of what it is about, and from then on finds its way to every
 * channel that wants it. Nothing here delays whoever leaves news.
 */
import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import type { ChannelConfig } from '../config/alerts.ts'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import { AlertMarks } from '../store/alert-marks.ts'
import { AlertMessages, type StoredMessage } from '../store/alert-messages.ts'
import { AlertQueue } from '../store/alert-queue.ts'
import { AlertSilences } from '../store/alert-silences.ts'
import { inTransaction } from '../store/database.ts'
import type { IncidentStore } from '../store/incidents.ts'
import { beginChannels } from './begin-channels.ts'
import { Carrier } from './carrier.ts'
import type { Channel, Surroundings } from './channel.ts'
import { compose } from './compose.ts'
import { Desk } from './desk.ts'
import { factsOf, isWanted } from './facts.ts'
import { incidentNews } from './incident-news.ts'
import type { Body, Message, SingleNews, TestNews } from './message.ts'
import { remindersDue } from './reminders.ts'
import type { Escalation } from './severity.ts'
import type { Silence } from './silence.ts'
import { Silences } from './silences.ts'
import type { Texts } from './texts.ts'

/** What is read and checked before anything else is started. */
export interface PreparedAlerts {
  readonly configs: readonly ChannelConfig[]
  readonly channels: readonly Channel[]
  readonly texts: ReadonlyMap<string, Texts>
  readonly zone: string
  readonly contact: string | null
  readonly escalation: Escalation
  readonly silences: readonly Silence[]
}

export interface AlertsOptions extends PreparedAlerts {
  readonly gateway: string
  /** In which incidents are written, and news with them. */
  readonly database: DatabaseSync
  /** Another way to the same file, for what is done again when a power cut undoes it. */
  readonly relaxed: DatabaseSync
  readonly incidents: Pick<IncidentStore, 'earlier' | 'subscriberOf'>
  /** The network of a policy that a machine is in; null: nobody knows. */
  readonly networkOf: (source: string) => string | null
  /** The latest attempts of a machine; empty: none are known. */
  readonly attempts: Surroundings['attempts']
  readonly now: () => number
  readonly random: () => number
  readonly log: AlertsLog
}

/** What operators and metrics are told. Delays in milliseconds, from the news to its arrival. */
export interface AlertsLog {
  sent(channel: string, delay: number): void
  failed(channel: string, error: Error, retryIn: number): void
  /** What a channel does of its own accord has failed. */
  faulty(channel: string, error: Error): void
  dead(channel: string, id: number, error: Error): void
  dropped(channel: string, news: number): void
  unwritable(error: Error): void
}

export interface ChannelStatus {
  readonly name: string
  readonly type: string
  /** News that waits, and how much of it is held back. */
  readonly queued: number
  readonly held: number
  /** Messages that have not arrived yet. */
  readonly waiting: number
  readonly dead: number
  /** News thrown away for want of room, ever. */
  readonly dropped: number
  /** Failures since a message arrived last. */
  readonly failures: number
  /** Milliseconds since the epoch; null: it is being tried. */
  readonly pausedUntil: number | null
  /** Why it failed the last time; null: a message has arrived since. */
  readonly error: string | null
}

/** How a test of a channel went. */
export type Tested =
  | { readonly delivered: true; readonly milliseconds: number }
  | { readonly delivered: false; readonly milliseconds: number; readonly error: string }

interface Line {
  readonly config: ChannelConfig
  readonly channel: Channel
  readonly desk: Desk
  readonly carrier: Carrier
}

const DAY = 86_400_000
/** Messages that have arrived are there to be looked at for so long. */
const KEEP_SENT = 7 * DAY
/** Milliseconds between looks for reminders. */
const TICK = 60_000

export class Alerts {
  readonly silences: Silences
  readonly #options: AlertsOptions
  readonly #queue: AlertQueue
  readonly #laterQueue: AlertQueue
  readonly #messages: AlertMessages
  readonly #marks: AlertMarks
  /** For the transaction of whoever leaves news. */
  readonly #marksNow: AlertMarks
  readonly #lines: ReadonlyMap<string, Line>
  #nextTick = 0

  constructor(options: AlertsOptions) {
    this.#options = options
    const { database, relaxed, silences } = options
    this.#queue = new AlertQueue(database)
    this.#laterQueue = new AlertQueue(relaxed)
    this.#messages = new AlertMessages(relaxed)
    this.#marks = new AlertMarks(relaxed)
    this.#marksNow = new AlertMarks(database)
    const store = new AlertSilences(relaxed)
    this.silences = new Silences(store, silences)
    this.#lines = new Map(
      options.channels.map((channel, index) => [
        channel.name,
        this.#open(channel, options.configs[index] as ChannelConfig, store),
      ]),
    )
  }

  /** Takes up what an earlier run has left. */
  start(): void {
    const { channels, relaxed, attempts, log } = this.#options
    beginChannels(channels, {
      database: relaxed,
      attempts,
      onFailed: (channel, error) => log.faulty(channel, error),
    })
    this.wake()
    for (const { carrier } of this.#lines.values()) carrier.wake()
  }

  /** What has not arrived is carried on at the next start. */
  async stop(): Promise<void> {
    const lines = [...this.#lines.values()]
    for (const { desk } of lines) desk.stop()
    await Promise.all(lines.map(({ carrier }) => carrier.stop()))
    await Promise.allSettled(lines.map(({ channel }) => channel.close?.()))
  }

  /** To be called in the transaction of what it is about, with `wake` to follow. `time` in milliseconds since the epoch. */
  leave(key: string, news: SingleNews, time: number): void {
    this.#leave(this.#queue, key, news, time, [...this.#lines.values()])
  }

  /** The same for what happens to an incident, once it is saved. */
  leaveIncident({ event, incident, time }: IncidentEvent): void {
    this.leave(`${incident.id}/${event}/${time}`, this.#newsOf(event, incident, time), time)
    if (event === 'resolved') this.#marksNow.forget(incident.id)
  }

  /** There is news. */
  wake(): void {
    for (const { desk } of this.#lines.values()) desk.wake()
  }

  /** From time to time: reminds of incidents that last. */
  tick(open: () => readonly Incident[]): void {
    const time = this.#options.now()
    if (time < this.#nextTick) return
    this.#nextTick = time + TICK
    try {
      this.#remind(open(), time)
    } catch (error) {
      this.#options.log.unwritable(error as Error)
    }
  }

  /**
   * Tells what is wrong on the whole, when it comes and when it goes: also over a restart, once. `current` has the news of
   * each subject that is wrong now.
   */
  tellStanding(
    prefix: string,
    current: ReadonlyMap<string, SingleNews>,
    over: (subject: string) => SingleNews,
  ): void {
    const { now, relaxed, log } = this.#options
    const time = now()
    const lines = [...this.#lines.values()]
    try {
      const standing = this.#marks.standing()
      const come = [...current].filter(([subject]) => !standing.has(prefix + subject))
      const gone = [...standing.keys()].filter(
        (key) => key.startsWith(prefix) && !current.has(key.slice(prefix.length)),
      )
      if (come.length + gone.length === 0) return
      inTransaction(relaxed, () => {
        for (const [subject, news] of come) {
          this.#marks.stands(prefix + subject, time)
          const key = standingKey(prefix, subject)
          this.#leave(this.#laterQueue, `${key}/come/${time}`, news, time, lines)
        }
        for (const key of gone) {
          this.#marks.isOver(key)
          const subject = key.slice(prefix.length)
          this.#leave(
            this.#laterQueue,
            `${standingKey(prefix, subject)}/gone/${time}`,
            over(subject),
            time,
            lines,
          )
        }
      })
      this.wake()
    } catch (error) {
      log.unwritable(error as Error)
    }
  }

  /** Sends a message at once, past everything that waits; null: there is no such channel. */
  async test(name: string): Promise<Tested | null> {
    const line = this.#lines.get(name)
    if (line === undefined) return null
    const { now, gateway } = this.#options
    const time = now()
    const started = performance.now()
    const body: TestNews = { event: 'test', gateway, time: new Date(time).toISOString(), severity: 'info' }
    const message = this.#compose(line.config, { key: `test/${gateway}/${time}`, time, body })
    const milliseconds = () => Math.round(performance.now() - started)
    try {
      await deliverInTime(line, message)
      line.carrier.encourage()
      return { delivered: true, milliseconds: milliseconds() }
    } catch (error) {
      return { delivered: false, milliseconds: milliseconds(), error: (error as Error).message }
    }
  }

  /** Sends a message once more that has arrived or was given up; null: there is none, or its channel is gone. */
  resend(id: number): StoredMessage | null {
    const message = this.#messages.get(id)
    const line = message === null ? undefined : this.#lines.get(message.channel)
    if (message === null || line === undefined) return null
    if (message.state === 'waiting') return message
    this.#messages.resend(id, this.#options.now())
    line.desk.expect(id, message.incidents)
    line.carrier.wake()
    return this.#messages.get(id)
  }

  /** Sends all messages of a channel once more that were given up, the oldest first; null: there is no such channel. */
  resendDead(name: string): number | null {
    const line = this.#lines.get(name)
    if (line === undefined) return null
    const resent = this.#messages.resendDead(name, this.#options.now())
    for (const { id, incidents } of resent) line.desk.expect(id, incidents)
    line.carrier.wake()
    return resent.length
  }

  /** Messages of all channels; the latest first. */
  list(query: Parameters<AlertMessages['list']>[0]): StoredMessage[] {
    return this.#messages.list(query)
  }

  get(id: number): StoredMessage | null {
    return this.#messages.get(id)
  }

  /** A message as people are told it; null where its channel is gone. */
  composed(stored: StoredMessage): Message | null {
    const line = this.#lines.get(stored.channel)
    return line === undefined ? null : this.#composeStored(line.config, stored)
  }

  status(): ChannelStatus[] {
    return [...this.#lines.values()].map(({ config: { name, type }, desk, carrier }) => {
      const { news, held, messages } = desk.waiting
      return {
        name,
        type,
        queued: news,
        held,
        waiting: messages,
        dead: this.#messages.count(name, 'dead'),
        dropped: this.#laterQueue.dropped(name).all,
        ...carrier.health,
      }
    })
  }

  /** Forgets what nobody needs any more; dead letters and silences that ended before the time. */
  prune(before: number): void {
    try {
      const channels = [...this.#lines.keys()]
      this.#laterQueue.prune(channels, before)
      this.#messages.prune(channels, {
        sent: Math.max(before, this.#options.now() - KEEP_SENT),
        dead: before,
      })
      this.silences.prune(before)
    } catch (error) {
      this.#options.log.unwritable(error as Error)
    }
  }

  #open(channel: Channel, config: ChannelConfig, store: AlertSilences): Line {
    const { gateway, relaxed, log, now, random } = this.#options
    const { name, handling } = config
    const messages = this.#messages
    const onUnwritable = (error: Error) => log.unwritable(error)
    const carrier: Carrier = new Carrier({
      channel,
      handling,
      messages,
      compose: (stored) => this.#composeStored(config, stored),
      now,
      random,
      onSettled: (message, outcome, error) => {
        desk.settled(message.id)
        if (error === null) log.sent(name, now() - message.time)
        else if (outcome === 'dead') log.dead(name, message.id, error)
      },
      onFailed: (_, error, retryIn) => log.failed(name, error, retryIn),
      onUnwritable,
    })
    const desk: Desk = new Desk({
      channel: name,
      gateway,
      handling,
      queue: this.#laterQueue,
      messages,
      inTransaction: (work) => inTransaction(relaxed, work),
      silenceOf: (facts, time) => this.silences.holding(name, facts, time),
      countSilenced: (silence, news) => store.count(silence, news),
      now,
      onMessages: () => carrier.wake(),
      onDropped: (news) => log.dropped(name, news),
      onUnwritable,
    })
    return { config, channel, desk, carrier }
  }

  #leave(queue: AlertQueue, key: string, news: SingleNews, time: number, lines: readonly Line[]): void {
    const facts = factsOf(news)
    const body = JSON.stringify(news)
    for (const { config } of lines) {
      if (isWanted(facts, config.routing)) queue.leave({ channel: config.name, key, time, body })
    }
  }

  #newsOf(event: IncidentEvent['event'] | 'reminder', incident: Incident, time: number) {
    const { gateway, escalation, incidents, networkOf } = this.#options
    return incidentNews(event, incident, time, {
      gateway,
      network: networkOf(incident.source),
      subscriber: incidents.subscriberOf(incident.id),
      occurrence: 1 + incidents.earlier(incident, incident.firstSeen - escalation.within),
      escalation,
    })
  }

  #remind(open: readonly Incident[], time: number): void {
    for (const line of this.#lines.values()) {
      const { name, handling } = line.config
      if (handling.remind === null) continue
      const due = remindersDue(open, handling.remind, this.#marks.reminders(name), time)
      if (due.length === 0) continue
      inTransaction(this.#options.relaxed, () => {
        for (const { incident, number } of due) {
          this.#marks.reminded(name, incident.id, number)
          const news = this.#newsOf('reminder', incident, time)
          this.#leave(this.#laterQueue, `${incident.id}/reminder/${number}`, news, time, [line])
        }
      })
      line.desk.wake()
    }
  }

  #composeStored(config: ChannelConfig, { key, time, body }: StoredMessage): Message {
    return this.#compose(config, { key, time, body: JSON.parse(body) as Body })
  }

  #compose({ handling: { language } }: ChannelConfig, told: Parameters<typeof compose>[0]): Message {
    const { texts, zone, contact, escalation } = this.#options
    // Every language that a channel has was loaded at start.
    return compose(told, { texts: texts.get(language) as Texts, zone, contact, within: escalation.within })
  }
}

/** A key goes into headers of several protocols, and a subject may be a sentence in anybody's words. */
function standingKey(prefix: string, subject: string): string {
  return prefix + createHash('sha256').update(subject).digest('hex').slice(0, 16)
}

async function deliverInTime({ channel, config: { handling } }: Line, message: Message): Promise<void> {
  const signal = AbortSignal.timeout(handling.timeout)
  const { promise: tooLate, reject } = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => reject(new Error(`no answer within ${handling.timeout / 1_000} s`)))
  await Promise.race([channel.deliver(message, signal), tooLate])
}
