/** Reports infected machines to whoever is behind them, in the formats of abuse desks, and not more often than it helps. */
import { hostname } from 'node:os'
import { Type } from 'typebox'
import { parseDuration } from '../../policy/formats.ts'
import { channelType, PermanentError, type Surroundings } from '../channel.ts'
import { whoIs } from '../formats/facts.ts'
import type { IncidentMessage } from '../message.ts'
import { openOptionalSecret } from '../secret.ts'
import { isMailAddress, SUBMISSION_FIELDS, submissionFault } from '../submission-fields.ts'

/** In one report; an abuse desk looks for one that its logs have, too. */
const MAX_ATTEMPTS = 50

export const abuseReport = channelType({
  type: 'abuse-report',
  fields: {
    ...SUBMISSION_FIELDS,
    organisation: Type.String({ format: 'text', minLength: 1, maxLength: 200 }),
    format: Type.Optional(Type.Enum(['arf', 'xarf'])),
    fallback: Type.Optional(Type.String({ format: 'mail-address', minLength: 3, maxLength: 254 })),
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
      every = '1d',
      ca_file,
      password_file,
    } = config
    const password = await openOptionalSecret(password_file, means)
    const ca = ca_file === undefined ? undefined : await means.readSecret(ca_file)
    const pause = parseDuration(every) ?? 0
    const { submit } = await import('../submission.ts')
    const { isReportable, reportOf } = await import('../formats/abuse-report.ts')
    const underWay = new Set<string>()
    let surroundings: Surroundings | null = null

    const report = async (message: IncidentMessage, signal: AbortSignal) => {
      const { incident } = message.body
      const contact = whoIs(incident)?.contact ?? ''
      const isTheirs = isMailAddress(contact)
      const to = isTheirs ? contact : fallback
      if (to === undefined)
        throw new PermanentError('nobody to write to: no contact is known, and there is no fallback')
      const attempts = surroundings?.attempts(incident.source, MAX_ATTEMPTS) ?? []
      const text = isTheirs ? message.notice : message.text
      const envelope = { from, to: [to] }
      const bytes = await reportOf({ message, envelope, text, attempts, organisation }, format)
      const refused = await submit({ ...envelope, bytes }, { config, name: hostname(), ca, password }, signal)
      if (refused.length > 0) throw new PermanentError(`the relay did not take it for ${to}`)
    }

    return {
      name,
      type: 'abuse-report',
      async deliver(message, signal) {
        if (message.about !== 'incident' || !isReportable(message)) return
        const { event, incident } = message.body
        if (event !== 'opened' && event !== 'updated') return
        const who = whoIs(incident)
        const subscriber = who?.account ?? who?.name ?? who?.mac ?? incident.source
        const last = Number(surroundings?.memory.get(subscriber) ?? 0)
        // The incident is there to read all the same; a second report in a day has no news for them.
        if (underWay.has(subscriber) || Date.now() - last < pause) return
        underWay.add(subscriber)
        try {
          await report(message, signal)
          surroundings?.memory.put(subscriber, String(Date.now()))
        } finally {
          underWay.delete(subscriber)
        }
      },
      begin(given) {
        surroundings = given
        for (const [subscriber, time] of given.memory.all())
          if (Date.now() - Number(time) >= pause) given.memory.remove(subscriber)
      },
    }
  },
})
