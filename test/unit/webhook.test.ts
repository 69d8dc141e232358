/** The webhook as its receivers see it: signed, with a key, a body as published, and the receiver of the documents. */
import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PermanentError, RetryableError } from '../../src/alerts/channel.ts'
import { openChannel } from '../../src/alerts/open-channels.ts'
import { sign } from '../../src/alerts/transport/signature.ts'
import { webhookJsonSchema } from '../../src/api/routes/webhook-body.ts'
import { buildAlerts } from '../../src/config/alerts.ts'
import { hostileMessage, incidentMessage, OTHERS } from './alert-samples.ts'
import { receiver, until } from './alert-support.ts'
import { directory } from './support.ts'
import { bodyFault } from './webhook-schema.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const never = new AbortController().signal

/** As it is configured. */
const hook = async (test: Test, url: string) => {
  const secret_file = join(await directory(test, { secret: 'sesame\n' }), 'secret')
  const [config] = buildAlerts([{ name: 'hook', type: 'webhook', url, secret_file }])
  if (config === undefined) throw new Error('no channel')
  const channel = await openChannel(config, 'gw1')
  test.teardown(() => channel.close?.())
  return channel
}

t.test('signed, with a key by which a repetition is known', async (t) => {
  const { url, received } = await receiver(t, (_, response) => response.end())
  const message = incidentMessage()
  await (await hook(t, url)).deliver(message, never)
  const { headers, body = '' } = received[0] ?? {}
  t.equal(body, JSON.stringify(message.body))
  const [, time, hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers?.['egress25-signature'])) ?? []
  t.equal(hex, createHmac('sha256', 'sesame').update(`${time}.${body}`).digest('hex'))
  t.ok(Math.abs(Number(time) - Date.now() / 1000) < 60)
  t.equal(headers?.['idempotency-key'], message.key)
  t.equal(sign(body, 'sesame', Number(time) * 1000 + 999), `t=${time},v1=${hex}`)
})

t.test('anything but 2xx has not arrived; a redirect is not followed', async (t) => {
  const { url, received } = await receiver(t, (_, response, nth) => {
    const [status = 500, headers] = [
      [500],
      [302, { location: 'http://127.0.0.1:9/' }],
      [429, { 'retry-after': '7' }],
      [503, { 'retry-after': new Date(Date.now() + 60_000).toUTCString() }],
      [400],
    ][nth - 1] as [number, Record<string, string>]
    response.writeHead(status, headers).end()
  })
  const channel = await hook(t, url)
  const failure = () => channel.deliver(incidentMessage(), never).catch((error) => error)
  t.match(await failure(), { message: /500/, retryAfter: null })
  t.match(await failure(), { message: /302/, retryAfter: null })
  t.match(await failure(), { message: /429/, retryAfter: 7 })
  const later = await failure()
  t.ok(later instanceof RetryableError && later.retryAfter !== null && later.retryAfter > 0)
  t.ok((await failure()) instanceof PermanentError)
  t.equal(received.length, 5)
})

t.test('the schema of what it posts', async (t) => {
  const published = await readFile(join(ROOT, 'docs/webhook.schema.json'), 'utf8')
  t.ok(
    published === `${JSON.stringify(webhookJsonSchema(), null, 2)}\n`,
    'else: scripts/egress25 schema --webhook > docs/webhook.schema.json',
  )
  const bodies = [
    ...(['opened', 'updated', 'resolved', 'reminder'] as const).map((event) => incidentMessage(event).body),
    ...[...OTHERS, hostileMessage()].map(({ body }) => body),
  ]
  for (const body of bodies) t.equal(bodyFault(JSON.stringify(body)), null, body.event)
  const wrong: [string, object][] = [
    ['an event that there is not', { event: 'shut' }],
    ['a field too many', { more: 1 }],
    ['a time in words', { time: 'noon' }],
    ['nobody to blame', { incident: null }],
    ['a count that is none', { occurrence: 0 }],
  ]
  for (const [what, fault] of wrong)
    t.ok(bodyFault(JSON.stringify({ ...incidentMessage().body, ...fault })), what)
})

t.test('the receiver in the documents takes what is ours, once', async (t) => {
  const text = await readFile(join(ROOT, 'docs/channels.md'), 'utf8')
  const [, program = ''] = /```js\n([\s\S]*?)```/.exec(text) ?? []
  const path = join(await directory(t), 'receiver.mjs')
  await writeFile(path, program)
  const child = spawn(process.execPath, [path, '0'], {
    env: { ...process.env, SECRET: 'sesame' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', (chunk) => {
    said += chunk
  })
  await until('it listens', () => /listening on \d+\n/.test(said))
  const url = `http://127.0.0.1:${/listening on (\d+)/.exec(said)?.[1]}/`
  const channel = await hook(t, url)
  await channel.deliver(incidentMessage(), never)
  await channel.deliver(incidentMessage(), never)
  await channel.deliver(incidentMessage('resolved'), never)
  await until('both', () => said.includes('resolved'))
  t.same(said.trim().split('\n').slice(1), ['opened 100.64.1.2', 'resolved 100.64.1.2'])

  const body = JSON.stringify(incidentMessage('updated').body)
  const post = async (signature: string | null, what = body) => {
    const headers = { 'idempotency-key': 'k', ...(signature ? { 'egress25-signature': signature } : {}) }
    return (await fetch(url, { method: 'POST', body: what, headers })).status
  }
  const now = Date.now()
  t.equal(await post(null), 401, 'without a signature')
  t.equal(await post(sign(body, 'guess', now)), 401, 'of somebody else')
  t.equal(await post(sign(body, 'sesame', now), `${body} `), 401, 'with another body')
  t.equal(await post(sign(body, 'sesame', now - 600_000)), 401, 'of old, played again')
  t.equal(await post(sign(body, 'sesame', now + 600_000)), 401, 'of a time to come')
  t.equal(await post(sign(body, 'sesame', now).replace('t=', 't=9')), 401, 'with another time')
  t.equal(await post(sign(body, 'sesame', now)), 204)
  await until('the third', () => said.includes('updated'))
})
