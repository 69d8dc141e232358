/**
 * Who is told what: every happening goes to the log, in words for operators, and to those who listen for events; and
 * what somebody must act on to the channels, durably, in the same transaction as what it is about.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import type { Alerts } from '../alerts/alerts.ts'
import type { DriftNews, ExemptionNews } from '../alerts/message.ts'
import type { Caller } from '../caller.ts'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import { incidentBody } from '../detect/incident-body.ts'
import type { ExemptionRequest, RequestEvent } from '../exemptions/exemption-request.ts'
import type { Lapse } from '../exemptions/lapses.ts'
import type { ChangeRecord } from '../history/change-record.ts'
import type { ForeignChange } from '../kernel/change-monitor.ts'
import type { LocalUsers } from '../kernel/local-users.ts'
import type { Finding } from '../kernel/preflight.ts'
import { formatPrefix } from '../policy/prefix.ts'
import type { DueRevocation } from '../store/due-revocations.ts'
import type { IncidentStore } from '../store/incidents.ts'
import { WaitingWrites } from '../store/waiting-writes.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { InForce } from './controller.ts'
import type { EventLog } from './event-log.ts'
import { lapseKey, lapseNews, revocationKey, revocationNews } from './exemptions/exemption-news.ts'
import type { EndingExemption } from './exemptions/lapse-watch.ts'
import { findingOf, preflightNews, preflightSubject } from './preflight-news.ts'
import type { SyncStatus } from './repository/sync.ts'
import type { ByHand } from './repository/work-tree-watch.ts'
import type { Pending } from './trial/confirmation.ts'
import type { TakenBackBy } from './trial/trial.ts'
import { LineBudget } from './watching/line-budget.ts'
import type { MonitorLog } from './watching/monitor.ts'

export interface NewsOptions {
  readonly gateway: string
  readonly log: Logger
  readonly events: EventLog
  readonly database: DatabaseSync
  readonly incidents: IncidentStore
  /** Names of local users. */
  readonly users: LocalUsers
  /** Who was behind an attempt. */
  readonly identify: (attempt: Attempt) => Subscriber | null
  readonly alerts: Pick<Alerts, 'leave' | 'leaveIncident' | 'tellStanding' | 'wake'>
}

/** Attempts in the log, a second. */
const MOST_LINES = 100

export class News implements MonitorLog {
  readonly #options: NewsOptions
  readonly #lines = new LineBudget(MOST_LINES)
  /** A full disk costs neither what happened nor the watch over the rest. */
  readonly #writes: WaitingWrites

