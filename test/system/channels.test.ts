/** Each type of channel against a real counterpart, also one that is away, slow, refuses, or is not who it should be. */
import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Channel, PermanentError, RetryableError, type Surroundings } from '../../src/alerts/channel.ts'
import type { Message } from '../../src/alerts/message.ts'
import { openChannels } from '../../src/alerts/open-channels.ts'
import { parseConfig } from '../../src/config/config.ts'
import { DIGEST, GATEWAY, HOSTILE, hostileMessage, incidentMessage, OTHERS } from '../unit/alert-samples.ts'
import { freePort } from '../unit/support.ts'
import { bodyFault } from '../unit/webhook-schema.ts'
import {
  eventually,
  makeFolder,
  SERVER_NAME,
  startAlertmanager,
  startPostfix,
  startRsyslog,
} from './counterparts.ts'

/** As it is opened from a configuration file. */
async function open(t: Test, yaml: object): Promise<Channel> {
  const config = parseConfig('egress25.yaml', JSON.stringify({ alerts: [{ name: 'noc', ...yaml }] }))
  const [channel] = await openChannels(config.channels, GATEWAY)
  if (channel === undefined) throw new Error('no channel')
  t.teardown(() => channel.close?.())
  return channel
}

function surroundings(t: Test, memory = new Map<string, string>()): Surroundings {
  return {
    memory: {
      get: (key) => memory.get(key) ?? null,
      all: () => new Map(memory),
      put: (key, value) => void memory.set(key, value),
      remove: (key) => void memory.delete(key),
    },
    attempts: () => [],
    onFailed: (error) => t.comment(error.message),
  }
}

const soon = () => AbortSignal.timeout(60_000)
const deliver = (channel: Channel, message: Message = incidentMessage(), signal = soon()) =>
  channel.deliver(message, signal)

interface Taken {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

type Answer = (response: ServerResponse, taken: Taken) => void
const ok: Answer = (response) => response.writeHead(202).end('ok')

/** A receiver that answers what the test says at the time. */
async function receiver(t: Test, folder: string) {
  const taken: Taken[] = []
  const state = { answer: ok }
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const one = { path: request.url ?? '', headers: request.headers, body }
    taken.push(one)
    state.answer(response, one)
  }
  const [cert, key] = await Promise.all(['cert.pem', 'key.pem'].map((name) => readFile(join(folder, name))))
  const servers = [createHttpServer(handle), createHttpsServer({ cert, key }, handle)]
  const ports = await Promise.all(
    servers.map((server) => {
      t.teardown(() => {
        server.close()
        server.closeAllConnections()
      })
      return new Promise<number>((resolve) =>
        server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
      )
    }),
  )
  return { taken, state, http: `http://127.0.0.1:${ports[0]}`, https: `https://127.0.0.1:${ports[1]}` }
}

