/** Posts messages to a URL: our own JSON, signed, or in the shape that a service expects. */
import { Type } from 'typebox'
import { channelType } from '../channel.ts'
import type { Shape } from '../formats/http-request.ts'
import { OPSGENIE_URL, opsgenie } from '../formats/opsgenie.ts'
import { PAGERDUTY_URL, pagerduty } from '../formats/pagerduty.ts'
import { slack } from '../formats/slack.ts'
import { teams } from '../formats/teams.ts'
import { openHttpClient } from '../transport/http-client.ts'
import { openOptionalSecret } from '../transport/secret.ts'
import { sign } from '../transport/signature.ts'

/** The body of the message as it is; docs/alerts.md describes it. */
const json: Shape = ({ body }, { url, token }) => ({
  url,
  body,
  headers: token === '' ? {} : { authorization: `Bearer ${token}` },
})

interface Kind {
  readonly shape: Shape
  /** Where its makers take it, unless the configuration says otherwise. */
  readonly url: string | null
  /** `needed`, where the receiver knows us by it alone; null, where it has no use for one. */
  readonly token: 'needed' | 'possible' | null
}

const SHAPES = {
  json: { shape: json, url: null, token: 'possible' },
  slack: { shape: slack, url: null, token: null },
  teams: { shape: teams, url: null, token: null },
  pagerduty: { shape: pagerduty, url: PAGERDUTY_URL, token: 'needed' },
  opsgenie: { shape: opsgenie, url: OPSGENIE_URL, token: 'needed' },
} as const satisfies Record<string, Kind>

const file = () => Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 }))

export const webhook = channelType({
  type: 'webhook',
  fields: {
    url: Type.Optional(Type.String({ format: 'http-url', minLength: 1, maxLength: 2_000 })),
    url_file: file(),
    shape: Type.Optional(Type.Enum(Object.keys(SHAPES) as (keyof typeof SHAPES)[])),
    secret_file: file(),
    token_file: file(),
    ca_file: file(),
  },
  fault({ url, url_file, shape = 'json', token_file }) {
    const { url: known, token }: Kind = SHAPES[shape]
    if (url !== undefined && url_file !== undefined) return 'url and url_file are two places for one thing'
    if (url === undefined && url_file === undefined && known === null) return 'url or url_file is missing'
    if (token === 'needed' && token_file === undefined) return `the shape ${shape} needs a token_file`
    if (token === null && token_file !== undefined)
      return `the shape ${shape} takes no token_file: its URL is the secret, so give url_file`
    return null
  },
  async open({ name, url, url_file, shape: shapeName = 'json', secret_file, token_file, ca_file }, means) {
    const { shape, url: known }: Kind = SHAPES[shapeName]
    const secret = await openOptionalSecret(secret_file, means)
    const token = await openOptionalSecret(token_file, means)
    const hidden = await openOptionalSecret(url_file, means)
    const client = openHttpClient(ca_file === undefined ? undefined : await means.readSecret(ca_file))
    return {
      name,
      type: 'webhook',
      async deliver(message, signal) {
        const [key, secretUrl, secretToken] = [await secret?.(), await hidden?.(), (await token?.()) ?? '']
        const request = shape(message, { url: secretUrl ?? url ?? known ?? '', token: secretToken })
        const body = JSON.stringify(request.body)
        await client.post({
          url: request.url,
          body,
          headers: {
            'idempotency-key': message.key,
            ...request.headers,
            ...(key === undefined ? {} : { 'egress25-signature': sign(body, key, Date.now()) }),
          },
          signal,
          secrets: [key, secretUrl, secretToken].filter((one) => one !== undefined),
        })
      },
      async close() {
        client.close()
      },
    }
  },
})
