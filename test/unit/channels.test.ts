/** What channels make of messages: the shapes of services, syslog and CEF, held against readers of their own. */
import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import t from 'tap'
import { CHANNEL_TYPES } from '../../src/alerts/channel-types.ts'
import { formatCef } from '../../src/alerts/formats/cef.ts'
import type { Receiver } from '../../src/alerts/formats/http-request.ts'
import { opsgenie } from '../../src/alerts/formats/opsgenie.ts'
import { pagerduty } from '../../src/alerts/formats/pagerduty.ts'
import { slack } from '../../src/alerts/formats/slack.ts'
import { formatSyslog, frameSyslog, type SyslogMessage } from '../../src/alerts/formats/syslog.ts'
import { syslogContent } from '../../src/alerts/formats/syslog-content.ts'
import { teams } from '../../src/alerts/formats/teams.ts'
import { threadOf } from '../../src/alerts/formats/thread.ts'
import { parseConfig } from '../../src/config/config.ts'
import { ConfigError } from '../../src/config-error.ts'
import { DIGEST, HOSTILE, hostileMessage, incident, incidentMessage, OTHERS, TIME } from './alert-samples.ts'
import './seed.ts'

const ALL = [
  incidentMessage('opened'),
  incidentMessage('updated'),
  incidentMessage('reminder'),
  incidentMessage('resolved'),
  hostileMessage(),
  ...OTHERS,
]
const receiver: Receiver = { url: 'https://receiver.example.net/hook', token: 'TOKEN' }

/** Every string anywhere in a value, by the way to it. */
function strings(value: unknown, path = ''): [string, string][] {
  if (typeof value === 'string') return [[path, value]]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, one]) => strings(one, `${path}/${key}`))
}

t.test('one matter has one thread', async (t) => {
  const states = (['opened', 'updated', 'reminder', 'resolved'] as const).map((event) =>
    threadOf(incidentMessage(event)),
  )
  t.equal(new Set(states.map(({ id }) => id)).size, 1)
  t.same(
    states.map(({ state }) => state),
    ['begins', 'goes-on', 'goes-on', 'ends'],
  )
  t.equal(new Set(ALL.map((message) => threadOf(message).id)).size, 1 + OTHERS.length)
  for (const message of ALL) t.match(threadOf(message).id, /^[\x21-\x7e]{1,200}$/)
})

t.test('Slack gets plain text in blocks, within its sizes', async (t) => {
  for (const message of ALL) {
    const { body, url } = slack(message, receiver)
    t.equal(url, receiver.url)
    const { text, blocks } = body as { text: string; blocks: Record<string, unknown>[] }
    t.notMatch(text, /[<>]/)
    t.ok(blocks.length <= 50)
    const types = blocks.map(({ type }) => type)
    t.equal(types[0], 'header')
    t.ok(types.slice(1).every((type) => type === 'section'))
    // Nothing but plain_text, so that nothing is a mention or a link.
    const texts = blocks
      .flatMap((block) => [block['text'], ...((block['fields'] as unknown[]) ?? [])])
      .filter(Boolean)
    for (const one of texts as { type: string; text: string; emoji: boolean }[]) {
      t.same(Object.keys(one).sort(), ['emoji', 'text', 'type'])
      t.equal(one.type, 'plain_text')
      t.ok(one.text.length > 0 && one.text.length <= 3_000)
    }
    t.ok((texts[0] as { text: string }).text.length <= 150)
  }
  const long = slack(
    incidentMessage('opened', {}, { text: { subject: '😀'.repeat(300), lines: ['x'.repeat(9_000)] } }),
    receiver,
  )
  for (const [, text] of strings(long.body)) t.ok(text.isWellFormed() && text.length <= 3_000)
})

t.test('Teams gets an adaptive card without markup, within 28 KB', async (t) => {
  for (const message of ALL) {
    const { body } = teams(message, receiver)
    const card = body as {
      type: string
      attachments: { contentType: string; content: Record<string, unknown> }[]
    }
    t.equal(card.type, 'message')
    t.equal(card.attachments.length, 1)
    t.equal(card.attachments[0]?.contentType, 'application/vnd.microsoft.card.adaptive')
    const content = card.attachments[0]?.content ?? {}
    t.equal(content['type'], 'AdaptiveCard')
    t.equal(content['version'], '1.2')
    for (const block of content['body'] as { type: string; inlines: { type: string }[] }[]) {
      t.equal(block.type, 'RichTextBlock')
      t.ok(block.inlines.every(({ type }) => type === 'TextRun'))
    }
    t.ok(Buffer.byteLength(JSON.stringify(body)) < 28_000)
  }
})

