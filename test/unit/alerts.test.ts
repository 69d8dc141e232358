/** From news to receivers: over real HTTP and a real database, with receivers that fail in every way. */
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { compose } from '../../src/alerts/compose.ts'
import { incidentNews } from '../../src/alerts/incident-news.ts'
import type { DigestNews, IncidentNews, Message } from '../../src/alerts/message.ts'
import { Desk } from '../../src/alerts/planning/desk.ts'
import type { Handling } from '../../src/alerts/planning/handling.ts'
import { loadTexts, type Texts } from '../../src/alerts/texts.ts'
import { pauseAfter } from '../../src/alerts/transport/back-off.ts'
import { buildAlerts } from '../../src/config/alerts.ts'
import { AlertMessages } from '../../src/store/alert-messages.ts'
import { AlertQueue } from '../../src/store/alert-queue.ts'
import { inTransaction, openDatabase } from '../../src/store/database.ts'
import { incident, NOW, openAlerts, receiver, until } from './alert-support.ts'
import { directory } from './support.ts'

const opened = (id: string, more = {}) => ({
  event: 'opened' as const,
  time: Date.now(),
  incident: incident(id, { source: `100.64.${Number(id) >> 8}.${Number(id) & 255}`, ...more }),
})
const hookTo = (url: string, more = {}) => ({ name: 'noc', type: 'webhook', url, ...more })
const fine = (_: unknown, response: ServerResponse) => response.writeHead(204).end()

