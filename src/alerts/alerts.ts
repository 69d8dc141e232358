/**
 * Alerts, put together: news is left here in the transaction of what it is about, and from then on finds its way to every
 * channel that wants it. Nothing here delays whoever leaves news.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import { AlertMessages, type StoredMessage } from '../store/alert-messages.ts'
import { AlertQueue } from '../store/alert-queue.ts'
import { AlertSilences } from '../store/alert-silences.ts'
import type { IncidentStore } from '../store/incidents.ts'
import type { ChannelConfig } from './alerts-config.ts'
import { beginChannels } from './begin-channels.ts'
import type { Channel, Surroundings } from './channel.ts'
import { compose } from './compose.ts'
import { incidentNews } from './incident-news.ts'
import { Intake } from './intake.ts'
import { type ChannelStatus, Line, type Tested } from './line.ts'
import type { AlertsLog } from './log.ts'
import type { Body, IncidentNews, Message, SingleNews, TestNews } from './message.ts'
import type { Escalation } from './planning/severity.ts'
import type { Silence } from './planning/silence.ts'
import { Silences } from './planning/silences.ts'
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

const DAY = 86_400_000
/** Messages that have arrived are there to be looked at for so long. */
const KEEP_SENT = 7 * DAY
/** Milliseconds between looks for reminders. */
const TICK = 60_000

export class Alerts {
  readonly silences: Silences
  readonly #options: AlertsOptions
  readonly #intake: Intake
  readonly #queue: AlertQueue
  readonly #messages: AlertMessages
  readonly #lines: ReadonlyMap<string, Line>
  #nextTick = 0

  constructor(options: AlertsOptions) {
    this.#options = options
    const { configs, database, relaxed, now } = options
    this.#intake = new Intake({
      channels: configs,
      database,
      relaxed,
      now,
      newsOf: (event, incident, time) => this.#newsOf(event, incident, time),
    })
    this.#queue = new AlertQueue(relaxed)
    this.#messages = new AlertMessages(relaxed)
    const silenced = new AlertSilences(relaxed)
    this.silences = new Silences(silenced, options.silences)
    this.#lines = new Map(
      options.channels.map((channel, index) => [
        channel.name,
        this.#open(channel, configs[index] as ChannelConfig, silenced),
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
    for (const line of this.#lines.values()) line.start()
  }

  /** What has not arrived is carried on at the next start. */
  async stop(): Promise<void> {
    const lines = [...this.#lines.values()]
    for (const line of lines) line.stopDesk()
    await Promise.all(lines.map((line) => line.stopCarrier()))
    await Promise.allSettled(lines.map((line) => line.close()))
  }

  /** To be called in the transaction of what it is about, with `wake` to follow. `time` in milliseconds since the epoch. */
  leave(key: string, news: SingleNews, time: number): void {
    this.#intake.leave(key, news, time)
  }

  /** The same for what happens to an incident, once it is saved. */
  leaveIncident(event: IncidentEvent): void {
    this.#intake.leaveIncident(event)
  }

  /** There is news. */
  wake(): void {
    for (const line of this.#lines.values()) line.wake()
  }

  /** From time to time: reminds of incidents that last. */
  tick(open: () => readonly Incident[]): void {
    const time = this.#options.now()
    if (time < this.#nextTick) return
    this.#nextTick = time + TICK
    this.#whileWritable(() => {
      if (this.#intake.remind(open())) this.wake()
    })
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
    this.#whileWritable(() => {
      if (this.#intake.tellStanding(prefix, current, over)) this.wake()
    })
  }

  /** Sends a message at once, past everything that waits; null: there is no such channel. */
  async test(name: string): Promise<Tested | null> {
    const line = this.#lines.get(name)
    if (line === undefined) return null
    const { now, gateway } = this.#options
    const time = now()
    const body: TestNews = { event: 'test', gateway, time: new Date(time).toISOString(), severity: 'info' }
    return line.test(this.#compose(line.config, { key: `test/${gateway}/${time}`, time, body }))
  }

  /** Sends a message once more that has arrived or was given up; null: there is none, or its channel is gone. */
  resend(id: number): StoredMessage | null {
    const message = this.#messages.get(id)
    const line = message === null ? undefined : this.#lines.get(message.channel)
    if (message === null || line === undefined) return null
    if (message.state === 'waiting') return message
    this.#messages.resend(id, this.#options.now())
    line.resent([message])
    return this.#messages.get(id)
  }

  /** Sends all messages of a channel once more that were given up, the oldest first; null: there is no such channel. */
  resendDead(name: string): number | null {
    const line = this.#lines.get(name)
    if (line === undefined) return null
    const messages = this.#messages.resendDead(name, this.#options.now())
    line.resent(messages)
    return messages.length
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
    return [...this.#lines.values()].map((line) => line.status())
  }

  /** Forgets what nobody needs any more; dead letters and silences that ended before the time. */
  prune(before: number): void {
    const channels = [...this.#lines.keys()]
    this.#whileWritable(() => {
      this.#queue.prune(channels, before)
      this.#messages.prune(channels, {
        sent: Math.max(before, this.#options.now() - KEEP_SENT),
        dead: before,
      })
      this.silences.prune(before)
    })
  }

  #open(channel: Channel, config: ChannelConfig, silenced: AlertSilences): Line {
    const { gateway, relaxed, log, now, random } = this.#options
    return new Line({
      channel,
      config,
      gateway,
      database: relaxed,
      queue: this.#queue,
      messages: this.#messages,
      silences: this.silences,
      silenced,
      compose: (stored) => this.#composeStored(config, stored),
      now,
      random,
      log,
    })
  }

  #whileWritable(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#options.log.unwritable(error as Error)
    }
  }

  #newsOf(event: IncidentNews['event'], incident: Incident, time: number): IncidentNews {
    const { gateway, escalation, incidents, networkOf } = this.#options
    return incidentNews(event, incident, time, {
      gateway,
      network: networkOf(incident.source),
      subscriber: incidents.subscriberOf(incident.id),
      occurrence: 1 + incidents.earlier(incident, incident.firstSeen - escalation.within),
      escalation,
    })
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