t.test('PagerDuty gets events that trigger and resolve under one key', async (t) => {
  for (const message of ALL) {
    const event = pagerduty(message, receiver).body as Record<string, never> & {
      payload: Record<string, unknown>
    }
    t.same(Object.keys(event).sort(), ['client', 'dedup_key', 'event_action', 'payload', 'routing_key'])
    t.equal(event['routing_key'], 'TOKEN')
    t.ok(String(event['dedup_key']).length <= 255)
    t.ok(String(event.payload['summary']).length <= 1_024)
    t.ok(['critical', 'error', 'warning', 'info'].includes(String(event.payload['severity'])))
    t.equal(event.payload['timestamp'], new Date(TIME).toISOString())
    t.ok(event.payload['source'])
  }
  const actions = (['opened', 'updated', 'resolved'] as const).map(
    (event) => (pagerduty(incidentMessage(event), receiver).body as Record<string, string>)['event_action'],
  )
  t.same(actions, ['trigger', 'trigger', 'resolve'])
})

t.test('Opsgenie gets alerts under one alias, and their end', async (t) => {
  for (const message of ALL) {
    const { url, body, headers } = opsgenie(message, {
      ...receiver,
      url: 'https://api.opsgenie.com/v2/alerts',
    })
    t.same(headers, { authorization: 'GenieKey TOKEN' })
    t.notMatch(JSON.stringify(body), /TOKEN/)
    const alias = encodeURIComponent(threadOf(message).id)
    if (threadOf(message).state === 'ends') {
      t.equal(url, `https://api.opsgenie.com/v2/alerts/${alias}/close?identifierType=alias`)
      continue
    }
    const alert = body as Record<string, string>
    t.equal(url, 'https://api.opsgenie.com/v2/alerts')
    t.equal(encodeURIComponent(alert['alias'] ?? ''), alias)
    t.ok((alert['message'] ?? '').length <= 130 && (alert['alias'] ?? '').length <= 512)
    t.ok((alert['description'] ?? '').length <= 15_000)
    t.match(alert['priority'], /^P[1-5]$/)
  }
})