  constructor(options: NewsOptions) {
    this.#options = options
    const { database, log, alerts } = options
    this.#writes = new WaitingWrites({
      database,
      onFailed: ({ message }) =>
        log.error({ reason: message }, 'the database cannot be written; incidents and their alerts wait'),
      onRecovered: (lost) => {
        log.warn({ lost }, 'incidents and alerts that waited are written')
        alerts.wake()
      },
      onRefused: ({ message }) => log.error({ reason: message }, 'an incident is in this log only'),
    })
  }

  /** To be called once a second, and at the end. */
  tick(): void {
    this.#writes.retry()
    const attempts = this.#lines.takeLeftOut()
    if (attempts > 0)
      this.#log.warn({ attempts }, 'more attempts than this log has lines for: the API knows them')
  }

  attempt(attempt: Attempt): void {
    const { source, sourcePort, destination, policy, verdict, because, uid, mac } = attempt
    const body = {
      source: formatPrefix(source),
      source_port: sourcePort,
      destination: formatPrefix(destination),
      policy,
      verdict,
      ...(because === null ? {} : { because }),
      ...(attempt.interface === null ? {} : { interface: attempt.interface }),
      ...(uid === null ? {} : { uid, user: this.#options.users.nameOf(uid) }),
      ...(mac === null ? {} : { mac }),
    }
    // What relays and exempt hosts do is their business, and may be very much.
    if (verdict === 'allow') this.#log.debug(body, 'allowed')
    else if (this.#lines.take(Date.now())) this.#log.info(body, 'attempt')
    this.#events.publishAttempt(() => body)
  }

  /**
   * The incident and its messages are written together: neither can be there without the other. The attempt is the one
   * that brought it about, where one did.
   */
  incident({ event, incident, time }: IncidentEvent, attempt: Attempt | null = null): void {
    const { alerts, incidents, identify } = this.#options
    const known = incidents.subscriberOf(incident.id)
    const subscriber = known ?? (attempt === null ? null : identify(attempt))
    const body = incidentBody(incident, subscriber)
    this.#log.warn({ event, incident: body }, `incident ${event}: ${body.summary}`)
    this.#events.publish('incident', { event, incident: body })
    this.#writes.write(incident.id, () => {
      incidents.save(incident)
      if (known === null && subscriber !== null) incidents.name(incident.id, subscriber)
      alerts.leaveIncident({ event, incident, time })
    })
    alerts.wake()
  }

  /** What incidents have come to. */
  progress(grown: readonly Incident[]): void {
    const { incidents } = this.#options
    this.#writes.writeLatest(
      new Map(grown.map((incident) => [incident.id, () => incidents.save(incident)] as const)),
    )
  }

  listening(): void {
    this.#log.info('listening for attempts')
  }

  deaf(reason: string, restartIn: number): void {
    this.#log.error(
      { reason, restart_in_ms: restartIn },
      'the event source ended; attempts are still counted',
    )
  }

  drift(what: string, by: ForeignChange | null, healIn: number): void {
    const body = { what, by, heal_in_ms: healIn }
    this.#log.error(body, 'the kernel did not hold our rules; they are being restored')
    this.#events.publish('drift', { event: 'found', ...body })
  }

  healed(): void {
    this.#log.info('our rules are in force again')
    this.#events.publish('drift', { event: 'healed' })
  }

  /** Somebody changes our table again and again; port 25 may be open between one time and the next. */
  contested(by: ForeignChange | null, healIn: number): void {
    const body = { by, heal_in_ms: healIn }
    this.#log.error(body, 'another program changes our table again and again: find it and make it stop')
    this.#tellOfDrift('table-contested', body)
  }

  uncontested(): void {
    this.#log.warn('nobody changes our table any more')
    this.#tellOfDrift('table-uncontested', { by: null })
  }

  missed(): void {
    this.#log.warn('nftables was changed while nobody listened; the rules are written anew, to be sure')
    this.#events.publish('drift', { event: 'missed' })
  }

  blind(reason: string, restartIn: number): void {
    this.#log.error({ reason, restart_in_ms: restartIn }, 'changes by others are not heard of for a while')
  }

  unreadable(error: Error): void {
    this.#log.error({ reason: error.message }, 'the kernel could not be asked')
  }

  applied({ applied: { how, digest, elements, chains } }: InForce, by: Caller): void {
    if (how === 'unchanged') return
    const body = { how, digest, elements, chains, by: by.name }
    this.#log.info({ ...body, request_id: by.requestId ?? undefined }, 'rules changed')
    this.#events.publish('apply', body)
  }

  /** What is in force could not be kept for the next boot; null: it is kept, and was not before. */
  bootFile(error: Error | null): void {
    if (error === null) this.#log.info('the rules would survive a reboot again')
    else this.#log.error({ reason: error.message }, 'the rules would not survive a reboot')
  }

  takenBack({ id, digest }: Pending, by: TakenBackBy): void {
    const body = { id, digest, by }
    this.#log.error(body, 'an unconfirmed change was taken back; the rules from before are in force')
    this.#events.publish('confirmation', { event: 'taken-back', ...body })
  }

  stuck(pending: Pending | null, error: Error): void {
    this.#log.error(
      { id: pending?.id, reason: error.message },
      'an unconfirmed change cannot be taken back yet',
    )
  }

  /** To be called in the transaction in which the announcement is remembered. */
  leaveLapse(lapse: Lapse<EndingExemption>, now: number): void {
    const { alerts, gateway } = this.#options
    alerts.leave(lapseKey(lapse), lapseNews(lapse, gateway, now), now)
  }

  lapse({ exemption: { name, expires, origin, owner, ticket }, lead }: Lapse<EndingExemption>): void {
    const where = { name, file: origin.file, line: origin.line, owner, ticket }
    const exemption = { ...where, expires: new Date(expires).toISOString() }
    this.#log.warn({ exemption }, lead === 0 ? 'an exemption has ended' : 'an exemption ends soon')
    this.#events.publish('exemption', { event: lead === 0 ? 'lapsed' : 'lapses', exemption })
  }

  exemptionRequest({ id, exemption: { name, ticket } }: ExemptionRequest, event: RequestEvent): void {
    const { reason, overrode } = event
    const body = { event: event.event, request: id, exemption: name, ticket, by: event.by, reason, overrode }
    this.#log.info(body, `exemption request ${event.event}`)
    this.#events.publish('exemption-request', body)
  }

  /** Taken back by the service itself, because a host that it covers turned bad. */
  exemptionRevoked(revocation: DueRevocation): void {
    const news = revocationNews(revocation, this.#options.gateway)
    const body = { exemption: news.exemption, incident: revocation.incident }
    this.#log.warn(body, 'an exemption was revoked: its host is infected')
    this.#events.publish('exemption', { event: news.event, ...body })
    this.#leave(revocationKey(news), news, revocation.time)
  }

  /** A change is in git. */
  committed(id: string, { subject, author, requestId }: ChangeRecord): void {
    this.#events.publish('history', {
      event: 'committed',
      revision: id,
      subject,
      by: author.name,
      request_id: requestId,
    })
  }

  /** What was changed waits for git. */
  historyFailed({ message }: Error): void {
    this.#log.error(
      { reason: message },
      'changes cannot be committed for a while; they are in force, and kept',
    )
    this.#events.publish('history', { event: 'failed', reason: message })
  }

  /** There is a repository, and nothing is committed to it. */
  historyUnusable(reason: string): void {
    this.#log.error({ reason }, 'changes are not committed: the repository of the policies cannot be used')
    this.#events.publish('history', { event: 'failed', reason })
  }

  editedByHand({ files, state, reason, diagnostics }: ByHand): void {
    const body = { state, reason, files: files.slice(0, 100), diagnostics: diagnostics.slice(0, 20) }
    const line = 'the policy directory was edited by hand'
    if (state === 'in-force') this.#log.info(body, line)
    else this.#log.warn(body, line)
    this.#events.publish('history', { event: 'edited-by-hand', ...body })
  }

  pulled({ from, to, by }: { from: string | null; to: string; by: Caller }): void {
    const body = { from, revision: to, by: by.name, request_id: by.requestId }
    this.#log.info(body, 'policies were pulled, and are in force')
    this.#events.publish('history', { event: 'pulled', ...body })
  }

  pushed(revision: string): void {
    this.#log.info({ revision }, 'changes were pushed')
    this.#events.publish('history', { event: 'pushed', revision })
  }

  /** How this directory and the remote stand to each other has changed. */
  syncState({ state, revision, reason, diagnostics, kept }: SyncStatus): void {
    const body = { state, revision, reason, kept, diagnostics: diagnostics.slice(0, 20) }
    if (state === 'in-step') this.#log.info(body, 'in step with the remote again')
    else this.#log.error(body, 'not in step with the remote; what was good last stays in force')
    this.#events.publish('history', { event: 'remote', ...body })
  }

  preflightAppeared(finding: Finding): void {
    this.#log.warn(finding, 'preflight warning')
    this.#events.publish('preflight', { event: 'appeared', ...finding })
  }

  preflightGone(finding: Finding): void {
    this.#log.info(finding, 'preflight warning is gone')
    this.#events.publish('preflight', { event: 'gone', ...finding })
  }

  /** All that is wrong with the machine: channels are told what has come and gone since they were told last. */
  preflightLooked(findings: readonly Finding[]): void {
    const { alerts, gateway } = this.#options
    alerts.tellStanding(
      'preflight/',
      new Map(findings.map((finding) => [preflightSubject(finding), preflightNews(finding, true, gateway)])),
      (subject) => preflightNews(findingOf(subject), false, gateway),
    )
  }

  get #log(): Logger {
    return this.#options.log
  }

  get #events(): EventLog {
    return this.#options.events
  }

  #tellOfDrift(event: DriftNews['event'], body: Pick<DriftNews, 'by' | 'heal_in_ms'>): void {
    this.#events.publish('drift', { event, ...body })
    // The end is as severe as the beginning: whoever heard of that one waits for this one.
    const { gateway } = this.#options
    const now = Date.now()
    const time = new Date(now).toISOString()
    this.#leave(`${event}/${now}`, { event, gateway, time, severity: 'critical', ...body }, now)
  }

  /** For what must be acted on and is no incident of a machine. */
  #leave(key: string, news: DriftNews | ExemptionNews, time: number): void {
    const { alerts } = this.#options
    this.#writes.write(key, () => alerts.leave(key, news, time))
    alerts.wake()
  }
}
