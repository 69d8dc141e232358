/** The API as its users meet it: what it says of itself is true, and who may do what. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import fc from 'fast-check'
import t from 'tap'
import { PROBLEMS } from '../../src/api/http/problem.ts'
import '../unit/seed.ts'
import { Contract, type Described } from './contract.ts'
import { API, type Gateway, gateway, ROOT, until } from './gateway.ts'
import { anyQuestion } from './questions.ts'
import { openRaw, openSocketClient } from './socket-client.ts'

/** Adds to the section `api` of the configuration, and keeps the policies in git. */
async function configure(g: Gateway, api: object): Promise<void> {
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  const policies = { ...config.policies, history: 'init' }
  await writeFile(g.config, JSON.stringify({ ...config, policies, api: { ...config.api, ...api } }))
}

/** In an order in which each finds what it needs. */
const ORDER = ['PUT', 'GET', 'HEAD', 'POST', 'DELETE']

function example(g: Gateway, operation: Described) {
  const { method, parameters = [], requestBody } = operation
  const value = (name: string) => parameters.find((one) => one.name === name)?.example ?? ''
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(value(name)))
  const query = parameters
    .filter(({ in: where, example }) => where === 'query' && example !== undefined)
    .map(({ name }) => `${name}=${encodeURIComponent(value(name))}`)
  const body = requestBody?.content['application/json']?.example
  return g.ask(method, query.length === 0 ? path : `${path}?${query.join('&')}`, body)
}