t.test('webhook', async (t) => {
  const folder = await makeFolder(t)
  const { taken, state, http, https } = await receiver(t, folder)
  const secretFile = join(folder, 'secret')
  await writeFile(secretFile, 'first secret\n')
  const signed = await open(t, {
    ...{ type: 'webhook', url: `${https}/hook`, secret_file: secretFile, ca_file: join(folder, 'cert.pem') },
  })
  const isSigned = ({ headers, body }: Taken, secret: string) => {
    const [, time, hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['egress25-signature'])) ?? []
    return (
      Math.abs(Date.now() / 1_000 - Number(time)) < 60 &&
      hex === createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')
    )
  }

  await t.test('is signed, over TLS, and carries its key', async (t) => {
    const message = incidentMessage()
    await deliver(signed, message)
    const one = taken.at(-1)
    t.same(JSON.parse(one?.body ?? ''), message.body)
    t.equal(bodyFault(one?.body ?? ''), null)
    t.equal(one?.headers['idempotency-key'], message.key)
    t.ok(one && isSigned(one, 'first secret'))
    await writeFile(secretFile, 'second secret\n')
    await deliver(signed)
    const next = taken.at(-1)
    t.ok(next && isSigned(next, 'second secret'), 'a changed secret is used')
    const unknown = await open(t, { type: 'webhook', url: https })
    await t.rejects(deliver(unknown), { constructor: RetryableError, message: /self-signed certificate/ })
  })

  await t.test('what an answer means', async (t) => {
    const plain = await open(t, { type: 'webhook', url: `${http}/hook` })
    const answers: [number, typeof PermanentError | typeof RetryableError][] = [
      [400, PermanentError],
      [410, PermanentError],
      [413, PermanentError],
      [422, PermanentError],
      [301, RetryableError],
      [401, RetryableError],
      [404, RetryableError],
      [408, RetryableError],
      [429, RetryableError],
      [500, RetryableError],
      [503, RetryableError],
    ]
    for (const [status, error] of answers) {
      state.answer = (response) =>
        response.writeHead(status, { location: `${http}/elsewhere`, 'retry-after': '7' }).end('no')
      const failed = await deliver(plain).then(
        () => null,
        (reason: Error) => reason,
      )
      t.equal(failed?.constructor, error, String(status))
      t.match(failed?.message, new RegExp(`answered ${status}: no`))
      if (error === RetryableError && status >= 400) t.equal((failed as RetryableError).retryAfter, 7)
    }
    t.notOk(
      taken.some(({ path }) => path === '/elsewhere'),
      'redirects are not followed',
    )
    state.answer = (response) => response.writeHead(200).end('x'.repeat(10_000_000))
    await deliver(plain)
    state.answer = ok
  })

  await t.test('nobody is waited for too long', async (t) => {
    const plain = await open(t, { type: 'webhook', url: `${http}/hook` })
    const late = { constructor: RetryableError, message: 'no whole answer in time' }
    state.answer = () => {}
    await t.rejects(deliver(plain, incidentMessage(), AbortSignal.timeout(300)), late, 'silence')
    const timers: NodeJS.Timeout[] = []
    t.teardown(() => timers.forEach(clearInterval))
    state.answer = (response) => {
      response.writeHead(200)
      timers.push(setInterval(() => response.write('.'), 100))
    }
    await t.rejects(deliver(plain, incidentMessage(), AbortSignal.timeout(1_000)), late, 'a byte at a time')
    const away = await open(t, { type: 'webhook', url: `http://127.0.0.1:${await freePort()}` })
    await t.rejects(deliver(away), { constructor: RetryableError, message: /ECONNREFUSED/ })
    state.answer = ok
  })

  await t.test('services get their shapes, and no error tells their secrets', async (t) => {
    const hidden = join(folder, 'url')
    await writeFile(hidden, `${http}/services/T0/B0/HUSH\n`)
    const token = join(folder, 'token')
    await writeFile(token, 'HUSH-TOKEN\n')
    const shapes: [object, string][] = [
      [{ shape: 'slack', url_file: hidden }, '/services/T0/B0/HUSH'],
      [{ shape: 'teams', url_file: hidden }, '/services/T0/B0/HUSH'],
      [{ shape: 'pagerduty', url: `${http}/v2/enqueue`, token_file: token }, '/v2/enqueue'],
      [{ shape: 'opsgenie', url: `${http}/v2/alerts`, token_file: token }, '/v2/alerts'],
      [{ url: `${http}/own`, token_file: token }, '/own'],
    ]
    for (const [fields, path] of shapes) {
      const channel = await open(t, { type: 'webhook', ...fields })
      await deliver(channel, hostileMessage())
      t.equal(taken.at(-1)?.path, path)
      state.answer = (response, one) =>
        response.writeHead(400).end(`${one.path} ${JSON.stringify(one.headers)} ${one.body.slice(0, 99)}`)
      const failed = await deliver(channel).then(
        () => null,
        (reason: Error) => reason,
      )
      t.match(failed?.message, /answered 400/)
      t.notMatch(failed?.message, /HUSH-TOKEN/)
      state.answer = ok
    }
    t.equal(taken.at(-1)?.headers.authorization, 'Bearer HUSH-TOKEN')
  })
})