t.test('delivery', async (t) => {
  t.test(
    'each event once and in order, through failures of all kinds, and nobody waits for others',
    async (t) => {
      const failures: ((response: ServerResponse) => void)[] = [
        (response) => response.writeHead(500).end(),
        (response) => response.writeHead(429, { 'retry-after': '2' }).end(),
        (response) => response.destroy(),
        // Hangs for ever.
        () => {},
      ]
      const times: number[] = []
      const shaky = await receiver(t, (request, response, nth) => {
        times.push(performance.now())
        const fail = failures[nth - 1] ?? ((r) => fine(request, r))
        fail(response)
      })
      const good = await receiver(t, fine)
      let refuses = true
      const refusing = await receiver(t, (request, response) =>
        refuses ? response.writeHead(400).end() : fine(request, response),
      )
      const hanging = await receiver(t, () => {})
      const dripping = await receiver(t, (_, response) => {
        response.writeHead(200)
        const drip = setInterval(() => response.write('.'), 1_000)
        response.once('close', () => clearInterval(drip))
      })
      const restarted = await receiver(t, fine)
      const { alerts, tell, log, close } = await openAlerts(await directory(t), {
        alerts: [
          hookTo(shaky.url, { name: 'shaky', limit: 'none', timeout: '3s', parallel: 1 }),
          hookTo('http://127.0.0.1:9/', { name: 'dead' }),
          hookTo(hanging.url, { name: 'hanging', limit: 'none', timeout: '3s' }),
          hookTo(dripping.url, { name: 'dripping', limit: 'none', timeout: '3s' }),
          hookTo(good.url, { name: 'good', limit: 'none' }),
          hookTo(refusing.url, { name: 'refusing', limit: 'none' }),
          hookTo(restarted.url, { name: 'restarted', limit: 'none' }),
        ],
      })
      t.teardown(close)
      const count = (line: string) => log.filter((one) => one === line).length
      const one = opened('1')
      tell(one)
      await until('the first, at one that will be restarted', () => count('restarted sent') === 1)
      await restarted.close()
      tell({ ...one, event: 'updated', time: one.time + 1 })
      tell({ ...one, event: 'resolved', time: one.time + 2 })
      tell(opened('2'))
      await until('all at the good one', () => count('good sent') === 4)
      await until('failures', () => log.some((line) => line.startsWith('restarted failed')))
      const again = await receiver(t, fine, restarted.port)
      await until('all at the one that is back', () => count('restarted sent') === 4)
      await until('all at the shaky one', () => count('shaky sent') === 4)
      const places = [good.received, shaky.received, [...restarted.received, ...again.received]]
      for (const received of places) {
        const bodies = new Map(
          received.map(({ headers, body }) => [String(headers['idempotency-key']), JSON.parse(body)]),
        )
        const ofOne = [...bodies.values()].filter((body) => body.incident.id === '1')
        t.same(
          ofOne.map(({ event }) => event),
          ['opened', 'updated', 'resolved'],
        )
        t.equal(bodies.size, 4)
      }
      for (const reason of [/shaky.*500/, /shaky.*429/, /shaky.*no answer within 3 s/])
        t.ok(
          log.some((line) => reason.test(line)),
          String(reason),
        )
      t.ok((times[2] ?? 0) - (times[1] ?? 0) >= 1_990, 'what the receiver asks for is kept to')
      for (const name of ['hanging', 'dripping']) {
        await until(`no end of ${name}`, () => log.includes(`${name} failed: no answer within 3 s`))
        t.notOk(log.includes(`${name} sent`), name)
      }
      await until('dead letters', () => count('refusing dead: the receiver answered 400') === 4)
      t.match(alerts.status(), [
        { name: 'shaky', waiting: 0, queued: 0, dead: 0, failures: 0, error: null },
        { name: 'dead', dead: 0, error: /ECONNREFUSED/ },
        { name: 'hanging', dead: 0 },
        { name: 'dripping', dead: 0 },
        { name: 'good', waiting: 0, queued: 0 },
        { name: 'refusing', waiting: 0, dead: 4 },
        { name: 'restarted', waiting: 0, dead: 0 },
      ])
      const [dead] = alerts.list({ channel: 'refusing', state: 'dead', limit: 1 })
      t.match(dead, { error: 'the receiver answered 400', tries: 1, incidents: [String] })
      alerts.resend(dead?.id ?? 0)
      await until('one more try', () => refusing.received.length === 5)
      await until('the same answer', () => count('refusing dead: the receiver answered 400') === 5)
      refuses = false
      t.equal(alerts.resendDead('refusing'), 4)
      t.equal(alerts.resendDead('refusing'), 0)
      t.equal(alerts.resendDead('none'), null)
      await until('all dead letters', () => count('refusing sent') === 4)
      const resent = refusing.received.slice(5).map(({ body }) => JSON.parse(body) as IncidentNews)
      t.same(
        resent.flatMap(({ event, incident: { id } }) => (id === '1' ? [event] : [])),
        ['opened', 'updated', 'resolved'],
        'the news of an incident in order',
      )
      t.match(await alerts.test('good'), { delivered: true })
      t.match(await alerts.test('dead'), { delivered: false, error: String })
      t.equal(await alerts.test('none'), null)
    },
  )

  t.test('a receiver that was away for long gets the rest together, over restarts too', async (t) => {
    const folder = await directory(t)
    const gone = await receiver(t, fine)
    await gone.close()
    const config = { alerts: [hookTo(gone.url, { group: { by: ['kind'], first: 3, wait: '1s' } })] }
    const first = await openAlerts(folder, config)
    for (let i = 0; i < 40; i++) first.tell(opened(String(i), { attempts: 100 + i }))
    await until('failures', () => first.log.some((line) => line.startsWith('noc failed')))
    await first.close()
    const back = await receiver(t, fine, gone.port)
    const second = await openAlerts(folder, config)
    t.teardown(second.close)
    // What is not acknowledged in time comes again, with the same key.
    const bodies = () => {
      const byKey = new Map(back.received.map(({ headers, body }) => [headers['idempotency-key'], body]))
      return [...byKey.values()].map((body) => JSON.parse(body) as IncidentNews | DigestNews)
    }
    const told = () =>
      bodies().reduce((sum, body) => sum + (body.event === 'digest' ? body.digest.news : 1), 0)
    await until('all news', () => told() === 40)
    const digest = bodies().find((body) => body.event === 'digest')?.digest
    t.ok((digest?.machines ?? 0) >= 30, 'but for the first of each run')
    t.match(digest, {
      worst: { length: 10, 0: { attempts: 139 } },
      by_kind: { 'spam-bot': digest?.machines },
    })
  })

  t.test('too much for a channel that is away: the oldest goes, and that is said', async (t) => {
    const database = openDatabase(join(await directory(t), 'egress25.db'))
    t.teardown(() => database.close())
    const allDay = { from: '00:00', to: '00:00', zone: 'UTC', except: 'none' }
    const [config] = buildAlerts([hookTo('http://127.0.0.1:9/', { quiet_hours: allDay })])
    const quiet = config?.handling as Handling
    const [queue, messages] = [new AlertQueue(database), new AlertMessages(database)]
    const dropped: number[] = []
    const look = (handling: Handling) => {
      const desk = new Desk({
        channel: 'noc',
        gateway: 'gw1',
        handling,
        queue,
        messages,
        inTransaction: (work) => inTransaction(database, work),
        silenceOf: () => null,
        countSilenced: () => {},
        now: () => NOW + 3_600_000,
        onMessages: () => {},
        onDropped: (news) => dropped.push(news),
        onUnwritable: (error) => t.fail(error.message),
        mostNews: 10,
      })
      desk.look()
      desk.stop()
    }
    const context = {
      gateway: 'gw1',
      network: null,
      subscriber: null,
      occurrence: 1,
      escalation: { incidents: 3, within: 1 },
    }
    for (let i = 0; i < 25; i++) {
      const body = JSON.stringify(incidentNews('opened', incident(String(i)), NOW, context))
      queue.leave({ channel: 'noc', key: String(i), time: NOW, body })
      queue.leave({ channel: 'noc', key: String(i), time: NOW, body })
    }
    look(quiet)
    t.same(dropped, [15], 'what was left twice is there once')
    t.same(queue.dropped('noc'), { all: 15, unsaid: 15 })
    look({ ...quiet, quietHours: null, group: { by: [], first: 0, wait: 1 } })
    const [digest] = messages.list({ limit: 10 })
    t.match(JSON.parse(digest?.body ?? ''), { digest: { news: 10, dropped: 15 } })
    t.same(queue.dropped('noc'), { all: 15, unsaid: 0 })
  })

  t.test('reminders, what stands, and silences: each once, over restarts too', async (t) => {
    const folder = await directory(t)
    const { url, received } = await receiver(t, fine)
    const config = { alerts: [hookTo(url, { remind: '1h', limit: 'none' })] }
    // What arrived just before an end is carried again, with the same key.
    const events = () => {
      const byKey = new Map(
        received.map(({ headers, body }) => [headers['idempotency-key'], JSON.parse(body)]),
      )
      return [...byKey.values()].map(({ event }) => event).sort()
    }
    const old = incident('old', { firstSeen: Date.now() - 25 * 3_600_000, lastSeen: Date.now() })
    const preflight = (event: 'preflight-appeared' | 'preflight-gone') => ({
      event,
      gateway: 'gw1',
      time: new Date().toISOString(),
      severity: 'warning' as const,
      preflight: { code: 'flowtable', message: 'One.' },
    })
    const run = async (findings: readonly string[]) => {
      const one = await openAlerts(folder, config)
      one.alerts.tick(() => [old])
      const current = new Map(findings.map((subject) => [subject, preflight('preflight-appeared')]))
      one.alerts.tellStanding('preflight/', current, () => preflight('preflight-gone'))
      return one
    }
    const first = await run(['one'])
    await until('two', () => events().length === 2)
    await first.close()
    const second = await run(['one'])
    second.alerts.silences.add({
      id: 's1',
      from: 0,
      until: Date.now() + 3_600_000,
      channels: [],
      concern: { kinds: [], policies: ['residential'], networks: [] },
      everything: false,
      reason: 'maintenance',
      by: 'me',
    })
    second.tell(opened('5'))
    await until('the silence', () => second.alerts.silences.get('s1')?.silenced === 1)
    await second.close()
    const third = await run([])
    t.teardown(third.close)
    await until('the end', () => events().length === 3)
    t.same(events(), ['preflight-appeared', 'preflight-gone', 'reminder'])
    t.match(third.alerts.silences.list(), [{ id: 's1', silenced: 1, isConfigured: false }])
    t.match(third.alerts.silences.end('s1', Date.now()), { id: 's1' })
    third.tell(opened('6'))
    await until('news again', () => events().length === 4)
  })

  t.test(
    'one that is opened again is not reminded of the time before; nor is news of one moment lost',
    async (t) => {
      const { url, received } = await receiver(t, fine)
      const config = { alerts: [hookTo(url, { remind: '1h', limit: 'none' })] }
      const { alerts, tell, close } = await openAlerts(await directory(t), config)
      t.teardown(close)
      const again = opened('1', { firstSeen: Date.now() - 25 * 3_600_000, reopened: 1 })
      tell(again)
      for (const attempts of [50, 500])
        tell({ ...again, event: 'updated', incident: { ...again.incident, attempts } })
      alerts.tick(() => [again.incident, opened('2', { firstSeen: Date.now() - 25 * 3_600_000 }).incident])
      await until('all of it', () => received.some(({ body }) => body.includes('"reminder"')))
      await until('all messages', () =>
        alerts.status().every(({ waiting, queued }) => waiting + queued === 0),
      )
      const told = new Set(
        received.map(({ body }) => {
          const { event, incident } = JSON.parse(body) as IncidentNews
          return `${incident.source} ${event} ${event === 'updated' ? incident.attempts : ''}`.trim()
        }),
      )
      t.same([...told].sort(), [
        '100.64.0.1 opened',
        '100.64.0.1 updated 50',
        '100.64.0.1 updated 500',
        '100.64.0.2 reminder',
      ])
    },
  )

  t.test('what waits for a channel that is gone is forgotten with the rest', async (t) => {
    const folder = await directory(t)
    const { url } = await receiver(t, (_, response) => response.writeHead(500).end())
    const run = (...names: string[]) =>
      openAlerts(folder, { alerts: names.map((name) => hookTo(url, { name, limit: 'none' })) })
    const first = await run('gone', 'here')
    first.tell(opened('1'))
    first.tell({ ...opened('1'), event: 'updated' })
    await until('both have failed', () =>
      ['gone', 'here'].every((name) => first.log.some((line) => line.startsWith(`${name} failed`))),
    )
    await first.close()
    const second = await run('here')
    second.alerts.prune(Date.now() - 60_000)
    t.equal(second.alerts.list({ channel: 'gone', limit: 10 }).length, 1, 'not before its time')
    second.alerts.prune(Date.now() + 60_000)
    t.equal(second.alerts.list({ channel: 'gone', limit: 10 }).length, 0)
    const isKept = ({ waiting, queued }: { waiting: number; queued: number }) => waiting + queued === 2
    await until('what waits for the other one', () => second.alerts.status().every(isKept))
    await second.close()
    const third = await run('gone', 'here')
    t.teardown(third.close)
    await until('the same for the other one', () => third.alerts.status().slice(1).every(isKept))
    t.match(third.alerts.status(), [{ name: 'gone', waiting: 0, queued: 0 }, { name: 'here' }])
  })
})

