/** Reports infected machines to whoever is behind them, in the formats of abuse desks, and not more often than it helps. */
import { hostname } from 'node:os'
import { Type } from 'typebox'
import { machineKey } from '../../detect/machine-key.ts'
import { parseDuration } from '../../policy/formats.ts'
import { channelType, PermanentError, type Surroundings } from '../channel.ts'
import { whoIs } from '../formats/who.ts'
import type { IncidentMessage, Message, Text } from '../message.ts'
import { parseLimit } from '../planning/message-limit.ts'
import { type Place, ReportCounter } from '../transport/report-counter.ts'
import { openOptionalSecret } from '../transport/secret.ts'
import { isMailAddress, SUBMISSION_FIELDS, submissionFault } from '../transport/submission-fields.ts'

/** In one report; an abuse desk looks for one that its logs have, too. */
const MAX_ATTEMPTS = 50

export const abuseReport = channelType({
  type: 'abuse-report',
  fields: {
    ...SUBMISSION_FIELDS,
    organisation: Type.String({ format: 'text', minLength: 1, maxLength: 200 }),
    format: Type.Optional(Type.Enum(['arf', 'xarf'])),
    fallback: Type.Optional(Type.String({ format: 'mail-address', minLength: 3, maxLength: 254 })),
    fallback_limit: Type.Optional(Type.String({ format: 'rate-or-none', minLength: 1, maxLength: 50 })),
    every: Type.Optional(Type.String({ format: 'duration', minLength: 1, maxLength: 50 })),
  },
  // Each subscriber is told of its own; what there is too much of for one of them is held back here.
  defaults: { limit: 'none', remind: 'never' },
  fault: submissionFault,
  async open(config, means) {
    const {
      name,
      from,
      organisation,
      format = 'arf',
      fallback,
      fallback_limit = '20/day',
      every = '1d',
    } = config
    const { ca_file, password_file } = config
    const password = await openOptionalSecret(password_file, means)
    const ca = ca_file === undefined ? undefined : await means.readSecret(ca_file)
    const pause = parseDuration(every) ?? 0
    const limit = parseLimit(fallback_limit)
    // Only who mails loads what mails.
    const { submit } = await import('../transport/submission.ts')
    const { mailOf } = await import('../formats/mail.ts')
    const { reportOf } = await import('../formats/abuse-report.ts')
    const { isReportable } = await import('../formats/report.ts')
    const underWay = new Set<string>()
    let surroundings: Surroundings | null = null
    let counter: ReportCounter | null = null

    const send = async (to: string, bytes: Buffer, signal: AbortSignal) => {
      const relay = { config, name: hostname(), ca, password }
      const refused = await submit({ from, to: [to], bytes }, relay, signal)
      if (refused.length > 0) throw new PermanentError(`the relay did not take it for ${to}`)
    }

    const report = async (message: IncidentMessage, to: string, text: Text, signal: AbortSignal) => {
      const { source, user } = message.body.incident
      // What other users of a host did is not for everybody.
      const attempts = surroundings?.attempts(source, MAX_ATTEMPTS, user?.uid) ?? []
      const envelope = { channel: name, from, to: [to] }
      await send(to, await reportOf({ message, envelope, text, attempts, organisation }, format), signal)
    }

    /** To whoever looks after those of whom no contact is known; false: it was held back. */
    const reportToFallback = async (message: IncidentMessage, signal: AbortSignal): Promise<boolean> => {
      if (fallback === undefined)
        throw new PermanentError('nobody to write to: no contact is known, and there is no fallback')
      const place = counter === null ? WITHOUT_LIMIT : counter.take(Date.now())
      // The incident is there to read all the same, and a later report says how many there were.
      if (place === null) return false
      try {
        await report(message, fallback, withRemarks(message.text, place, fallback_limit), signal)
      } catch (error) {
        counter?.giveBack()
        throw error
      }
      counter?.arrived(place)
      return true
    }

    const tell = async (message: IncidentMessage, signal: AbortSignal) => {
      const { event, incident } = message.body
      if (event !== 'opened' && event !== 'updated') return
      const who = whoIs(incident)
      const contact = who?.contact ?? ''
      const subscriber = `subscriber ${who?.account ?? who?.name ?? who?.mac ?? machineKey(incident.source, incident.user?.uid ?? null)}`
      const last = Number(surroundings?.memory.get(subscriber) ?? 0)
      // A second report in a day has no news for them.
      if (underWay.has(subscriber) || Date.now() - last < pause) return
      underWay.add(subscriber)
      try {
        if (isMailAddress(contact)) await report(message, contact, message.notice, signal)
        else if (!(await reportToFallback(message, signal))) return
        surroundings?.memory.put(subscriber, String(Date.now()))
      } finally {
        underWay.delete(subscriber)
      }
    }

    /** What is about no single machine is for the desk, and so is a test: it shows that the relay takes our mail. */
    const tellDesk = async (message: Message, signal: AbortSignal) => {
      const to = fallback ?? from
      await send(to, await mailOf(message, { channel: name, from, to: [to] }), signal)
    }

    return {
      name,
      type: 'abuse-report',
      async deliver(message, signal) {
        if (message.about === 'test' || message.about === 'digest') await tellDesk(message, signal)
        else if (message.about === 'incident' && isReportable(message)) await tell(message, signal)
      },
      begin(given) {
        surroundings = given
        counter = limit === null ? null : new ReportCounter(given.memory, limit)
        for (const [key, value] of given.memory.all()) {
          if (key.startsWith('subscriber ') && Date.now() - Number(value) >= pause) given.memory.remove(key)
        }
      },
    }
  },
})

const WITHOUT_LIMIT: Place = { isLast: false, heldBack: 0 }

/** What the desk should know of the limit. */
function withRemarks(text: Text, { isLast, heldBack }: Place, limit: string): Text {
  const remarks = [
    ...(heldBack > 0 ? [`${heldBack} more machines were not reported to this address before this one.`] : []),
    ...(isLast ? [`This is the last report to this address for now: it gets ${limit} at most.`] : []),
  ]
  if (remarks.length === 0) return text
  return {
    ...text,
    lines: [...text.lines, '', ...remarks, 'All of them are in the list: egress25 incidents'],
  }
}