t.test('alertmanager', async (t) => {
  const server = await startAlertmanager(t)
  const alerts = async (active: string) =>
    (await (await fetch(`${server.url}/api/v2/alerts${active}`)).json()) as {
      labels: Record<string, string>
      annotations: Record<string, string>
      startsAt: string
      endsAt: string
    }[]
  const memory = new Map<string, string>()
  const channel = await open(t, { type: 'alertmanager', url: server.url, repeat: '1s' })
  channel.begin?.(surroundings(t, memory))

  await deliver(channel, incidentMessage('opened', { kind: 'misconfigured-client' }, { severity: 'warning' }))
  const [first] = await alerts('')
  t.match(first, {
    labels: {
      alertname: 'Egress25Incident',
      kind: 'misconfigured-client',
      severity: 'warning',
      source: '100.64.1.2',
    },
    startsAt: '2026-11-26T01:00:00.000Z',
  })
  await deliver(channel, incidentMessage('updated'))
  const worse = await alerts('')
  t.same(
    worse.map(({ labels }) => labels['kind']),
    ['spam-bot'],
    'what became worse is another alert, and the old one is over',
  )
  await deliver(channel, incidentMessage('updated', { attempts: 999 }))
  t.equal((await alerts(''))[0]?.annotations['attempts'], '999')
  await deliver(channel, incidentMessage('opened', { id: 'other', source: '100.64.9.9' }))
  // Alertmanager groups what it has taken afterwards, on its own time.
  await eventually('two of a kind are one group', async () => {
    const answer = await fetch(`${server.url}/api/v2/alerts/groups`)
    return ((await answer.json()) as { alerts: unknown[] }[]).some(({ alerts }) => alerts.length === 2)
  })

  await server.kill()
  await t.rejects(deliver(channel, incidentMessage('updated')), {
    constructor: RetryableError,
    message: /ECONN/,
  })
  await server.restart()
  t.equal(
    (
      await eventually('what lasts is repeated', async () => {
        const found = await alerts('')
        return found.length === 2 ? found : null
      })
    ).length,
    2,
  )

  await channel.close?.()
  const again = await open(t, { type: 'alertmanager', url: server.url, repeat: '1s' })
  again.begin?.(surroundings(t, memory))
  const ends = (await alerts(''))[0]?.endsAt ?? ''
  await eventually(
    'also by a service that was restarted',
    async () => ((await alerts(''))[0]?.endsAt ?? '') > ends,
  )
  await deliver(again, incidentMessage('resolved'))
  await deliver(again, incidentMessage('resolved', { id: 'other', source: '100.64.9.9' }))
  t.same(await alerts(''), [], 'all are resolved')
  t.equal(memory.size, 0)
  for (const message of [...OTHERS, hostileMessage()]) await deliver(again, message)
  t.equal((await alerts('')).length, OTHERS.length + 1)
})