const MISTAKES = `texts:
  opened:
    subject: "{{machin}}"
    text: |
      one
      two {{#kind}}
  digest:
    text: |
      {{kinds}}
      {{#kinds}}{{kind}} {{machines}} {{source}}{{/kinds}}
`

t.test('pauses between tries double up to five minutes, and no two gateways keep step', async (t) => {
  const pauses = (random: number) =>
    [1, 2, 3, 10, 11, 1_000].map((failures) => pauseAfter(failures, () => random))
  t.same(pauses(0), [250, 500, 1_000, 128_000, 150_000, 150_000])
  t.same(pauses(1), [500, 1_000, 2_000, 256_000, 300_000, 300_000])
})

t.test('texts', async (t) => {
  const MONTH = 30 * 86_400_000
  const texts = await loadTexts(null, ['de'])
  const news = (event: IncidentNews['event'], more = {}) =>
    incidentNews(event, incident('i1', more), NOW, {
      gateway: 'gw1',
      network: '100.64.0.0/10',
      subscriber: null,
      occurrence: 3,
      escalation: { incidents: 3, within: MONTH },
    })
  const message = (body: Message['body'], language = 'en') =>
    compose(
      { key: 'k', time: NOW, body },
      {
        texts: texts.get(language) as Texts,
        zone: 'Europe/Berlin',
        contact: 'abuse@example.net',
        within: MONTH,
      },
    )
  const wholeOf = ({ text }: Message) => [text.subject, ...text.lines].join('\n')
  const noticeOf = (found: Message) => (found.about === 'incident' ? found.notice.lines.join('\n') : '')

  t.test('a message says what happened, where, how sure, since when, and what to do', async (t) => {
    const whole = wholeOf(message(news('opened')))
    for (const part of [
      ...['100.64.1.2', '40 attempts at 40 mail servers within 60 seconds', 'All of them were blocked'],
      ...['very likely', 'incident 3 of this machine within 30 days', 'take the machine off'],
      ...['100.64.0.0/10', 'policy residential', 'gateway gw1', 'GMT+2'],
    ])
      t.match(whole, part)
    const lasting = news('reminder', { firstSeen: NOW - 86_400_000, attempts: 120_000 })
    t.match(message(lasting).text.subject, 'Still active after 24 hours, 120,000 attempts')
    t.match(wholeOf(message(lasting, 'de')), '24 Stunden, 120.000 Versuche')
  })

  t.test('a notice for subscribers (RFC 6561, section 5)', async (t) => {
    for (const [language, parts] of [
      ['en', ['bot is a program', '587', 'clean up', 'exemption', 'abuse@example.net', 'i1']],
      ['de', ['Bot ist ein Programm', '587', 'sauber', 'Ausnahme', 'abuse@example.net', 'i1']],
    ] as const) {
      const notice = noticeOf(message(news('opened'), language))
      for (const part of parts) t.match(notice, part, language)
      t.notMatch(notice, /[{}]|undefined|\n\n\n/)
      const misconfigured = noticeOf(message(news('opened', { kind: 'misconfigured-client' }), language))
      t.notMatch(misconfigured, parts[0])
    }
  })

  t.test('what others wrote breaks no line, and is no template', async (t) => {
    const hostile = message({
      event: 'exemption-lapsed',
      gateway: 'gw1',
      time: new Date(NOW).toISOString(),
      severity: 'info',
      exemption: {
        name: '{{owner}}',
        expires: null,
        owner: 'x\r\nBcc: all@example.net',
        ticket: null,
        reason: null,
        sources: [],
      },
    })
    t.match(wholeOf(hostile), 'Owner: x Bcc: all@example.net.')
    t.equal(hostile.text.subject, 'The exemption {{owner}} has ended')
  })

  t.test("an operator's texts take the place of ours; mistakes are found at start", async (t) => {
    const folder = await directory(t, {
      'good/en.yaml': 'texts:\n  opened: { subject: "LOOK {{source}}" }\n',
      'bad/de.yaml': MISTAKES,
      'new/fr.yaml': 'texts: {}\n',
    })
    const mistakesIn = (name: string) =>
      loadTexts(join(folder, name), []).then(
        () => [],
        ({ diagnostics }) => diagnostics,
      )
    const ours = (await loadTexts(join(folder, 'good'), [])).get('en') as Texts
    const options = { texts: ours, zone: 'UTC', contact: null, within: MONTH }
    t.equal(compose({ key: 'k', time: NOW, body: news('opened') }, options).text.subject, 'LOOK 100.64.1.2')
    t.match(await mistakesIn('bad'), [
      { line: 3, message: /no variable "machin" here, did you mean machine/ },
      { line: 6, message: /Unclosed section "kind"/ },
      { line: 9, message: /kinds is a list/ },
      { line: 10, message: /no variable "source"/ },
    ])
    t.match(await mistakesIn('new'), [{ message: /missing/ }])
    await t.rejects(loadTexts(null, ['fr']), /no texts in the language fr/)
  })
})
