/** The real service in a gateway between real networks: what it does to packets, tells people, and survives. */
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Answer } from '../../scripts/lab/http.ts'
import { API, COMMAND, type Gateway, gateway, PATIENCE, ROOT, until } from './gateway.ts'

/** The status when everything that was counted has been told, or given up for lost. */
const settled = (g: Gateway) =>
  until('a status at rest', async () => {
    const found = (await g.get('/v1/status')) as unknown as {
      attempts: { total: number }
      events: { received: number; lost: number; listening: boolean }
    }
    return found.events.received + found.events.lost === found.attempts.total && found
  })

const toMx = (from: string, to: string, port = 25) => ({ from, to, port })

t.test('the main job: from a policy file to a blocked packet to an alert', async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  const { client } = g

  t.test('packets fare as the policy says, IPv4 and IPv6 alike', async (t) => {
    t.same(
      await client.connectAll([
        toMx('100.64.1.2', '203.0.113.9'),
        toMx('2001:db8:100::2', '2001:db8:ffff::9'),
        toMx('100.64.1.2', '203.0.113.9', 587),
        toMx('100.64.1.2', '203.0.113.9', 465),
        toMx('2001:db8:100::2', '2001:db8:ffff::9', 587),
        toMx('100.64.1.2', '192.0.2.25'),
        toMx('2001:db8:100::2', '2001:db8::25'),
      ]),
      ['reset', 'reset', 'connected', 'connected', 'connected', 'connected', 'connected'],
    )
    const relay = await g.lab.probe(g.lab.relays)
    t.equal(await relay.connect(toMx('192.0.2.25', '203.0.113.9')), 'connected')
    t.equal(await relay.connect(toMx('2001:db8::25', '2001:db8:ffff::9')), 'connected')
    await relay.close()
  })

  t.test('an exemption works at once, and its end cuts what is established', async (t) => {
    const document = { sources: ['100.64.9.9'], reason: 'test', ticket: 'NOC-1' }
    const put = await g.ask('PUT', '/v1/exemptions/fresh', document, { 'if-none-match': '*' })
    t.equal(put.status, 201)
    t.match(JSON.parse(put.text), { kind: 'exemption', name: 'fresh', ...document })
    t.match(
      await readFile(join(g.directory, 'policies/exemptions/fresh.yaml'), 'utf8'),
      /^kind: exemption\nname: fresh\n/,
    )
    const held = await client.hold(toMx('100.64.9.9', '203.0.113.9'))
    t.equal(await client.send(held), 'ok')
    t.equal((await g.ask('DELETE', '/v1/exemptions/fresh')).status, 204)
    t.equal(await client.send(held), 'reset')
    t.equal(await client.connect(toMx('100.64.9.9', '203.0.113.9')), 'reset')
    t.same(await readdir(join(g.directory, 'policies/exemptions')), [])
  })

  t.test('preconditions: nobody overwrites what they have not seen', async (t) => {
    const first = await g.ask('PUT', '/v1/exemptions/e', { sources: ['100.64.9.1'] })
    t.equal(first.status, 201)
    const code = async (answer: Promise<Answer>) => {
      const { status, text, headers } = await answer
      t.match(headers['content-type'], status < 400 ? /^application\/json/ : /^application\/problem\+json/)
      return [status, JSON.parse(text).code]
    }
    const change = { sources: ['100.64.9.2'] }
    t.same(await code(g.ask('PUT', '/v1/exemptions/e', change)), [428, 'precondition-required'])
    t.same(await code(g.ask('PUT', '/v1/exemptions/e', change, { 'if-none-match': '*' })), [
      412,
      'precondition-failed',
    ])
    t.same(await code(g.ask('PUT', '/v1/exemptions/e', change, { 'if-match': '"old"' })), [
      412,
      'precondition-failed',
    ])
    t.same(
      await code(g.ask('PUT', '/v1/exemptions/e', change, { 'if-match': first.headers['etag'] ?? '' })),
      [200, undefined],
    )
    t.same(await code(g.ask('DELETE', '/v1/exemptions/none')), [404, 'not-found'])
    const { headers } = await g.ask('GET', '/v1/exemptions/e')
    t.equal(
      (await g.ask('DELETE', '/v1/exemptions/e', undefined, { 'if-match': first.headers['etag'] ?? '' }))
        .status,
      412,
    )
    t.equal(
      (await g.ask('DELETE', '/v1/exemptions/e', undefined, { 'if-match': headers['etag'] ?? '' })).status,
      204,
    )
  })

  t.test('a dry run says yes or no, and changes nothing', async (t) => {
    t.equal((await g.ask('PUT', '/v1/exemptions/dry?dry_run=true', { sources: ['100.64.9.3'] })).status, 200)
    t.equal(
      (await g.ask('PUT', '/v1/exemptions/dry?dry_run=true', { sources: ['100.64.9.3/8'] })).status,
      422,
    )
    const { status, text } = await g.ask('PUT', '/v1/exemptions/dry?dry_run=true', {
      sources: ['100.64.9.3'],
    })
    t.equal(status, 200)
    t.match(
      JSON.parse(text),
      {
        dry_run: true,
        document: { kind: 'exemption', name: 'dry' },
        plan: {
          documents: [{ change: 'added', kind: 'exemption', name: 'dry' }],
          verdicts: [{ from: 'block', to: 'allow', destination: null, sources: ['100.64.9.3'] }],
          rules: { how: 'delta', elements: { added: 1, removed: 0 } },
        },
      },
      'and says what it would do',
    )
    t.match(JSON.parse((await g.ask('DELETE', '/v1/policies/residential?dry_run=true')).text), {
      plan: { documents: [{ change: 'removed' }], verdicts: [{ from: 'block', to: 'ungoverned' }, {}] },
    })
    t.equal((await g.ask('GET', '/v1/exemptions/dry')).status, 404)
    t.equal(await client.connect(toMx('100.64.9.3', '203.0.113.9')), 'reset')
  })

  t.test('requests with mistakes', async (t) => {
    const problem = async (method: string, path: string, body?: unknown) => {
      const { status, text } = await g.ask(method, path, body)
      const { code, errors = [] } = JSON.parse(text)
      return [
        status,
        code,
        ...errors.map((error: { pointer: string; code?: string }) => `${error.pointer} ${error.code}`),
      ]
    }
    t.same(await problem('PUT', '/v1/exemptions/x', { sorces: ['100.64.9.1'], name: 'y' }), [
      422,
      'invalid-document',
      '/name bad-value',
      '/sorces unknown-key',
      ' missing-key',
    ])
    t.same(await problem('PUT', '/v1/exemptions/x', { sources: ['@nobody'] }), [422, 'invalid-policy'])
    t.same(await problem('PUT', '/v1/exemptions/x', { sources: '100.64.9.1' }), [
      422,
      'invalid-document',
      '/sources wrong-type',
    ])
    t.same((await problem('PUT', '/v1/exemptions/X', {})).slice(0, 2), [400, 'bad-request'])
    t.same((await problem('GET', '/v1/incidents?limit=0')).slice(0, 2), [400, 'bad-request'])
    t.same((await problem('GET', '/v1/incidents?frob=1')).slice(0, 2), [400, 'bad-request'])
    t.same(await problem('GET', '/v1/nothing'), [404, 'not-found'])
    t.same((await problem('GET', '/v1/explain?source=1&destination=203.0.113.9')).slice(0, 2), [
      400,
      'bad-request',
    ])
    const { status, text } = await g.ask('DELETE', '/v1/relays/mx-out')
    t.same([status, JSON.parse(text).code], [422, 'policy-tests-failed'], 'policy tests gate every change')
    t.equal((await g.ask('PUT', '/v1/exemptions/x', { a: 1 }, { 'content-type': 'text/plain' })).status, 415)
  })

  t.test('documents are resources, page by page', async (t) => {
    for (const name of ['c', 'a', 'b'])
      await g.ask('PUT', `/v1/exemptions/${name}`, { sources: ['100.64.7.7'] })
    const names: string[] = []
    for (let cursor = ''; ; ) {
      const { items, next } = (await g.get(`/v1/exemptions?limit=2${cursor}`)) as {
        items: { name: string }[]
        next: string | null
      }
      names.push(...items.map(({ name }) => name))
      if (next === null) break
      cursor = `&cursor=${next}`
    }
    t.same(names, ['a', 'b', 'c'])
    for (const name of names) await g.ask('DELETE', `/v1/exemptions/${name}`)
    t.match(await g.get('/v1/policies'), { items: [{ kind: 'policy', name: 'residential' }], next: null })
    t.match(await g.get('/v1/relays'), { items: [{ addresses: ['192.0.2.25', '2001:db8::25'] }] })
  })

  t.test('a document in a file with others is changed where it stands, comments and all', async (t) => {
    const { headers } = await g.ask('GET', '/v1/relays/mx-out')
    const addresses = ['192.0.2.25', '192.0.2.26', '2001:db8::25']
    t.equal(
      (await g.ask('PUT', '/v1/relays/mx-out', { addresses }, { 'if-match': headers['etag'] ?? '' })).status,
      200,
    )
    const text = await readFile(join(g.directory, 'policies/policy.yaml'), 'utf8')
    t.match(text, /^# The pools\.\nkind: policy\n/)
    t.match(text, /192\.0\.2\.26/)
    t.equal(await client.connect(toMx('100.64.1.2', '192.0.2.26')), 'connected')
  })

  t.test('every attempt is counted, judged and told', async (t) => {
    const before = (await settled(g)).attempts.total
    const bot = Array.from({ length: 40 }, (_, i) => toMx('100.64.3.3', `198.51.100.${i + 1}`))
    const bot6 = Array.from({ length: 40 }, (_, i) =>
      toMx(`2001:db8:100:7::${i + 1}`, `2001:db8:ffff::${i + 1}`),
    )
    const client6 = Array.from({ length: 6 }, () => toMx('100.64.4.4', '203.0.113.25'))
    for (const outcome of await client.connectAll([...bot, ...bot6, ...client6], 20)) {
      if (outcome !== 'reset') t.fail(`an attempt was ${outcome}`)
    }
    const told = await until('three incidents at the webhook', async () => {
      const opened = g.deliveries
        .map(({ body }) => JSON.parse(body))
        .filter(({ event }) => event === 'opened')
      return opened.length >= 3 && opened
    })
    t.same(g.deliveries.map(({ fault }) => fault).filter(Boolean), [], 'every signature is right')
    t.same(told.map(({ incident, gateway: name }) => `${name} ${incident.kind} ${incident.source}`).sort(), [
      'gw-test misconfigured-client 100.64.4.4',
      'gw-test spam-bot 100.64.3.3',
      'gw-test spam-bot 2001:db8:100:7::/64',
    ])
    await until('the counters', async () => (await settled(g)).attempts.total === before + 86)
    const incidents = (await until('details', async () => {
      const { items } = (await g.get('/v1/incidents?state=open')) as {
        items: { source: string; attempts: number }[]
      }
      return items.length === 3 && items.every(({ attempts: count }) => count === 40 || count === 6) && items
    })) as Record<string, unknown>[]
    t.match(
      incidents.find(({ source }) => source === '100.64.3.3'),
      {
        kind: 'spam-bot',
        confidence: 'likely',
        state: 'open',
        subscriber: null,
        attempts: 40,
        destinations: 40,
        first_seen: /Z$/,
        last_seen: /Z$/,
        summary: /100\.64\.3\.3/,
      },
    )
    t.match(await g.get('/v1/sources/100.64.3.3'), {
      attempts: 40,
      policy: 'residential',
      incidents: [{ kind: 'spam-bot' }],
    })
    t.match(await g.get('/v1/sources/2001:db8:100:7::1234'), { source: '2001:db8:100:7::/64', attempts: 40 })
    t.match(await g.get('/v1/sources/100.64.200.200'), { attempts: 0 })
    const status = await settled(g)
    t.equal(status.events.lost, 0)
    const metrics = (await g.ask('GET', '/metrics')).text
    t.match(
      metrics,
      new RegExp(`^egress25_attempts_total\\{policy="residential",verdict="block"\\} ${before + 86}$`, 'm'),
    )
    t.match(metrics, /^egress25_events_lost_total 0$/m)
    t.match(metrics, /^egress25_incidents_open\{kind="spam-bot"\} 2$/m)
    t.match(metrics, /^egress25_in_sync 1$/m)
    t.match(metrics, /^egress25_apply_seconds_count [1-9]/m)
    t.match(await g.log(), /"source":"100\.64\.3\.3".*"msg":"attempt"/)
  })

  t.test('the command asks the service', async (t) => {
    t.match(await g.egress25('status'), {
      code: 0,
      stdout: /in sync\n.*1 policy, 1 relay, 0 exemptions, 0 lists, 1 test;/s,
    })
    t.match(JSON.parse((await g.egress25('status', '--json')).stdout), { gateway: 'gw-test', in_sync: true })
    t.match((await g.egress25('incidents')).stdout, /spam-bot/)
    t.match(await g.egress25('apply'), { code: 0, stdout: /in force already/ })
    t.match(await g.egress25('apply', join(g.directory, 'policies')), { code: 0, stdout: /in force already/ })
    t.match(await g.egress25('apply', join(ROOT, 'policies')), { code: 1, stderr: /would undo/ })
    t.match(await g.get('/v1/explain?source=100.64.1.2&destination=203.0.113.9'), {
      verdict: 'block',
      document: { kind: 'policy', name: 'residential', file: 'policy.yaml', line: 2 },
    })
  })

  t.test('a plan says what an apply would change, and for whom', async (t) => {
    t.match(await g.egress25('plan'), { code: 0, stdout: 'nothing would change\n' })
    t.match(await g.egress25('plan', join(ROOT, 'policies')), { code: 1, stderr: /--from/ })
    const file = join(g.directory, 'policies/policy.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('detection:', 'mode: observe\ndetection:'))
    const { code, stdout } = await g.egress25('plan', '--json')
    t.equal(code, 0)
    const { traffic, ...plan } = JSON.parse(stdout)
    t.match(plan, {
      documents: [{ change: 'changed', kind: 'policy', name: 'residential', keys: ['mode'] }],
      verdicts: [
        { from: 'block', to: 'observe', sources: ['100.64.0.0/10'], addresses: String(2 ** 22) },
        { from: 'block', to: 'observe', sources: ['2001:db8:100::/40'] },
      ],
      rules: { how: 'delta', elements: { added: 0, removed: 0 }, chains: { changed: Array } },
    })
    t.match(traffic, [{ from: 'block', to: 'observe' }])
    t.ok(traffic[0].worst.includes('100.64.3.3') && traffic[0].worst.includes('2001:db8:100:7::/64'))
    t.match(await g.egress25('plan'), { code: 0, stdout: /tried port 25 in the last 24 h/ })
    await writeFile(file, `${text}mod: x\n`)
    t.match(await g.egress25('plan'), { code: 1, stderr: /policy\.yaml:\d+:1: unknown-key/ })
    await writeFile(file, text)
    t.match(await g.egress25('plan'), { stdout: 'nothing would change\n' })
  })

  t.test('an incident is resolved by a person, once, and the webhook hears of it', async (t) => {
    const { items } = (await g.get('/v1/incidents?state=open&kind=misconfigured-client')) as {
      items: { id: string }[]
    }
    const id = items[0]?.id
    t.match(JSON.parse((await g.ask('POST', `/v1/incidents/${id}/resolve`)).text), { state: 'resolved' })
    await until('the news', async () =>
      g.deliveries.some(({ body }) => JSON.parse(body).event === 'resolved'),
    )
    t.match(await g.get(`/v1/incidents/${id}`), { state: 'resolved' })
    t.equal((await g.ask('POST', '/v1/incidents/none/resolve')).status, 404)
  })

  t.test('a database that cannot be written costs no attempt, no verdict and no listening', async (t) => {
    const { DatabaseSync } = await import('node:sqlite')
    const other = new DatabaseSync(join(g.directory, 'state/egress25.db'), { timeout: PATIENCE })
    other.exec('BEGIN IMMEDIATE')
    t.teardown(() => other.close())
    t.same(
      await client.connectAll(
        Array.from({ length: 40 }, (_, i) => toMx('100.64.6.6', `203.0.113.${i}`)),
        20,
      ),
      Array(40).fill('reset'),
    )
    await until(
      'the complaint',
      async () => (await g.log()).includes('the database cannot be written'),
      PATIENCE,
    )
    other.exec('ROLLBACK')
    await until(
      'the incident all the same',
      async () => {
        const { items } = (await g.get('/v1/incidents?state=open')) as {
          items: { source: string; attempts: number }[]
        }
        return items.some(({ source, attempts }) => source === '100.64.6.6' && attempts === 40)
      },
      PATIENCE,
    )
  })

  t.test('a policy directory that cannot be written: said so, and nothing changes', async (t) => {
    const policies = join(g.directory, 'policies')
    // Root may write anywhere but on what is mounted read-only.
    const pid = String(service.pid)
    const remount = (...options: string[]) =>
      g.lab.exec(g.lab.gateway, ['nsenter', '-t', pid, '-m', 'mount', ...options])
    t.equal((await remount('--bind', policies, policies)).code, 0)
    t.equal((await remount('-o', 'remount,ro,bind', policies)).code, 0)
    for (const [method, path] of [
      ['PUT', '/v1/exemptions/refused'],
      ['DELETE', '/v1/policies/residential'],
    ] as const) {
      const { status, text } = await g.ask(
        method,
        path,
        method === 'PUT' ? { sources: ['100.64.9.9'] } : undefined,
      )
      t.same([status, JSON.parse(text).code], [503, 'policies-unwritable'], method)
    }
    t.equal(await client.connect(toMx('100.64.9.9', '203.0.113.9')), 'reset')
    t.equal((await g.nft('list', 'set', 'inet', 'egress25', 'exempt4-32')).includes('100.64.9.9'), false)
    t.equal((await remount('-o', 'remount,rw,bind', policies)).code, 0)
  })

  t.test('a second instance is refused before it touches anything', async (t) => {
    const { code, stderr } = await g.egress25('serve')
    t.equal(code, 2)
    t.match(stderr.trim().split('\n').length, 1)
    t.match(stderr, /state directory/)
    t.match(await g.get('/v1/status'), { in_sync: true, drift: 0 })
  })

  t.test('tcpdump dies: attempts are counted, the loss is told, and it comes back', async (t) => {
    const before = await settled(g)
    const { stdout } = await g.lab.exec(g.lab.gateway, ['ip', 'netns', 'pids', g.lab.gateway])
    const ours: number[] = []
    for (const pid of stdout.trim().split('\n')) {
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (line.startsWith('tcpdump\0')) ours.push(Number(pid))
    }
    t.equal(ours.length, 1)
    // Held meanwhile, it cannot start the next one before all of them have come.
    service.kill('SIGSTOP')
    for (const pid of ours) process.kill(pid, 'SIGKILL')
    t.same(
      await client.connectAll(Array.from({ length: 7 }, () => toMx('100.64.5.5', '203.0.113.9'))),
      Array(7).fill('reset'),
    )
    service.kill('SIGCONT')
    const { events } = await until('the loss', async () => {
      const found = await settled(g)
      return found.attempts.total === before.attempts.total + 7 && found.events.listening && found
    })
    t.equal(events.lost - before.events.lost, 7)
  })

  t.test(
    'somebody flushes everything: the rules are back within a second or so, and it is told',
    async (t) => {
      await g.nft('flush', 'ruleset')
      await until('the table', async () => (await g.nft('list', 'tables')).includes('egress25'))
      t.equal(await client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
      t.match(
        await until('the drift', async () => {
          const status = await g.get('/v1/status')
          return (status['drift'] as number) > 0 && status['in_sync'] === true && status
        }),
        { drift: 1, in_sync: true },
      )
    },
  )

  t.test('somebody changes a rule, a chain or an element of ours: healed, and named', async (t) => {
    let known = (await g.get('/v1/status'))['drift'] as number
    for (const command of [
      'insert rule inet egress25 policy-residential accept',
      'flush chain inet egress25 policy-residential',
      'add element inet egress25 relay4-32 { 100.64.1.2 }',
      'delete chain inet egress25 forward',
    ]) {
      await g.nft(...command.split(' '))
      await until(
        `healing of: ${command}`,
        async () => {
          const status = await g.get('/v1/status')
          return (status['drift'] as number) > known && status['in_sync'] === true
        },
        PATIENCE,
      )
      known = (await g.get('/v1/status'))['drift'] as number
      t.equal(await client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset', command)
    }
    t.match(
      await g.log(),
      /"by":\{"pid":\d+,"program":"nft","what":"(add|insert) rule inet egress25 policy-residential/,
    )
    t.equal((await g.ask('PUT', '/v1/exemptions/own', { sources: ['100.64.9.9'] })).status, 201)
    t.equal((await g.ask('DELETE', '/v1/exemptions/own')).status, 204)
    t.match(await g.get('/v1/status'), { drift: known, in_sync: true }, 'our own changes are no drift')
  })

  t.test('a bad policy changes nothing, and says everything', async (t) => {
    const before = await g.nft('-s', 'list', 'chain', 'inet', 'egress25', 'egress')
    const bad = join(g.directory, 'policies/bad.yaml')
    await writeFile(bad, 'kind: policy\nname: bad\nnetworks: [0.0.0.1/0]\naction: destroy\n')
    const { code, stderr } = await g.egress25('apply')
    t.equal(code, 1)
    t.match(stderr, /bad\.yaml:3:12: host-bits/)
    t.match(stderr, /bad\.yaml:4:9: bad-value/)
    const { status, text } = await g.ask('POST', '/v1/apply')
    t.same([status, JSON.parse(text).diagnostics.length], [422, 2])
    t.equal(await g.nft('-s', 'list', 'chain', 'inet', 'egress25', 'egress'), before)
    t.equal(await client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
    await rm(bad)
  })

  t.test(
    'stopping leaves the rules; counters, incidents and exemptions are there again afterwards',
    async (t) => {
      await g.ask('PUT', '/v1/exemptions/stays', { sources: ['100.64.9.9'] })
      const counted = async () => (await g.get('/v1/sources/100.64.1.2'))['attempts'] as number
      const before = await counted()
      t.equal(await g.stop(service), 0)
      t.equal(await client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
      t.equal(await client.connect(toMx('100.64.9.9', '203.0.113.9')), 'connected')
      t.match(await g.egress25('status'), { code: 4 })
      const again = await g.start()
      t.match(await g.get('/v1/status'), {
        ruleset: { how: 'unchanged' },
        incidents: { open: { 'spam-bot': 3 } },
      })
      t.equal(await counted(), before + 1, 'also what nobody was listening to')
      t.equal(await g.stop(again, 'SIGKILL'), 'SIGKILL')
      t.equal(await client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
    },
  )
})

t.test('without the service: apply from the command', async (t) => {
  const g = await gateway(t)
  const policies = join(g.directory, 'policies')
  t.match(await g.egress25('apply', '--json'), { code: 0, stdout: /"how":"replacement"/ })
  t.equal(await g.client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
  t.match(await g.egress25('apply', policies), { code: 0, stdout: /in force already/ })
  await writeFile(join(policies, 'policy.yaml'), 'kind: policy\nname: p\nnetworks: [100.64.0.0/33]\n')
  t.match(await g.egress25('apply', policies), { code: 1, stderr: /policy\.yaml:3:12: bad-prefix/ })
  t.equal(await g.client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
  t.test('the boot file alone brings the rules back', async (t) => {
    await g.nft('flush', 'ruleset')
    t.equal(await g.client.connect(toMx('100.64.1.2', '203.0.113.9')), 'connected')
    await g.nft('-f', join(g.directory, 'state/ruleset.nft'))
    t.equal(await g.client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
  })
  t.test('a service that starts with bad policies keeps, or brings back, the last good rules', async (t) => {
    await g.nft('flush', 'ruleset')
    const service = g.lab.spawn(g.lab.gateway, [COMMAND, '-c', g.config, 'serve'], { stdio: 'ignore' })
    await g.http.untilOk(`${API}/healthz`, PATIENCE)
    t.equal(await g.client.connect(toMx('100.64.1.2', '203.0.113.9')), 'reset')
    await g.http.untilOk(`${API}/readyz`, PATIENCE)
    t.match(
      await g.get('/v1/status'),
      {
        documents: { policies: Number },
        refused: { reason: String, diagnostics: [{ file: String, line: Number }] },
      },
      'it knows which policies these are, and that those in the directory are others',
    )
    await cp(join(ROOT, 'policies'), policies, { recursive: true, force: true })
    await rm(join(policies, 'policy.yaml'))
    await rm(join(policies, 'tests.yaml'))
    t.equal((await g.ask('POST', '/v1/apply')).status, 200)
    t.match(await g.get('/v1/status'), { refused: null })
    t.equal(await g.stop(service), 0)
  })
  t.test('foreign tables are left alone', async (t) => {
    await g.nft('add', 'table', 'inet', 'foreign')
    await g.nft('add', 'chain', 'inet', 'foreign', 'c')
    const before = await g.nft('list', 'table', 'inet', 'foreign')
    t.match(await g.egress25('apply'), { code: 0 })
    t.equal(await g.nft('list', 'table', 'inet', 'foreign'), before)
  })
})

t.test('what the machine lacks is said in one line', async (t) => {
  const g = await gateway(t)
  const policies = join(g.directory, 'policies')
  const lines = ({ stderr }: { stderr: string }) => stderr.trim().split('\n')

  t.test('nft', async (t) => {
    // `ip netns exec` gives each program mounts of its own, so this hides nft from nobody else.
    const hidden = ['sh', '-c', 'mount -t tmpfs none /usr/sbin && exec "$@"', '-']
    const result = await g.lab.exec(g.lab.gateway, [...hidden, COMMAND, '-c', g.config, 'apply', policies])
    t.equal(result.code, 3)
    t.equal(lines(result).length, 1)
    t.match(result.stderr, /nft is not installed: install the package nftables/)
  })

  t.test('the capability', async (t) => {
    const nobody = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin']
    const result = await g.lab.exec(g.lab.gateway, [...nobody, COMMAND, '-c', g.config, 'apply', policies])
    t.equal(result.code, 3)
    t.equal(lines(result).length, 1)
    t.match(result.stderr, /CAP_NET_ADMIN/)
    const serving = await g.lab.exec(g.lab.gateway, [...nobody, COMMAND, '-c', g.config, 'serve'])
    t.equal(serving.code, 3)
  })
})