t.test('syslog', async (t) => {
  const server = await startRsyslog(t)
  const received = async () =>
    (await readFile(server.messages, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>)
  const isCef = ({ text }: Record<string, string>) => /^ ?CEF:/.test(text ?? '')
  const common = { type: 'syslog', host: '127.0.0.1', facility: 'local3' }
  const tls = { transport: 'tls', ca_file: join(server.folder, 'cert.pem'), server_name: SERVER_NAME }
  const ways = { udp: { transport: 'udp' }, tcp: { transport: 'tcp' }, tls } as const
  for (const [way, fields] of Object.entries(ways)) {
    const port = server.ports[way as keyof typeof ways]
    const channel = await open(t, { ...common, ...fields, port })
    await deliver(channel, hostileMessage())
    const cef = await open(t, { ...common, ...fields, port, format: 'cef' })
    await deliver(cef, incidentMessage('resolved'))
    const [structured, line] = await eventually(`${way}: two messages`, async () => {
      const found = (await received()).filter(({ input }) => input === way)
      // Two connections are read in any order.
      return found.length === 2 ? found.sort((a, b) => Number(isCef(a)) - Number(isCef(b))) : null
    })
    t.match(
      structured,
      { facility: 'local3', severity: 'crit', host: GATEWAY, app: 'egress25', id: 'opened' },
      way,
    )
    const data = JSON.parse(structured?.['data'] ?? '') as Record<string, Record<string, string>>
    const said = data['egress25@32473'] ?? {}
    t.match(said, { event: 'opened', source: '100.64.1.2', kind: 'spam-bot', gateway: GATEWAY })
    t.equal(
      said['subscriber'],
      HOSTILE.replace(/[\p{Cc}]+/gu, ' '),
      `${way}: whatever it is called, it is one value`,
    )
    t.match(line?.['text'], /^ ?CEF:0\|egress25\|egress25\|.*\|spam-bot:resolved\|.* src=100\.64\.1\.2 /)
  }

  const stranger = await open(t, {
    ...common,
    transport: 'tls',
    port: server.ports.tls,
    ca_file: tls.ca_file,
    server_name: 'other.example.net',
  })
  await t.rejects(deliver(stranger), { constructor: RetryableError, message: /other\.example\.net/ })
  const unknown = await open(t, { ...common, transport: 'tls', port: server.ports.tls })
  await t.rejects(deliver(unknown), { constructor: RetryableError, message: /self-signed/ })
  const tcp = await open(t, { ...common, transport: 'tcp', port: server.ports.tcp })
  await server.kill()
  await t.rejects(deliver(tcp), { constructor: RetryableError, message: /ECONNREFUSED/ })
  await server.restart()
  const before = (await received()).length
  await deliver(tcp)
  await eventually('it is taken again', async () => (await received()).length > before)

  const sockets: { destroy(): void }[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  const hanging = createTcpServer({ allowHalfOpen: true }, (socket) => sockets.push(socket.resume())).listen(
    0,
    '127.0.0.1',
  )
  t.teardown(() => hanging.close())
  await eventually('it listens', () => hanging.listening)
  const slow = await open(t, {
    ...common,
    transport: 'tcp',
    port: (hanging.address() as { port: number }).port,
  })
  await t.rejects(deliver(slow, incidentMessage(), AbortSignal.timeout(500)), {
    constructor: RetryableError,
    message: /in time/,
  })
})

/** A subscriber of whom nothing is known. */
const nobody = { name: null, account: null, contact: null, mac: null, port: null, source: 'kea', since: null }

interface ParsedMail {
  readonly headers: Readonly<Record<string, string>>
  readonly type: string
  readonly report: string | null
  readonly defects: readonly string[]
  readonly parts: readonly { readonly type: string; readonly name: string | null; readonly text: string }[]
}

/** By a reader of its own: the email package of Python. */
async function parsedMails(maildir: string): Promise<ParsedMail[]> {
  const program = `
import email, email.policy, json, sys
def text(part):
    if part.get_content_type() == 'message/feedback-report':
        return part.get_payload(0).as_string() if part.is_multipart() else part.get_payload()
    content = part.get_content()
    return content if isinstance(content, str) else content.decode()
def parsed(path):
    mail = email.message_from_binary_file(open(path, 'rb'), policy=email.policy.default)
    return {
        'headers': {name.lower(): str(value) for name, value in mail.items()},
        'type': mail.get_content_type(), 'report': mail.get_param('report-type'),
        'defects': [str(one) for part in mail.walk() for one in part.defects],
        'parts': [{'type': part.get_content_type(), 'name': part.get_filename(), 'text': text(part)}
                  for part in mail.iter_parts()],
    }
print(json.dumps([parsed(path) for path in sys.argv[1:]]))`
  const paths = (await readdir(maildir)).map((name) => join(maildir, name))
  return JSON.parse(execFileSync('python3', ['-c', program, ...paths], { encoding: 'utf8' }))
}

/** How many mails were delivered. */
async function count(maildir: string): Promise<number> {
  return (await readdir(maildir).catch(() => [])).length
}

t.test('email', async (t) => {
  const relay = await startPostfix(t)
  const password = join(relay.folder, 'password')
  await writeFile(password, `${relay.login.password}\n`)
  const common = {
    ...{ type: 'email', host: '127.0.0.1', from: 'egress25@example.net', username: relay.login.username },
    ...{ password_file: password, ca_file: join(relay.folder, 'cert.pem') },
  }
  const starttls = await open(t, { ...common, port: relay.ports.submission, to: ['noc@example.org'] })
  const implicit = await open(t, {
    ...common,
    port: relay.ports.submissions,
    tls: 'implicit',
    server_name: SERVER_NAME,
    to: ['noc@example.org'],
  })
  await deliver(starttls, hostileMessage())
  await deliver(implicit, incidentMessage('updated'))
  await deliver(starttls, incidentMessage('resolved'))
  await deliver(implicit, DIGEST)
  await eventually('four mails', async () => (await count(relay.maildir)) === 4)
  const found = await parsedMails(relay.maildir)
  const by = (event: string) => found.find(({ headers }) => headers['x-egress25-event'] === event)
  const [opened, updated, resolved, digest] = ['opened', 'updated', 'resolved', 'digest'].map(by)
  for (const mail of found) {
    t.same(mail.defects, [])
    t.equal(mail.type, 'multipart/alternative')
    t.same(
      mail.parts.map(({ type }) => type),
      ['text/plain', 'text/html'],
    )
    t.match(mail.headers, {
      from: 'egress25 <egress25@example.net>',
      to: 'noc@example.org',
      'auto-submitted': 'auto-generated',
      'list-id': '<gw1.egress25.example.net>',
      date: /Thu, 26 Nov 2026 01:02:03 [+-]0000/,
    })
    t.notOk('bcc' in mail.headers)
  }
  const root = opened?.headers['message-id']
  t.match(updated?.headers, { references: root, 'in-reply-to': root })
  t.match(resolved?.headers, { references: root, 'in-reply-to': root })
  t.equal(digest?.headers['references'], undefined)
  t.equal(new Set(found.map(({ headers }) => headers['message-id'])).size, 4)
  const html = opened?.parts[1]?.text ?? ''
  t.notMatch(html, /<b>|<!channel>/)
  t.match(html, /&#60;b&#62;/)
  t.notMatch(await readFile(relay.log, 'utf8'), /open sesame/)

  const lost = await open(t, { ...common, port: relay.ports.submission, to: ['nobody@example.org'] })
  await t.rejects(deliver(lost), { constructor: PermanentError, message: /nobody@example\.org/ })
  const stranger = await open(t, {
    ...common,
    ca_file: undefined,
    port: relay.ports.submission,
    to: ['noc@example.org'],
  })
  await t.rejects(deliver(stranger), { constructor: RetryableError, message: /self-signed/ })
  await writeFile(password, 'wrong secret\n')
  const failed = await deliver(starttls).then(
    () => null,
    (error: Error) => error,
  )
  t.equal(failed?.constructor, RetryableError)
  t.match(failed?.message, /535/)
  t.notMatch(failed?.message, /wrong secret/)
  await writeFile(password, `${relay.login.password}\n`)
  await relay.kill()
  await t.rejects(deliver(starttls), { constructor: RetryableError, message: /ECONNREFUSED/ })
  await relay.restart()
  await deliver(starttls, incidentMessage('reminder'))
  await eventually('a fifth mail', async () => (await count(relay.maildir)) === 5)

  await t.test('abuse reports', async (t) => {
    const mine = {
      ...common,
      type: 'abuse-report',
      port: relay.ports.submission,
      organisation: 'Example Net',
    }
    const given: Surroundings = {
      ...surroundings(t),
      attempts: () => [
        {
          time: Date.parse('2026-11-26T01:02:03Z'),
          source: '100.64.1.2',
          sourcePort: 50_123,
          destination: '203.0.113.9',
        },
        {
          time: Date.parse('2026-11-26T01:02:01Z'),
          source: '100.64.1.2',
          sourcePort: 50_122,
          destination: '2001:db8::9',
        },
      ],
    }
    const anna = { ...nobody, name: 'anna', contact: 'anna@example.net' }
    const arf = await open(t, { ...mine, fallback: 'abuse@example.org' })
    const xarf = await open(t, { ...mine, format: 'xarf', fallback: 'abuse@example.org' })
    for (const channel of [arf, xarf]) channel.begin?.(given)
    await deliver(arf, incidentMessage('opened', { subscriber: anna }))
    await deliver(arf, incidentMessage('updated', { subscriber: anna }))
    await deliver(arf, incidentMessage('opened', { kind: 'flood', source: 'policy:residential' }))
    await deliver(
      xarf,
      incidentMessage('opened', { subscriber: { ...nobody, contact: 'x@y, z@w\r\nBcc: a@b' } }),
    )
    await eventually('two reports', async () => (await count(relay.maildir)) === 7)
    const reports = (await parsedMails(relay.maildir)).filter(({ parts }) => parts.length >= 3)
    t.equal(reports.length, 2, 'a subscriber is told once a day')
    const [one, two] = ['multipart/report', 'multipart/mixed'].map((type) =>
      reports.find((mail) => mail.type === type),
    )
    t.same([one?.defects, two?.defects], [[], []])
    t.match(one, {
      report: 'feedback-report',
      headers: { to: 'anna@example.net', subject: 'Your machine is infected' },
    })
    t.same(
      one?.parts.map(({ type }) => type),
      ['text/plain', 'message/feedback-report', 'text/rfc822-headers'],
    )
    const fields = Object.fromEntries(
      (one?.parts[1]?.text ?? '')
        .trim()
        .split(/\r?\n/)
        .map((line) => line.split(': ')),
    )
    t.match(fields, {
      ...{
        'Feedback-Type': 'abuse',
        Version: '1',
        'Source-IP': '100.64.1.2',
        'Source-Port': '50123',
        Incidents: '120',
      },
      'Arrival-Date': 'Thu, 26 Nov 2026 01:02:03 +0000',
    })
    t.match(
      one?.parts[2]?.text,
      /^X-Egress25-Attempt: 2026-11-26T01:02:01.000Z 100.64.1.2:50122 -> \[2001:db8::9\]:25\r?$/m,
    )
    t.match(
      two?.headers,
      { to: 'abuse@example.org', 'x-xarf': 'PLAIN' },
      'what is no address is not written to',
    )
    t.same(
      two?.parts.map(({ name }) => name),
      [null, 'report.txt', 'attempts.txt', 'xarf.json'],
    )
    t.match(two?.parts[2]?.text, /^2026-11-26T01:02:03.000Z 100.64.1.2:50123 -> 203.0.113.9:25\r?$/m)
    const json = JSON.parse(two?.parts[3]?.text ?? '') as Record<string, unknown>
    t.match(json, { source_port: 50_123, evidence: [{ size: two?.parts[2]?.text.length }] })
    const homeless = await open(t, mine)
    await t.rejects(deliver(homeless), { constructor: PermanentError, message: /no contact is known/ })
  })

  const sockets: { destroy(): void }[] = []
  const dripping = createTcpServer((socket) => {
    sockets.push(socket.on('error', () => {}))
    const timer = setInterval(() => socket.write('2'), 100)
    socket.once('close', () => clearInterval(timer))
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    dripping.close()
    for (const socket of sockets) socket.destroy()
  })
  await eventually('it listens', () => dripping.listening)
  const slow = await open(t, {
    ...common,
    port: (dripping.address() as { port: number }).port,
    to: ['noc@example.org'],
  })
  await t.rejects(deliver(slow, incidentMessage(), AbortSignal.timeout(1_000)), {
    constructor: RetryableError,
    message: /in time/,
  })
})

t.test('exec', async (t) => {
  const folder = await makeFolder(t)
  await chmod(folder, 0o777)
  const script = async (name: string, text: string) => {
    const path = join(folder, name)
    await writeFile(path, `#!/bin/sh\n${text}\n`)
    await chmod(path, 0o755)
    return path
  }
  const told = join(folder, 'told')
  const good = await script(
    'good',
    `cat >'${told}.json'; { env; echo "args=$*"; cat /proc/self/status; pwd; } >'${told}'`,
  )
  process.env['EGRESS25_TEST_SECRET'] = 'HUSH'
  const channel = await open(t, { type: 'exec', command: [good, 'one argument', '$(id)'] })
  const message = hostileMessage()
  await deliver(channel, message)
  const input = await readFile(`${told}.json`, 'utf8')
  t.same(JSON.parse(input), JSON.parse(JSON.stringify(message.body)))
  t.equal(bodyFault(input), null)
  const said = await readFile(told, 'utf8')
  t.match(said, /^args=one argument \$\(id\)$/m)
  t.match(said, /^EGRESS25_EVENT=opened$/m)
  t.notMatch(said, /HUSH/)
  t.match(said, /^NoNewPrivs:\s+1$/m)
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    t.match(said, new RegExp(`^${set}:\\s+0+$`, 'm'))
  t.match(said, /^Uid:\s+65534\s/m)
  t.match(said, /^\/$/m)

  const ends: [string, typeof PermanentError | typeof RetryableError, RegExp][] = [
    ['echo later >&2; exit 75', RetryableError, /status 75: later/],
    ['echo never >&2; exit 1', PermanentError, /status 1: never/],
    ['kill -9 $$', RetryableError, /SIGKILL/],
    ['head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; exit 3', PermanentError, /status 3/],
    ['exec 0<&-; exit 4', PermanentError, /status 4$/],
  ]
  for (const [text, error, pattern] of ends) {
    const bad = await open(t, { type: 'exec', command: [await script('bad', text)] })
    await t.rejects(deliver(bad), { constructor: error, message: pattern }, text)
  }
  const missing = await open(t, { type: 'exec', command: [join(folder, 'missing')] })
  await t.rejects(deliver(missing), { constructor: RetryableError, message: /status 127/ })
  const pid = join(folder, 'pid')
  const hang = await script('hang', `sleep 1000 & echo $! >'${pid}'; wait`)
  const hanging = await open(t, { type: 'exec', command: [hang] })
  const limit = new AbortController()
  const late = t.rejects(deliver(hanging, incidentMessage(), limit.signal), {
    constructor: RetryableError,
    message: /in time/,
  })
  const child = Number(await eventually('its child runs', async () => (await readFile(pid, 'utf8')).trim()))
  limit.abort()
  await late
  await eventually('its child is killed with it', () => {
    try {
      process.kill(child, 0)
      return false
    } catch {
      return true
    }
  })
})
