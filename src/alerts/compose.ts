/** From what happened to what people and programs are told. Pure. */
import type { IncidentBody } from '../detect/incident-body.ts'
import { localUser } from './formats/who.ts'
import type { Body, DigestNews, ExemptionNews, IncidentNews, Message, SingleNews, Text } from './message.ts'
import type { TEXT_VARIABLES, View } from './text-variables.ts'
import type { Texts } from './texts.ts'

export interface ComposeOptions {
  readonly texts: Texts
  /** IANA time zone of times in texts. */
  readonly zone: string
  /** How to reach whoever helps subscribers; null: nothing is said of it. */
  readonly contact: string | null
  /** Within which incidents of a machine are counted, in milliseconds. */
  readonly within: number
}

/** What was stored as JSON, and is to be told. */
export interface Told {
  readonly key: string
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly body: Body
}

export function compose({ key, time, body }: Told, options: ComposeOptions): Message {
  const common = { key, time, gateway: body.gateway, severity: body.severity }
  const writer = new Writer(options)
  switch (body.event) {
    case 'opened':
    case 'updated':
    case 'resolved':
    case 'reminder': {
      const [text, notice] = writer.incident(body)
      return { ...common, about: 'incident', text, notice, body }
    }
    case 'digest':
      return { ...common, about: 'digest', text: writer.digest(body), body }
    case 'exemption-lapses':
    case 'exemption-lapsed':
    case 'exemption-revoked':
      return { ...common, about: 'exemption', text: writer.other(body), body }
    case 'table-contested':
    case 'table-uncontested':
      return { ...common, about: 'drift', text: writer.other(body), body }
    case 'preflight-appeared':
    case 'preflight-gone':
      return { ...common, about: 'preflight', text: writer.other(body), body }
    case 'test':
      return { ...common, about: 'test', text: options.texts.render('test', writer.common(body)), body }
    default:
      return body satisfies never
  }
}

type IncidentView = View<(typeof TEXT_VARIABLES)['opened']>

class Writer {
  readonly #options: ComposeOptions
  readonly #number: Intl.NumberFormat
  readonly #clock: Intl.DateTimeFormat

  constructor(options: ComposeOptions) {
    const { texts, zone } = options
    this.#options = options
    this.#number = numberFormat(texts.language)
    this.#clock = clockOf(texts.language, zone)
  }