t.test('the API is what /openapi.json says', async (t) => {
  const g = await gateway(t)
  await configure(g, { loopback_role: 'admin' })
  const service = await g.start()
  const document = await g.get('/openapi.json')
  const contract = new Contract(document)

  t.test('it is valid OpenAPI 3.1', async (t) => {
    const { valid, errors } = await new Validator().validate(document as Parameters<Validator['validate']>[0])
    t.ok(valid, JSON.stringify(errors)?.slice(0, 2_000))
    t.equal(document['openapi'], '3.1.0')
    const ids = contract.operations.map(({ operationId }) => operationId)
    t.equal(new Set(ids).size, ids.length, 'each operation has a name of its own')
  })

  t.test('docs/api.md names every route with its role, and every problem', async (t) => {
    const page = await readFile(join(ROOT, 'docs/api.md'), 'utf8')
    const rows = contract.operations.map(({ method, path, summary, security = [] }) => {
      const [role = '–'] = security[0]?.['token'] ?? []
      return `| \`${method} ${path}\` | ${role} | ${summary} |`
    })
    const routes = page.split('\n').filter((line) => /^\| `[A-Z]+ \//.test(line))
    t.same(routes.sort(), rows.sort())
    for (const [code, [status, title]] of Object.entries(PROBLEMS))
      t.ok(page.includes(`| \`${code}\` | ${status} | ${title} |`), code)
  })

  t.test('by loopback it answers to names of loopback alone, not to one that resolves to it', async (t) => {
    const status = async (host: string) => {
      const argv = [
        'curl',
        '-s',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '-H',
        `Host: ${host}`,
        `${API}/v1/status`,
      ]
      return (await g.lab.exec(g.lab.gateway, argv)).stdout
    }
    for (const host of ['127.0.0.1:7025', '127.8.9.10', 'localhost:80', '[::1]:7025'])
      t.equal(await status(host), '200', host)
    for (const host of [
      '127.evil.example:7025',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      '192.0.2.1',
    ])
      t.equal(await status(host), '403', host)
    const asProxy = async (target: string) => {
      const argv = ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--request-target', target, API]
      return (await g.lab.exec(g.lab.gateway, argv)).stdout
    }
    t.equal(await asProxy('http://localhost:7025/v1/tests'), '200')
    t.equal(await asProxy('http://evil.example/v1/tests'), '403', 'the host of the target is what counts')
  })

  t.test('its examples work', async (t) => {
    await g.client.connectAll(
      Array.from({ length: 6 }, () => ({ from: '100.64.1.2', to: '203.0.113.9', port: 25 })),
    )
    const inOrder = [...contract.operations].sort((a, b) => ORDER.indexOf(a.method) - ORDER.indexOf(b.method))
    for (const operation of inOrder) {
      const { method, path } = operation
      // These need an incident, or never end.
      if (path.includes('{id}') || path === '/v1/events') continue
      const answer = await example(g, operation)
      t.equal(contract.faultOf(operation, answer), null, `${method} ${path}`)
      // There is nothing to confirm, to pull from, or left to take back; and the latest change was taken back.
      const isRefused = /^\/v1\/(rollback|pull|history\/.*revert|tests\/)/.test(path)
      t.equal(
        answer.status < 300 || (isRefused && answer.status < 500),
        true,
        `${method} ${path}: ${answer.text}`,
      )
    }
  })
  t.test(
    'the status is kept for those who ask again, and whoever has changed something finds it there',
    async (t) => {
      type Ruleset = { readonly ruleset: { readonly digest: string } }
      const digests = new Set<string>()
      for (let round = 0; round < 10; round++) {
        const before = (await g.get('/v1/status')) as unknown as Ruleset
        digests.add(before.ruleset.digest)
        const put = await g.ask('PUT', `/v1/exemptions/kept-${round}`, { sources: [`100.64.77.${round}`] })
        t.equal(put.status, 201)
        const after = (await g.get('/v1/status')) as unknown as Ruleset
        t.not(after.ruleset.digest, before.ruleset.digest)
      }
      t.equal(digests.size, 10)
      for (const path of ['/v1/status', '/v1/incidents']) {
        // Counters may have gone on in between.
        const same = await until('the same again', async () => {
          const { etag = '' } = (await g.ask('GET', path)).headers
          const again = await g.ask('GET', path, undefined, { 'if-none-match': etag })
          return again.status === 304 ? again : null
        })
        t.equal(same.text, '')
        const other = await g.ask('GET', path, undefined, { 'if-none-match': '"another"' })
        t.same([other.status, other.headers['cache-control']], [200, 'no-cache'])
        // What is kept goes out a shorter way, and is the same answer for whoever may have it.
        const heads = ({ headers }: typeof other) => ({ ...headers, date: '', 'x-request-id': '' })
        await until('the same by both ways', async () => {
          const usual = await g.ask('GET', path, undefined, { 'if-none-match': '"another"' })
          const short = await g.ask('GET', path)
          if (usual.headers['etag'] !== short.headers['etag']) return false
          t.same([short.status, short.text, heads(short)], [200, usual.text, heads(usual)])
          t.equal(short.headers['content-security-policy'], "default-src 'none';frame-ancestors 'none'")
          t.match(short.headers['x-request-id'], /^[0-9a-f]{10}-\d+$/)
          return true
        })
        const status = async (headers: Record<string, string>) =>
          (await g.ask('GET', path, undefined, headers)).status
        t.equal(await status({ accept: 'text/html' }), 406)
        t.equal(await status({ authorization: 'Bearer wrong' }), 401)
        t.equal(await status({ origin: 'http://evil.example' }), 403)
        t.equal((await g.ask('HEAD', path)).text, '')
      }
    },
  )

  t.test('what would be guessed at is refused, and changes nothing', async (t) => {
    const client = openSocketClient(join(g.directory, 'api.sock'))
    t.teardown(() => client.close())
    const pointers = (text: string) =>
      JSON.parse(text).errors.map(({ pointer }: { pointer: string }) => pointer)
    const refused = async (method: string, path: string, pointer: string, body?: unknown) => {
      const { status, text } = await g.ask(method, path, body)
      t.same([status, status === 400 && pointers(text)], [400, [pointer]], `${method} ${path}: ${text}`)
    }

    // Parameters: a dry run above all, where there is none.
    const made = await g.ask('POST', '/v1/tokens', { name: 'not-for-dry-runs', role: 'viewer' })
    const { id } = JSON.parse(made.text)
    await refused('DELETE', `/v1/tokens/${id}?dry_run=true`, '/querystring/dry_run')
    t.equal(JSON.parse((await g.ask('GET', `/v1/tokens/${id}`)).text).in_force, true)
    await refused('POST', '/v1/tokens?dry_run=true', '/querystring/dry_run', { name: 'dry', role: 'viewer' })
    for (const path of ['plan', 'apply', 'confirm', 'rollback', 'pull'])
      await refused('POST', `/v1/${path}?dry_run=true`, '/querystring/dry_run')
    for (const path of ['status', 'silences', 'alerts/channels'])
      await refused('GET', `/v1/${path}?a/b~c=1`, '/querystring/a~1b~0c')
    for (const path of ['/healthz', '/metrics'])
      t.equal((await g.ask('GET', `${path}?at=1`)).status, 200, 'probes and scrapes are asked in many ways')

    // A filter that would not be one.
    for (const path of ['/v1/incidents', '/v1/status', '/v1/attempts']) {
      const { status } = await client.ask({ method: 'GET', path, body: '{"state":"open"}' })
      t.equal(status, 400, path)
      t.equal((await client.ask({ method: 'GET', path, body: '' })).status, 200, path)
    }

    // A pointer is one into the body that was sent.
    await refused('POST', '/v1/tokens', '/Role', { name: 'misspelt', role: 'viewer', Role: 'admin' })
    await refused('POST', '/v1/silences', '/networks/0', { for: '1h', networks: ['10.0.0.1/8'] })

    // Texts that would become others.
    const put = (type: string, body: Buffer, headers = {}) =>
      client.ask({
        method: 'PUT',
        path: '/v1/exemptions/guessed',
        headers: { 'content-type': type, 'if-none-match': '*', ...headers },
        body,
      })
    const json = (reason: string, encoding: 'latin1' | 'utf8') =>
      Buffer.from(JSON.stringify({ sources: ['100.64.78.1'], reason }), encoding)
    const yaml = Buffer.from('sources: [100.64.78.1]\nreason: M\u00fcller\n', 'latin1')
    t.equal((await put('application/json', json('M\u00fcller', 'latin1'))).status, 400)
    t.equal((await put('application/yaml', yaml)).status, 400)
    t.equal((await put('application/json; charset=latin1', json('M\u00fcller', 'latin1'))).status, 415)
    const zipped = { 'content-encoding': 'gzip' }
    t.equal((await put('application/json', json('M', 'utf8'), zipped)).status, 415)
    t.equal((await g.ask('GET', '/v1/exemptions/guessed')).status, 404)
    const right = await put('application/json; charset="UTF-8"', json('M\u00fcller', 'utf8'))
    t.same([right.status, JSON.parse(right.text).reason], [201, 'M\u00fcller'])

    // What a parser would take away, or make one of two.
    const told = async (type: string, text: string) => {
      const { status, text: answer } = await put(`application/${type}`, Buffer.from(text))
      const { errors = [], diagnostics = [] } = JSON.parse(answer)
      const places = [
        ...errors.map((one: { pointer: string }) => one.pointer),
        ...diagnostics.map((one: { line: number; column: number }) => `${one.line}:${one.column}`),
      ]
      return [status, ...places]
    }
    const HOST = '"sources": ["100.64.78.2"]'
    for (const [type, text, ...answer] of [
      ['json', `{${HOST}, "__proto__": {"rate": "1/day"}}`, 422, '/__proto__'],
      ['yaml', `{${HOST}, __proto__: {rate: 1/day}}`, 422, '/__proto__'],
      ['json', `{${HOST},\n "reason": "a", "re\\u0061son": "b"}`, 400, '2:17'],
      ['json', `{${HOST}, "reason": "\\ud800"}`, 422, '/reason'],
      ['json', `{"sources": ${'['.repeat(65)}${']'.repeat(65)}}`, 400],
      ['json', '['.repeat(500_000) + ']'.repeat(500_000), 400],
      ['yaml', `${HOST}\n---\n${HOST}\n`, 400, '3:1'],
      ['json', '', 422, ''],
      ['yaml', '', 422, ''],
      ['yaml', '---\n# Nothing.\n', 422, ''],
    ] as const)
      t.same(await told(type, text), answer, `${type}: ${text.slice(0, 80)}`)

    // Cursors that nobody was given, and packets that there cannot be.
    for (const path of ['policies', 'exemptions', 'tokens', 'incidents', 'history', 'sources', 'attempts'])
      t.equal((await g.ask('GET', `/v1/${path}?cursor=AAAA`)).status, 400, path)
    await refused('GET', '/v1/explain?source=100.64.1.2&destination=2001:db8::1', '/querystring/destination')
    await refused('GET', '/v1/explain?source=100.64.1.2&destination=1.1.1.1&port=65536', '/querystring/port')
    await refused('GET', '/v1/events?types=apply,frob', '/querystring/types')
    for (const path of ['/etc', '../x', 'a\0b'])
      await refused('GET', `/v1/history?path=${encodeURIComponent(path)}`, '/querystring/path')
    const magic = await g.get(`/v1/history?path=${encodeURIComponent(':(exclude)nothing')}`)
    t.same(magic['items'], [], 'a path is one, and no pattern of git')
    for (const path of ['explain?destination=1.1.1.1&source=', 'attempts?source=', 'sources/']) {
      const { status, text } = await g.ask('GET', `/v1/${path}${encodeURIComponent('::ffff:100.64.1.2')}`)
      t.equal(status, 400)
      t.match(JSON.parse(text).errors[0].message, /100\.64\.1\.2$/, 'what it is on the wire')
    }
    const long = await g.ask('GET', `/v1/policies/${'a'.repeat(2_000)}`)
    t.equal(long.status, 400)
    t.ok(long.text.length < 500, long.text)
  })

  t.test('silences are a list in pages', async (t) => {
    const ids: string[] = []
    for (const reason of ['one', 'two', 'three']) {
      const made = await g.ask('POST', '/v1/silences', { for: '1h', policies: ['residential'], reason })
      t.equal(made.status, 201)
      ids.push(JSON.parse(made.text).id)
    }
    const listed: string[] = []
    for (let query: string | null = '?limit=2'; query !== null; ) {
      const { items, next } = JSON.parse((await g.ask('GET', `/v1/silences${query}`)).text)
      t.ok(items.length <= 2)
      listed.push(...items.map(({ id }: { id: string }) => id))
      query = next === null ? null : `?limit=2&cursor=${next}`
    }
    t.same(listed.filter((id) => ids.includes(id)).sort(), [...ids].sort())
    t.equal(new Set(listed).size, listed.length)
    for (const id of ids) t.equal((await g.ask('DELETE', `/v1/silences/${id}`)).status, 200)
    t.same(JSON.parse((await g.ask('GET', '/v1/alerts/channels?limit=1')).text).items.length, 1)
  })

  t.test('a machine is found by what incidents and rankings call it', async (t) => {
    const found = async (name: string) => {
      const { status, text } = await g.ask('GET', `/v1/sources/${encodeURIComponent(name)}`)
      return status === 200 ? JSON.parse(text).source : status
    }
    t.equal(await found('100.64.1.2'), '100.64.1.2')
    t.equal(await found('100.64.1.2/32'), '100.64.1.2')
    const machine = await found('2001:db8:100::2')
    t.match(machine, /\/64$/)
    t.equal(await found(machine), machine)
    for (const many of ['100.64.0.0/10', '2001:db8:100::/48', '2001:db8:100::2/64', '::ffff:100.64.1.2'])
      t.equal(await found(many), 400, many)
  })

  t.test(
    'a weak ETag, as compressing proxies make it, finds what it was made of, and replaces nothing',
    async (t) => {
      const path = '/v1/policies/residential'
      const { etag = '' } = (await g.ask('GET', path)).headers
      const read = async (tags: string) =>
        (await g.ask('GET', path, undefined, { 'if-none-match': tags })).status
      t.equal(await read(`W/${etag}`), 304)
      t.equal(await read(`"another", W/${etag}`), 304)
      t.equal(await read('W/"another"'), 200)
      const removal = await g.ask('DELETE', `${path}?dry_run=true`, undefined, { 'if-match': `W/${etag}` })
      t.equal(removal.status, 412)
    },
  )

  t.test('whatever is asked on a condition is not done without it', async (t) => {
    const client = openSocketClient(join(g.directory, 'api.sock'))
    t.teardown(() => client.close())
    for (const path of ['/v1/policies/residential', '/v1/status', '/v1/incidents', '/']) {
      const status = async (method: string, headers: Record<string, string>) =>
        (await client.ask({ method, path, headers })).status
      for (const method of ['GET', 'HEAD']) {
        t.equal(await status(method, {}), 200)
        t.equal(await status(method, { 'if-match': '"another"' }), 412, `${method} ${path}`)
        t.equal(await status(method, { 'if-match': '*' }), 200)
        t.equal(await status(method, { 'if-match': '"another"', 'if-none-match': '*' }), 412)
      }
      const unchanged = await client.ask({ method: 'HEAD', path, headers: { 'if-none-match': '*' } })
      t.same([unchanged.status, unchanged.headers['content-length']], [304, undefined], path)
    }
    const remove = await g.ask('DELETE', '/v1/policies/residential', undefined, { 'if-none-match': '*' })
    t.equal(remove.status, 412)
    const conditions = { 'if-none-match': '*', 'if-match': '"another"' }
    const put = await g.ask('PUT', '/v1/exemptions/on-condition', { sources: ['100.64.78.3'] }, conditions)
    t.equal(put.status, 412)
    t.equal((await g.ask('GET', '/v1/exemptions/on-condition')).status, 404)
    t.equal((await g.ask('GET', '/v1/events', undefined, { accept: 'application/json' })).status, 406)
  })

  t.test('what is not even a request is told so, where that can be', async (t) => {
    const tell = async (said: string) => {
      const raw = openRaw(join(g.directory, 'api.sock'), said)
      await until('its end', async () => raw.isOver())
      const [head = '', body = ''] = raw.text().split('\r\n\r\n')
      const status = Number(head.split(' ')[1])
      if (body === '') return [status]
      t.match(head, /^content-type: application\/problem\+json/im)
      t.equal(Number(/^content-length: (\d+)$/im.exec(head)?.[1]), Buffer.byteLength(body))
      const { status: said_, code } = JSON.parse(body)
      t.equal(said_, status)
      return [status, code]
    }
    const CLOSE = 'Connection: close\r\n\r\n'
    const get = (target: string, headers = 'Host: localhost\r\n') =>
      `GET ${target} HTTP/1.1\r\n${headers}${CLOSE}`
    const post = (headers: string, body = '') =>
      `POST /v1/plan HTTP/1.1\r\nHost: localhost\r\n${headers}Connection: close\r\n\r\n${body}`
    for (const [said, ...answer] of [
      ['EHLO mail.example\r\n', 400, 'bad-request'],
      [get('/v1/te\0sts'), 400, 'bad-request'],
      [get('/v1/tests', ''), 400, 'bad-request'],
      [get('/v1/tests', 'Host: localhost\r\nHost: evil.example\r\n'), 400, 'bad-request'],
      [get('/v1/tests', `Host: localhost\r\nX: ${'x'.repeat(20_000)}\r\n`), 431, 'head-too-large'],
      [post('Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'), 400, 'bad-request'],
      [post('Transfer-Encoding: chunked\r\n', 'zz\r\n'), 400, 'bad-request'],
      [post('Transfer-Encoding: chunked\r\n', `2;${'x'.repeat(20_000)}\r\n`), 413, 'body-too-large'],
      [post('Expect: the-unexpected\r\n'), 417, 'expectation-failed'],
      [`CONNECT mail.example:25 HTTP/1.1\r\nHost: mail.example:25\r\n\r\n`, 405, 'method-not-allowed'],
      [`OPTIONS * HTTP/1.1\r\nHost: localhost\r\n${CLOSE}`, 204],
    ] as const)
      t.same(await tell(said), answer, JSON.stringify(said.slice(0, 120)))
  })

  t.test('who asks for very much at once starts a few programs at a time, and is told to wait', async (t) => {
    const client = openSocketClient(join(g.directory, 'api.sock'))
    t.teardown(() => client.close())
    const running = async () => {
      const { stdout } = await g.lab.exec(g.lab.gateway, ['ip', 'netns', 'pids', g.lab.gateway])
      return stdout.trim().split('\n').length
    }
    const before = await running()
    for (const path of ['/v1/history/HEAD', '/v1/history', '/v1/sources/100.64.1.2']) {
      let most = 0
      let isOver = false
      const watching = (async () => {
        while (!isOver) most = Math.max(most, await running())
      })()
      const asked = Array.from({ length: 250 }, () => client.ask({ method: 'GET', path }))
      const answers = await Promise.all(asked)
      isOver = true
      await watching
      const statuses = new Set(answers.map(({ status }) => status))
      t.same([...statuses].sort(), [200, 429], path)
      t.ok(most < before + 40, `${most} programs beside ${before}`)
      const refused = answers.find(({ status }) => status === 429)
      t.match(refused?.headers['retry-after'], /^[1-9]\d*$/)
      t.notMatch((await g.ask('GET', '/v1/audit?outcome=refused&limit=1')).text, '"status":429')
    }
    t.equal((await client.ask({ method: 'HEAD', path: '/v1/history' })).status, 200)
  })

  t.test('OPTIONS says which methods there are', async (t) => {
    for (const path of ['/v1/status', '/v1/exemptions/any']) {
      const { status, text, headers } = await g.ask('OPTIONS', path)
      const wanted = path === '/v1/status' ? 'GET, HEAD, OPTIONS' : 'DELETE, GET, HEAD, OPTIONS, PUT'
      t.same([status, text, headers['allow']], [204, '', wanted])
    }
    t.equal((await g.ask('OPTIONS', '/v1/nothing')).status, 404)
    const { status, headers } = await g.ask('POST', '/v1/status')
    t.same([status, headers['allow']], [405, 'GET, HEAD, OPTIONS'])
  })

  t.test('whatever is sent: an answer, as declared, and never a fault of the service', async (t) => {
    const client = openSocketClient(join(g.directory, 'api.sock'))
    t.teardown(() => client.close())
    const statuses = new Set<number>()
    await fc.assert(
      fc.asyncProperty(anyQuestion(contract), async (question) => {
        const answer = await client.ask(question)
        statuses.add(answer.status)
        const operation = contract.find(question.method, question.path)
        if (answer.status === 500) throw new Error(answer.text)
        if (answer.status === 204 && question.method === 'OPTIONS') return
        const fault =
          operation === null ? contract.faultOfProblem(answer) : contract.faultOf(operation, answer)
        if (fault !== null) throw new Error(fault)
      }),
      { numRuns: 400 },
    )
    t.ok(statuses.has(200) && statuses.has(400), [...statuses].sort().join())
    t.equal((await g.log()).includes('request failed'), false)
  })

  t.test('it stops', async (t) => t.equal(await g.stop(service), 0))
})