/** An own reader of RFC 5424, as its grammar has it. */
function readSyslog(bytes: Buffer) {
  const text = bytes.toString('utf8')
  const head = /^<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) /.exec(text)
  if (head === null) throw new Error(`no header: ${text}`)
  let rest = text.slice(head[0].length)
  const data: Record<string, [string, string][]> = {}
  if (rest.startsWith('-')) rest = rest.slice(1)
  while (rest.startsWith('[')) {
    const id = /^\[([\x21-\x7e]{1,32}?)(?=[ \]])/.exec(rest)
    if (id === null) throw new Error(`no SD-ID: ${rest}`)
    rest = rest.slice(id[0].length)
    const parameters: [string, string][] = []
    for (let one = parameter(rest); one !== null; one = parameter(rest)) {
      parameters.push([one[1] ?? '', (one[2] ?? '').replace(/\\(["\\\]])/g, '$1')])
      rest = rest.slice(one[0].length)
    }
    if (!rest.startsWith(']')) throw new Error(`no end of structured data: ${rest}`)
    rest = rest.slice(1)
    data[id[1] ?? ''] = parameters
  }
  if (rest !== '' && !rest.startsWith(' ')) throw new Error(`no message: ${rest}`)
  return { priority: Number(head[1]), time: head[2], host: head[3], id: head[6], data, text: rest.slice(1) }
}

function parameter(text: string) {
  return /^ ([^\s=\]"]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"/.exec(text)
}

const shown = (text: string) => text.toWellFormed().replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
const words = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom(...HOSTILE, '"', '\\', ']', '=', '|', '\n') }),
)
const syslogMessages = fc.record({
  facility: fc.constantFrom('daemon', 'local7'),
  severity: fc.integer({ min: 0, max: 7 }),
  time: fc.constant(TIME),
  host: words,
  process: words,
  id: words,
  data: fc.record({
    id: fc.constant('egress25@32473'),
    parameters: fc.array(fc.tuple(fc.constantFrom('source', 'subscriber', 'x]=y"'), words), { maxLength: 6 }),
  }),
  text: words,
  mark: fc.boolean(),
}) as fc.Arbitrary<SyslogMessage>

t.test('syslog: whatever is said, it is read back as it was said, on one line', async (t) => {
  await fc.assert(
    fc.property(syslogMessages, (message) => {
      const bytes = formatSyslog(message, 8_192)
      const text = bytes.toString('utf8')
      if (/[\p{Cc}\u2028\u2029]/u.test(text)) throw new Error('a control character')
      const read = readSyslog(bytes)
      const expected = message.data.parameters.map(([, value]) => shown(value))
      const values = (read.data['egress25@32473'] ?? []).map(([, value]) => value)
      if (JSON.stringify(values) !== JSON.stringify(expected)) throw new Error(`${values} is not ${expected}`)
      if (read.text.replace(/^\ufeff/, '') !== shown(message.text).replace(/^\ufeff/, ''))
        throw new Error(read.text)
      const frame = frameSyslog(bytes).toString('latin1')
      if (!frame.startsWith(`${bytes.length} <`)) throw new Error(frame)
    }),
    { numRuns: 250 },
  )
  t.pass()
})

t.test('syslog: what does not fit gives way, and the rest stays whole', async (t) => {
  await fc.assert(
    fc.property(
      syslogMessages,
      fc.integer({ min: 480, max: 2_048 }),
      fc.integer({ min: 1, max: 200 }),
      (message, limit, times) => {
        const long: SyslogMessage = {
          ...message,
          text: message.text.repeat(times),
          data: {
            ...message.data,
            parameters: message.data.parameters.map(([name, value]) => [name, value.repeat(times)]),
          },
        }
        const bytes = formatSyslog(long, limit)
        if (bytes.length > limit) throw new Error(`${bytes.length} > ${limit}`)
        new TextDecoder('utf-8', { fatal: true }).decode(bytes)
        readSyslog(bytes)
      },
    ),
    { numRuns: 150 },
  )
  const content = syslogContent(hostileMessage('€'.repeat(200)), { format: 'structured', enterprise: 1 })
  const bytes = formatSyslog({ ...content, facility: 'daemon', time: TIME, host: 'gw1', process: '1' }, 500)
  const { data, text } = readSyslog(bytes)
  t.ok(bytes.length > 490 && bytes.length <= 500, 'the room is used')
  t.equal(data['egress25@1']?.[0]?.[1], 'opened', 'what matters most stays')
  t.match(text, /€…$/)
})

/** An own reader of CEF: bars and equals signs that are not escaped part. */
function readCef(line: string) {
  const fields: string[] = []
  let field = ''
  let at = 0
  for (; at < line.length && fields.length < 7; at++) {
    if (line[at] === '\\') field += line[++at] ?? ''
    else if (line[at] !== '|') field += line[at]
    else {
      fields.push(field)
      field = ''
    }
  }
  const rest = line.slice(at)
  const extensions: [string, string][] = []
  const keys = [...rest.matchAll(/(?:^| )(\w+)(?<!\\)=/g)]
  for (const [index, key] of keys.entries()) {
    const end = keys[index + 1]?.index ?? rest.length
    const value = rest.slice((key.index ?? 0) + key[0].length, end)
    extensions.push([
      key[1] ?? '',
      value.replace(/\\([\\=nr])/g, (_, one) => (one === 'n' || one === 'r' ? '\n' : one)),
    ])
  }
  return { fields, extensions }
}

t.test('CEF: whatever is said, it is read back as it was said', async (t) => {
  await fc.assert(
    fc.property(
      words,
      words,
      fc.array(fc.tuple(fc.constantFrom('msg', 'suser', 'cs1'), words), { maxLength: 4 }),
      (name, classId, extensions) => {
        const line = formatCef({ version: '1', classId, name, severity: 9, extensions })
        if (/[\p{Cc}\u2028\u2029]/u.test(line)) throw new Error('a control character')
        const read = readCef(line)
        const fields = ['CEF:0', 'egress25', 'egress25', '1', shown(classId), shown(name), '9']
        if (JSON.stringify(read.fields) !== JSON.stringify(fields))
          throw new Error(`${read.fields} is not ${fields}`)
        const expected = extensions.map(([key, value]) => [
          key,
          value
            .toWellFormed()
            .replace(/\r\n|\r/g, '\n')
            .split('\n')
            .map(shown)
            .join('\n'),
        ])
        if (JSON.stringify(read.extensions) !== JSON.stringify(expected))
          throw new Error(`${JSON.stringify(read.extensions)} is not ${JSON.stringify(expected)}`)
      },
    ),
    { numRuns: 250 },
  )
  const { text, id } = syslogContent(incidentMessage('opened', { source: '2001:db8:1::/64' }), {
    format: 'cef',
    enterprise: 1,
  })
  t.equal(id, 'opened')
  const { fields, extensions } = readCef(text)
  t.same([fields[0], fields[4], fields[6]], ['CEF:0', 'spam-bot:opened', '9'])
  const said = Object.fromEntries(extensions)
  t.match(said, {
    rt: String(TIME),
    externalId: incident().id,
    c6a2: '2001:db8:1::',
    c6a2Label: 'Source IPv6 Address',
    cs3: '2001:db8:1::/64',
    dst: '203.0.113.9',
    dpt: '25',
    proto: 'TCP',
    act: 'blocked',
    cnt: '120',
    start: String(Date.parse(incident().first_seen)),
    cs1: 'residential',
    cs1Label: 'Policy',
  })
  t.equal(said['msg'], incidentMessage().text.lines.join('\n'))
  t.match(
    syslogContent(DIGEST, { format: 'cef', enterprise: 1 }).text,
    /^CEF:0\|egress25\|egress25\|[\d.]+\|digest\|/,
  )
})

t.test('the installed configuration has an example of each type', async (t) => {
  const text = await readFile(new URL('../../systemd/egress25.yaml', import.meta.url), 'utf8')
  const [, examples = ''] = /^(#alerts:\n[\s\S]*)/m.exec(text) ?? []
  const { channels } = parseConfig(
    'egress25.yaml',
    examples.replace(/^# [A-Z].*\n/gm, '').replace(/^#/gm, ''),
  )
  t.same(new Set(channels.map(({ type }) => type)), new Set(CHANNEL_TYPES.map(({ type }) => type)))
})

t.test('what cannot be meant is refused, with what to do', async (t) => {
  const mail = { type: 'email', host: 'mail.example.net', from: 'a@example.net', to: ['b@example.net'] }
  const mistakes: [object, RegExp][] = [
    [{ ...mail, port: 25 }, /port 25 is for mail between servers.*use port 587 of a relay, or 465/],
    [{ ...mail, username: 'a' }, /username and password_file belong together/],
    [{ ...mail, to: ['b@example.net\r\nBcc: c@example.net'] }, /is no mail address/],
    [{ ...mail, type: 'abuse-report', organisation: 'x', to: undefined, port: 25 }, /port 25/],
    [{ type: 'syslog', host: 'x', transport: 'udp', port: 25 }, /port 25/],
    [
      { type: 'syslog', host: 'x', transport: 'udp', ca_file: '/x' },
      /ca_file and server_name are for the transport tls/,
    ],
    [{ type: 'webhook' }, /url or url_file is missing/],
    [{ type: 'webhook', shape: 'slack', url: 'https://x', token_file: '/x' }, /give url_file/],
    [{ type: 'webhook', shape: 'pagerduty' }, /needs a token_file/],
    [{ type: 'webhook', url: 'ftp://x' }, /http/],
    [{ type: 'exec', command: ['id'] }, /absolute path/],
    [{ type: 'alertmanager', url: 'http://x', username: 'a' }, /belong together/],
  ]
  for (const [fields, pattern] of mistakes) {
    try {
      parseConfig('egress25.yaml', JSON.stringify({ alerts: [{ name: 'noc', ...fields }] }))
      t.fail(`${pattern} is not said`)
    } catch (error) {
      const found = error instanceof ConfigError ? error.diagnostics.map(({ message }) => message) : []
      t.match(found.join('\n'), pattern)
    }
  }
})