  common({ gateway, time, severity }: Body) {
    return { gateway, severity, time: this.#at(time), contact: this.#options.contact ?? '' }
  }

  /** For the operator, and for the subscriber. */
  incident(news: IncidentNews): [Text, Text] {
    const { texts } = this.#options
    const view = this.#incidentView(news)
    const notice = texts.render(news.event === 'resolved' ? 'notice_resolved' : 'notice', view)
    return [texts.render(news.event, view), notice]
  }

  digest(news: DigestNews): Text {
    const { texts } = this.#options
    const { digest } = news
    return texts.render('digest', {
      ...this.common(news),
      news: this.#count(digest.news),
      machines: this.#count(digest.machines),
      any_machine: digest.machines > 0,
      attempts: this.#count(digest.attempts),
      since: this.#at(digest.since),
      until: this.#at(digest.until),
      because: digest.because.map((one) => texts.word('because', one)).join(', '),
      dropped: digest.dropped > 0 ? this.#count(digest.dropped) : '',
      kinds: Object.entries(digest.by_kind).map(([kind, count]) => ({
        kind: texts.word('kinds', kind),
        machines: this.#count(count),
      })),
      events: Object.entries(digest.by_event).map(([event, count]) => ({
        event: texts.word('events', event),
        count: this.#count(count),
      })),
      networks: digest.by_network.map(({ network, machines }, index) => ({
        network,
        machines: this.#count(machines),
        first: index === 0,
      })),
      worst: digest.worst.map((incident) => ({
        machine: machineOf(incident, texts),
        source: incident.source,
        subscriber: subscriberOf(incident),
        kind: texts.word('kinds', incident.kind),
        attempts: this.#count(incident.attempts),
        servers: texts.servers(incident.destinations),
        since: this.#at(incident.first_seen),
        summary: incident.summary,
      })),
      others: digest.others.map((one) => ({ subject: this.other(one).subject })),
    })
  }

  other(news: Exclude<SingleNews, IncidentNews>): Text {
    const { texts } = this.#options
    const common = this.common(news)
    switch (news.event) {
      case 'exemption-lapses':
        return texts.render('exemption_lapses', { ...common, ...this.#exemption(news) })
      case 'exemption-lapsed':
        return texts.render('exemption_lapsed', { ...common, ...this.#exemption(news) })
      case 'exemption-revoked':
        return texts.render('exemption_revoked', { ...common, ...this.#exemption(news) })
      case 'table-contested':
        return texts.render('table_contested', { ...common, program: news.by?.program ?? '' })
      case 'table-uncontested':
        return texts.render('table_uncontested', { ...common, program: news.by?.program ?? '' })
      case 'preflight-appeared':
        return texts.render('preflight_appeared', { ...common, ...news.preflight })
      case 'preflight-gone':
        return texts.render('preflight_gone', { ...common, ...news.preflight })
      default:
        return news satisfies never
    }
  }

  #incidentView(news: IncidentNews): IncidentView {
    const { texts, within } = this.#options
    const { incident, occurrence } = news
    return {
      ...this.common(news),
      id: incident.id,
      kind: texts.word('kinds', incident.kind),
      machine: machineOf(incident, texts),
      source: incident.source,
      subscriber: subscriberOf(incident),
      policy: incident.policy ?? '–',
      network: news.network ?? incident.policy ?? incident.source,
      attempts: this.#count(incident.attempts),
      servers: texts.servers(incident.destinations),
      since: this.#at(incident.first_seen),
      last_seen: this.#at(incident.last_seen),
      lasted: this.#span(Date.parse(incident.last_seen) - Date.parse(incident.first_seen)),
      fate: texts.word('fate', incident.verdict),
      certainty: texts.word('certainty', incident.confidence),
      advice: texts.advice(incident.kind, localUser(incident) !== null),
      occurrence: this.#count(occurrence),
      repeated: occurrence > 1,
      within: this.#span(within),
      misconfigured: incident.kind === 'misconfigured-client',
      observed: incident.verdict === 'observe',
      acknowledged: incident.acknowledged,
      summary: incident.summary,
    }
  }

  #exemption({ exemption }: ExemptionNews) {
    const { name, expires, owner, ticket, reason, sources, more_sources = 0 } = exemption
    return {
      name,
      expires: expires === null ? '' : this.#at(expires),
      owner: owner ?? '',
      ticket: ticket ?? '',
      reason: reason ?? '',
      sources: sources.join(', '),
      more_sources: more_sources > 0 ? this.#count(more_sources) : '',
    }
  }

  #count(count: number): string {
    return this.#number.format(count)
  }

  /** Of a time in RFC 3339; with its zone (RFC 6302: whoever looks for a machine must know which). */
  #at(time: string): string {
    return this.#clock.format(Date.parse(time))
  }

  #span(milliseconds: number): string {
    const seconds = Math.max(1, Math.round(milliseconds / 1_000))
    const [unit, size] = UNITS.find(([, length]) => seconds >= 2 * length) ?? ['second', 1]
    return unitFormat(this.#options.texts.language, unit).format(Math.round(seconds / size))
  }
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
] as const

/** The subscriber's name where it is known: an address says nothing to people. */
function machineOf(incident: IncidentBody, texts: Texts): string {
  const user = localUser(incident)
  if (user !== null) return texts.localUser(user, incident.source)
  const subscriber = subscriberOf(incident)
  return subscriber === '' ? incident.source : `${subscriber} (${incident.source})`
}

/** As the operator's books call them; empty: nobody knows. */
function subscriberOf({ subscriber }: IncidentBody): string {
  if (subscriber === null) return ''
  const { name, account, mac, port } = subscriber
  const who = name ?? account ?? port ?? mac ?? ''
  return name !== null && account !== null ? `${name}, ${account}` : who
}

// Making one of these takes longer than all the rest of a message.
const formats = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat>()

function remembered<T extends Intl.NumberFormat | Intl.DateTimeFormat>(key: string, make: () => T): T {
  const found = formats.get(key) ?? make()
  formats.set(key, found)
  return found as T
}

function numberFormat(language: string): Intl.NumberFormat {
  return remembered(`number ${language}`, () => new Intl.NumberFormat(language))
}

function unitFormat(language: string, unit: string): Intl.NumberFormat {
  return remembered(
    `${unit} ${language}`,
    () => new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }),
  )
}

function clockOf(language: string, timeZone: string): Intl.DateTimeFormat {
  const date = { year: 'numeric', month: 'short', day: 'numeric' } as const
  const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' } as const
  return remembered(
    `clock ${language} ${timeZone}`,
    () => new Intl.DateTimeFormat(language, { ...date, ...time, timeZone, timeZoneName: 'short' }),
  )
}
