/**
 * Posts alerts to Prometheus Alertmanager, API v2. Alertmanager forgets them when it restarts, and takes for resolved what
 * nobody repeats; so what lasts is remembered, and posted again and again with an end that moves along.
 */
import { Type } from 'typebox'
import { parseDuration } from '../../policy/formats.ts'
import { channelType, type Surroundings } from '../channel.ts'
import { type Alert, alertOf, sameLabels } from '../formats/alertmanager.ts'
import { openHttpClient } from '../transport/http-client.ts'
import { openOptionalSecret } from '../transport/secret.ts'

/** Alerts end by themselves when they were not repeated so many times: the gateway is gone, and will say so otherwise. */
const REPETITIONS_MISSED = 4
/** In one request; some 700 bytes each. */
const BATCH = 500
const ONCE_LASTS = 3_600_000
const REPEAT_TIMEOUT = 30_000

const file = () => Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 }))

export const alertmanager = channelType({
  type: 'alertmanager',
  fields: {
    url: Type.String({ format: 'http-url', minLength: 1, maxLength: 2_000 }),
    repeat: Type.Optional(Type.String({ format: 'duration', minLength: 1, maxLength: 50 })),
    username: Type.Optional(Type.String({ format: 'text', minLength: 1, maxLength: 200 })),
    password_file: file(),
    token_file: file(),
    ca_file: file(),
  },
  // It groups, limits and silences by itself, and repeats what lasts.
  defaults: { limit: 'none', remind: 'never' },
  fault({ username, password_file, token_file }) {
    if ((username === undefined) !== (password_file === undefined))
      return 'username and password_file belong together'
    return username !== undefined && token_file !== undefined
      ? 'token_file and username are two ways to say who we are'
      : null
  },
  async open({ name, url, repeat = '1m', username, password_file, token_file, ca_file }, means) {
    const password = await openOptionalSecret(password_file, means)
    const token = await openOptionalSecret(token_file, means)
    const client = openHttpClient(ca_file === undefined ? undefined : await means.readSecret(ca_file))
    const interval = parseDuration(repeat) ?? 60_000
    const endpoint = `${url.replace(/\/+$/, '')}/api/v2/alerts`
    const lasting = new Map<string, Alert>()
    let surroundings: Surroundings | null = null
    let timer: NodeJS.Timeout | null = null

    const post = async (alerts: readonly (Alert & { readonly endsAt: string })[], signal: AbortSignal) => {
      const secrets = [(await password?.()) ?? '', (await token?.()) ?? '']
      const basic = Buffer.from(`${username}:${secrets[0]}`).toString('base64')
      const authorization =
        username !== undefined ? `Basic ${basic}` : token === null ? null : `Bearer ${secrets[1]}`
      await client.post({
        url: endpoint,
        body: JSON.stringify(alerts),
        headers: authorization === null ? {} : { authorization },
        signal,
        secrets: [...secrets, basic],
      })
    }
    const stillLasts = () => new Date(Date.now() + REPETITIONS_MISSED * interval).toISOString()
    const repeatAll = async () => {
      const alerts = [...lasting.values()].map((alert) => ({ ...alert, endsAt: stillLasts() }))
      for (let at = 0; at < alerts.length; at += BATCH)
        await post(alerts.slice(at, at + BATCH), AbortSignal.timeout(REPEAT_TIMEOUT))
    }
    const later = () => {
      timer = setTimeout(() => {
        repeatAll()
          .catch((error: Error) => surroundings?.onFailed(error))
          .finally(() => timer !== null && later())
      }, interval)
    }

    return {
      name,
      type: 'alertmanager',
      async deliver(message, signal) {
        const { id, alert, state } = alertOf(message)
        const before = lasting.get(id)
        // Other labels make another alert: of what became worse, the one from before is over.
        const outdated = before !== undefined && !sameLabels(before, alert) ? [before] : []
        const now = new Date().toISOString()
        const endsAt =
          state === 'over'
            ? now
            : state === 'once'
              ? new Date(Date.now() + ONCE_LASTS).toISOString()
              : stillLasts()
        const ended = outdated.map((one) => ({ ...one, endsAt: now }))
        await post([...ended, { ...alert, endsAt }], signal)
        if (state === 'lasts') {
          surroundings?.memory.put(id, JSON.stringify(alert))
          lasting.set(id, alert)
        } else {
          surroundings?.memory.remove(id)
          lasting.delete(id)
        }
      },
      begin(given) {
        surroundings = given
        for (const [id, alert] of given.memory.all()) lasting.set(id, JSON.parse(alert) as Alert)
        later()
      },
      async close() {
        if (timer !== null) clearTimeout(timer)
        timer = null
        client.close()
      },
    }
  },
})
