/** Leaves news for the channels that want it, in the transaction of what it is about; what lasts and what stands, once. */
import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import { AlertMarks } from '../store/alert-marks.ts'
import { AlertQueue } from '../store/alert-queue.ts'
import { inTransaction } from '../store/database.ts'
import type { ChannelConfig } from './alerts-config.ts'
import type { IncidentNews, SingleNews } from './message.ts'
import { factsOf, isWanted } from './planning/facts.ts'
import { intervalsOf, remindersDue } from './planning/reminders.ts'

export interface IntakeOptions {
  readonly channels: readonly ChannelConfig[]
  /** In which incidents are written, and news with them. */
  readonly database: DatabaseSync
  /** Another way to the same file, for what is done again when a power cut undoes it. */
  readonly relaxed: DatabaseSync
  readonly newsOf: (event: IncidentNews['event'], incident: Incident, time: number) => IncidentNews
  readonly now: () => number
}

export class Intake {
  readonly #options: IntakeOptions
  readonly #queue: AlertQueue
  readonly #laterQueue: AlertQueue
  readonly #marks: AlertMarks
  /** For the transaction of whoever leaves news. */
  readonly #marksNow: AlertMarks

  constructor(options: IntakeOptions) {
    this.#options = options
    const { database, relaxed } = options
    this.#queue = new AlertQueue(database)
    this.#laterQueue = new AlertQueue(relaxed)
    this.#marks = new AlertMarks(relaxed)
    this.#marksNow = new AlertMarks(database)
  }

  /** In the transaction of what it is about. `time` in milliseconds since the epoch. */
  leave(key: string, news: SingleNews, time: number): void {
    leave(this.#queue, { key, news, time }, this.#options.channels)
  }

  /** The same for what happens to an incident, once it is saved. */
  leaveIncident({ event, incident, time }: IncidentEvent): void {
    const key = `${incident.id}/${event}/${time}`
    // One that grows fast may be news twice in the same millisecond.
    const unique = event === 'updated' ? `${key}/${incident.attempts}` : key
    this.leave(unique, this.#options.newsOf(event, incident, time), time)
    if (event === 'resolved') this.#marksNow.forget(incident.id)
    if (event === 'opened' && incident.reopened > 0) this.#skipReminders(incident, time)
  }

  /** Reminds of incidents that last. True: there is news. @throws Error when the database cannot be written */
  remind(open: readonly Incident[]): boolean {
    const { channels, relaxed, newsOf, now } = this.#options
    const time = now()
    let isNews = false
    for (const channel of channels) {
      const { name, handling } = channel
      if (handling.remind === null) continue
      const due = remindersDue(open, handling.remind, this.#marks.reminders(name), time)
      if (due.length === 0) continue
      inTransaction(relaxed, () => {
        for (const { incident, number } of due) {
          this.#marks.reminded(name, incident.id, number)
          const news = newsOf('reminder', incident, time)
          leave(this.#laterQueue, { key: `${incident.id}/reminder/${number}`, news, time }, [channel])
        }
      })
      isNews = true
    }
    return isNews
  }

  /** Whoever is told that it is open again need not be reminded of the time before. */
  #skipReminders(incident: Incident, time: number): void {
    for (const { name, handling } of this.#options.channels) {
      const number = handling.remind === null ? 0 : intervalsOf(incident, handling.remind, time)
      if (number > 0) this.#marksNow.reminded(name, incident.id, number)
    }
  }

  /**
   * What is wrong on the whole, when it comes and when it goes: also over a restart, once. `current` has the news of each
   * subject that is wrong now. True: there is news. @throws Error when the database cannot be written
   */
  tellStanding(
    prefix: string,
    current: ReadonlyMap<string, SingleNews>,
    over: (subject: string) => SingleNews,
  ): boolean {
    const { channels, relaxed, now } = this.#options
    const time = now()
    const standing = this.#marks.standing()
    const come = [...current].filter(([subject]) => !standing.has(prefix + subject))
    const gone = [...standing.keys()].flatMap((mark) => {
      const subject = mark.slice(prefix.length)
      return mark.startsWith(prefix) && !current.has(subject) ? [subject] : []
    })
    if (come.length + gone.length === 0) return false
    inTransaction(relaxed, () => {
      for (const [subject, news] of come) {
        this.#marks.stands(prefix + subject, time)
        leave(this.#laterQueue, { key: `${keyOf(prefix, subject)}/come/${time}`, news, time }, channels)
      }
      for (const subject of gone) {
        this.#marks.isOver(prefix + subject)
        const key = `${keyOf(prefix, subject)}/gone/${time}`
        leave(this.#laterQueue, { key, news: over(subject), time }, channels)
      }
    })
    return true
  }
}

interface Piece {
  readonly key: string
  readonly news: SingleNews
  readonly time: number
}

function leave(queue: AlertQueue, { key, news, time }: Piece, channels: readonly ChannelConfig[]): void {
  const facts = factsOf(news)
  const body = JSON.stringify(news)
  for (const { name, routing } of channels) {
    if (isWanted(facts, routing)) queue.leave({ channel: name, key, time, body })
  }
}

/** A key goes into headers of several protocols, and a subject may be a sentence in anybody's words. */
function keyOf(prefix: string, subject: string): string {
  return prefix + createHash('sha256').update(subject).digest('hex').slice(0, 16)
}
