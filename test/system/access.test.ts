/** Who may use the API: tokens, certificates, roles, and what is told of those who may not. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Contract } from './contract.ts'
import { COMMAND, type Gateway, gateway, until } from './gateway.ts'
import { openRaw, openSocketClient, openStream, type Question } from './socket-client.ts'

const ROLES = ['viewer', 'operator', 'admin', 'requester'] as const
/** Whose role is enough for a route that names one. */
const ENOUGH: Readonly<Record<string, readonly string[]>> = {
  any: ROLES,
  viewer: ['viewer', 'operator', 'admin'],
  requester: ['requester', 'operator', 'admin'],
  operator: ['operator', 'admin'],
  admin: ['admin'],
}

/** Of one caller in a minute; more than the tests of roles need. */
const MOST_REQUESTS = 400
const MOST_CONNECTIONS = 64

interface Made {
  readonly id: string
  readonly token: string
}

async function makeToken(g: Gateway, name: string, role: string, expires = '1d'): Promise<Made> {
  const { code, stdout, stderr } = await g.egress25(
    'token',
    'create',
    name,
    '--role',
    role,
    '--expires',
    expires,
    '--json',
  )
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

async function configure(g: Gateway, api: object): Promise<void> {
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  await writeFile(g.config, JSON.stringify({ ...config, api: { ...config.api, ...api } }))
}

// Each has a gateway of its own, and waits a lot.
t.jobs = 2

t.test('tokens and roles', async (t) => {
  const g = await gateway(t)
  await configure(g, {
    socket: { mode: '0640', group: 'daemon' },
    limits: { requests: MOST_REQUESTS, failed_logins: 10, connections: MOST_CONNECTIONS },
  })
  const early = await makeToken(g, 'early', 'admin')
  const service = await g.start()
  const client = openSocketClient(join(g.directory, 'api.sock'))
  t.teardown(() => client.close())
  const tokens = new Map<string, Made>()
  const by = (token: string, question: Question) =>
    client.ask({ ...question, headers: { ...question.headers, authorization: `Bearer ${token}` } })
  const get = (path: string): Question => ({ method: 'GET', path })
  const code = (text: string) => (JSON.parse(text) as { code: string }).code
  // Asked at the end what became of it: that takes the service a while.
  const socketPath = join(g.directory, 'api.sock')
  const dawdler = openRaw(socketPath, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n')

  t.test('the socket has the mode and the group that it is to have', async (t) => {
    const { stdout } = await g.lab.exec(g.lab.gateway, ['stat', '-c', '%a %G', `${g.directory}/api.sock`], {})
    t.equal(stdout.trim(), '640 daemon')
  })

  t.test('from the first token on, loopback needs one', async (t) => {
    const refused = await g.ask('GET', '/v1/status')
    t.same([refused.status, refused.headers['www-authenticate']], [401, 'Bearer'])
    const headers = { authorization: `Bearer ${early.token}` }
    t.equal((await g.ask('GET', '/v1/status', undefined, headers)).status, 200)
    t.equal((await g.ask('GET', '/healthz')).status, 200, 'whether it lives is no secret')
    for (const role of ROLES) tokens.set(role, await makeToken(g, `a-${role}`, role))
    t.match(await g.egress25('token', 'create', 'a-viewer', '--role', 'viewer'), {
      code: 1,
      stderr: /a-viewer/,
    })
  })

  t.test('each route asks for its role, and lets in who has it', async (t) => {
    const contract = new Contract(JSON.parse((await client.ask(get('/openapi.json'))).text))
    for (const { method, path, security = [] } of contract.operations) {
      const needed = security[0]?.['token']?.[0]
      if (needed === undefined || path === '/v1/events') continue
      // Nothing is there by that name, and so nothing happens to it.
      const question = { method, path: path.replace(/\{\w+\}/g, 'nothing') }
      const found: string[] = []
      for (const role of ROLES) {
        const { status } = await by(tokens.get(role)?.token ?? '', question)
        if (status !== 401 && status !== 403) found.push(role)
      }
      t.same(found.sort(), [...(ENOUGH[needed] ?? [])].sort(), `${method} ${path}`)
      const { status } = await by(`egress25_000000000000_${'a'.repeat(43)}`, question)
      t.ok(status === 401 || status === 429, `${method} ${path} without a token that is known`)
    }
    t.equal(
      (await by(tokens.get('viewer')?.token ?? '', get('/v1/status'))).status,
      200,
      'who is known is let in',
    )
  })

  t.test('a browser that was sent here by another page is refused', async (t) => {
    for (const headers of [{ origin: 'http://evil.example' }, { 'sec-fetch-site': 'cross-site' }] as const) {
      const answer = await client.ask({ method: 'POST', path: '/v1/apply', headers })
      t.same([answer.status, code(answer.text)], [403, 'forbidden'])
    }
  })

  t.test('what is repeated with its key is done once', async (t) => {
    const token = tokens.get('operator')?.token ?? ''
    const put = (body: object, key: string): Question => ({
      method: 'PUT',
      path: '/v1/exemptions/repeated',
      headers: { 'content-type': 'application/json', 'idempotency-key': key, 'if-none-match': '*' },
      body: JSON.stringify(body),
    })
    const first = await by(token, put({ sources: ['100.64.9.1'] }, 'one'))
    const again = await by(token, put({ sources: ['100.64.9.1'] }, 'one'))
    t.same([first.status, again.status], [201, 201])
    t.same([again.text, again.headers['etag']], [first.text, first.headers['etag']])
    t.equal(again.headers['idempotency-replayed'], 'true')
    const other = await by(token, put({ sources: ['100.64.9.2'] }, 'one'))
    t.same([other.status, code(other.text)], [422, 'idempotency-key-reused'])
    t.equal((await by(token, put({ sources: ['100.64.9.1'] }, 'two'))).status, 412)
    const make: Question = {
      method: 'POST',
      path: '/v1/tokens',
      headers: { 'content-type': 'application/json', 'idempotency-key': 'three' },
      body: JSON.stringify({ name: 'made-once', role: 'viewer' }),
    }
    t.match(JSON.parse((await by(early.token, make)).text), { token: /^egress25_/ })
    t.match(JSON.parse((await by(early.token, make)).text), { name: 'made-once', token: null })
  })

  t.test('an exemption is asked for, and somebody else decides', async (t) => {
    const tell = (role: string, path: string, body: object) =>
      by(tokens.get(role)?.token ?? '', {
        method: 'POST',
        path: `/v1/exemption-requests${path}`,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const ask = async (name: string) => {
      const { status, text } = await tell('requester', '', {
        name,
        sources: ['100.64.9.77'],
        reason: 'Mail.',
        for: '30d',
      })
      t.equal(status, 201, text)
      return (JSON.parse(text) as { id: string }).id
    }
    const stateOf = async (id: string) =>
      JSON.parse((await by(tokens.get('requester')?.token ?? '', get(`/v1/exemption-requests/${id}`))).text)
        .state
    const isExempt = async (name: string) =>
      (await by(early.token, get(`/v1/exemptions/${name}`))).status === 200

    const granted = await ask('granted')
    t.equal((await tell('requester', `/${granted}/approve`, {})).status, 403)
    t.equal(await isExempt('granted'), false)
    t.equal((await tell('operator', `/${granted}/approve`, { reason: 'Known.' })).status, 200)
    t.equal(await isExempt('granted'), true)
    t.equal(await stateOf(granted), 'in-force')
    const again = await tell('operator', `/${granted}/refuse`, {})
    t.same([again.status, code(again.text)], [409, 'request-decided'])
    t.equal((await tell('operator', `/${granted}/revoke`, { reason: 'Spam.' })).status, 200)
    t.equal(await isExempt('granted'), false)
    t.equal(await stateOf(granted), 'revoked')

    const also = await ask('also')
    await tell('operator', `/${also}/approve`, {})
    const path = '/v1/exemptions/also'
    await by(early.token, { method: 'DELETE', path, headers: { 'egress25-reason': 'Over.' } })
    const { state, history } = JSON.parse((await by(early.token, get(`/v1/exemption-requests/${also}`))).text)
    t.match([state, history.at(-1)], ['revoked', { event: 'revoked', by: 'early', reason: 'Over.' }])

    const refused = await ask('refused')
    t.equal((await tell('operator', `/${refused}/refuse`, { reason: 'No.' })).status, 200)
    t.equal(await stateOf(refused), 'refused')
    const withdrawn = await ask('withdrawn')
    t.equal((await tell('requester', `/${withdrawn}/withdraw`, {})).status, 200)
    t.equal(await stateOf(withdrawn), 'withdrawn')
    t.equal(await isExempt('refused'), false)
    t.equal((await tell('requester', '/0123456789/withdraw', {})).status, 404)
  })

  t.test('one token listens twenty times, and others all the same', async (t) => {
    const open = (role: string) =>
      openStream(join(g.directory, 'api.sock'), {
        method: 'GET',
        path: '/v1/events',
        headers: { authorization: `Bearer ${tokens.get(role)?.token}` },
      })
    const streams = await Promise.all(Array.from({ length: 20 }, () => open('viewer')))
    t.same(new Set(streams.map(({ status }) => status)), new Set([200]))
    const refused = await open('viewer')
    t.equal(refused.status, 503)
    await until('why', async () => refused.isOver())
    t.match(JSON.parse(refused.text()), { code: 'too-many-listeners', detail: /caller a-viewer/ })
    const other = await open('operator')
    t.equal(other.status, 200)
    for (const stream of [...streams, other]) stream.close()
  })

  t.test('revoked and expired tokens end at once', async (t) => {
    const { id = '', token = '' } = tokens.get('viewer') ?? {}
    const one = async () => JSON.parse((await by(early.token, get(`/v1/tokens/${id}`))).text)
    t.match(await one(), { id, name: 'a-viewer', role: 'viewer', in_force: true, revoked: null })
    const stream = await openStream(join(g.directory, 'api.sock'), {
      ...get('/v1/events'),
      headers: { authorization: `Bearer ${token}` },
    })
    t.teardown(() => stream.close())
    await until('its first line', async () => stream.text().includes(': egress25'))
    t.match(await g.egress25('token', 'revoke', id), { code: 0 })
    // Something to tell, which is no longer for it.
    const put = { method: 'PUT', path: '/v1/exemptions/told-nobody', body: '{"sources":["100.64.79.1"]}' }
    const headers = { 'content-type': 'application/json', 'if-none-match': '*' }
    t.equal((await by(early.token, { ...put, headers })).status, 201)
    await until('the end of its stream', async () => stream.isOver())
    t.notMatch(stream.text(), 'event: apply')
    t.not((await by(token, get('/v1/status'))).status, 200)
    t.match(await one(), { in_force: false, revoked: String })
    t.equal((await by(early.token, get('/v1/tokens/000000000000'))).status, 404)
    t.match(await g.egress25('token', 'revoke', '000000000000'), { code: 1 })
    const short = await makeToken(g, 'short', 'viewer', '1s')
    await until('its end', async () => (await by(short.token, get('/v1/status'))).status !== 200)
    const { items } = JSON.parse((await g.egress25('token', 'list')).stdout)
    t.match(
      items.filter(({ name }: { name: string }) => name === 'short'),
      [{ role: 'viewer', in_force: false }],
    )
  })

  t.test('changes and refusals are told, and secrets are not', async (t) => {
    const { items } = JSON.parse((await by(early.token, get('/v1/audit?limit=1000'))).text) as {
      items: { caller: string; method: string; url: string; status: number }[]
    }
    t.ok(
      items.some(
        ({ caller, url, status }) => caller === 'a-operator' && url.endsWith('/repeated') && status === 201,
      ),
    )
    t.ok(items.some(({ caller, status }) => caller === 'a-requester' && status === 403))
    t.ok(items.some(({ caller, status }) => caller === null && status === 401))
    const page = JSON.parse((await by(early.token, get('/v1/audit?outcome=refused&limit=1'))).text)
    t.equal(page.items.length, 1)
    t.not(page.next, null)
    const log = await g.log()
    const database = await readFile(join(g.directory, 'state/api.db-wal'), 'latin1').catch(() => '')
    for (const { token } of [early, ...tokens.values()]) {
      const secret = token.slice(-43)
      t.equal(log.includes(secret), false, 'not in the log')
      t.equal(database.includes(secret), false, 'not in the database')
    }
  })

  t.test('a change is told also when whoever made it did not wait for the answer', async (t) => {
    const headers = `Host: localhost\r\nAuthorization: Bearer ${tokens.get('operator')?.token}\r\nIf-None-Match: *\r\n`
    const body = '{"sources":["100.64.9.77"]}'
    const impatient = openRaw(
      socketPath,
      `PUT /v1/exemptions/abandoned HTTP/1.1\r\n${headers}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    await until('what was asked for', async () => impatient.isSent())
    impatient.close()
    await until('the entry', async () => {
      const { items } = JSON.parse((await by(early.token, get('/v1/audit'))).text) as {
        items: { url: string; status: number }[]
      }
      return items.some(({ url, status }) => url.endsWith('/abandoned') && status === 201)
    })
    t.equal((await by(early.token, get('/v1/exemptions/abandoned'))).status, 200)
  })

  t.test('more connections than there may be are not taken', async (t) => {
    const open = Array.from({ length: 2 * MOST_CONNECTIONS }, () => openRaw(socketPath, ''))
    await until('refusals', async () => open.filter((one) => one.isOver()).length >= MOST_CONNECTIONS)
    t.ok(open.filter((one) => !one.isOver()).length <= MOST_CONNECTIONS)
    for (const one of open) one.close()
    await until('room again', async () => {
      const answer = await client.ask(get('/healthz')).catch(() => null)
      return answer?.status === 200
    })
  })

  t.test('who asks too often is told to wait, and nobody else', async (t) => {
    const often = async (token: string, most: number) => {
      for (let asked = 0; asked < most; asked++) {
        const answer = await by(token, get('/v1/exemption-requests'))
        if (answer.status === 429) return answer
      }
      return null
    }
    // A minute may begin anew meanwhile.
    const slowed = await often(tokens.get('requester')?.token ?? '', 3 * MOST_REQUESTS)
    t.equal(slowed === null ? null : code(slowed.text), 'too-many-requests')
    t.match(slowed?.headers['retry-after'], /^[1-9]\d*$/)
    t.equal((await by(early.token, get('/v1/status'))).status, 200)
    const guessed = await often(`egress25_000000000000_${'b'.repeat(43)}`, 40)
    t.equal(guessed === null ? null : code(guessed.text), 'too-many-requests')
    t.match(guessed?.headers['retry-after'], /^[1-9]\d*$/)
    t.equal((await by(early.token, get('/v1/status'))).status, 200, 'right tokens pass all the same')
  })

  t.test('who never ends its request is cut', async () => {
    await until('it', async () => dawdler.isOver())
  })

  t.test('after all of it', async (t) => t.equal(await g.stop(service), 0))
})

t.test('TLS and client certificates', async (t) => {
  const g = await gateway(t)
  const tls = join(g.directory, 'tls')
  await mkdir(tls)
  const openssl = async (...args: string[]) => {
    const { code, stderr } = await g.lab.exec(g.lab.gateway, ['openssl', ...args], {})
    if (code !== 0) throw new Error(stderr)
  }
  const file = (name: string) => join(tls, name)
  const certify = async (name: string, subject: string, ...more: string[]) => {
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      file(`${name}.key`),
    ]
    await openssl(
      'req',
      '-x509',
      '-days',
      '2',
      ...key,
      '-out',
      file(`${name}.pem`),
      '-subj',
      subject,
      ...more,
    )
  }
  const signed = ['-CA', file('ca.pem'), '-CAkey', file('ca.key')]
  await certify('ca', '/CN=Test CA')
  await certify('server', '/CN=gw-test', '-addext', 'subjectAltName=IP:127.0.0.1', ...signed)
  await certify('noc', '/CN=noc', ...signed)
  await certify('stranger', '/CN=stranger', ...signed)
  await certify('self-made', '/CN=noc')
  await certify('for-servers', '/CN=noc', '-addext', 'extendedKeyUsage=serverAuth', ...signed)
  await certify('stolen', '/CN=noc', ...signed)
  await writeFile(file('index'), '')
  await writeFile(
    file('ca.cnf'),
    `[ca]\ndefault_ca=x\n[x]\ndatabase=${file('index')}\ncertificate=${file('ca.pem')}\nprivate_key=${file('ca.key')}\ndefault_md=sha256\n`,
  )
  const ca = (...args: string[]) => openssl('ca', '-config', file('ca.cnf'), ...args)
  const writeRevocations = () => ca('-gencrl', '-crldays', '2', '-out', file('crl.pem'))
  await writeRevocations()
  const certificates = { certificate: file('server.pem'), key: file('server.key') }
  const api = { listen: ['0.0.0.0:7443', `unix:${g.directory}/api.sock`], tls: certificates }

  await t.test('beyond loopback, there must be somebody who may', async (t) => {
    await configure(g, api)
    t.match(await g.egress25('serve'), {
      code: 2,
      stderr: /0\.0\.0\.0:7443 is beyond loopback, which needs tokens/,
    })
    await configure(g, { listen: api.listen, tls: undefined })
    t.match(await g.egress25('serve'), { code: 2, stderr: /beyond loopback, which needs TLS/ })
  })

  await configure(g, {
    ...api,
    tls: {
      ...certificates,
      client_ca: file('ca.pem'),
      client_crl: file('crl.pem'),
      clients: [{ certificate: 'CN=noc', name: 'noc', role: 'operator' }],
    },
  })
  const service = g.lab.spawn(g.lab.gateway, [COMMAND, '-c', g.config, 'serve'], { stdio: 'ignore' })
  const curl = async (...args: string[]) => {
    const all = [
      'curl',
      '-s',
      '-m',
      '20',
      '--cacert',
      file('ca.pem'),
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      ...args,
    ]
    return (await g.lab.exec(g.lab.gateway, all, {})).stdout
  }
  const origin = 'https://127.0.0.1:7443'
  const status = `${origin}/v1/status`
  const as = (name: string) => ['--cert', file(`${name}.pem`), '--key', file(`${name}.key`)]
  await until('readiness', async () => (await curl('https://127.0.0.1:7443/readyz')) === '200', 60_000)

  t.test('a certificate is somebody, when it is signed and known', async (t) => {
    t.equal(await curl(...as('noc'), status), '200')
    t.equal(await curl(status), '401')
    t.equal(await curl(...as('stranger'), status), '401')
    t.equal(await curl(...as('self-made'), status), '401')
    t.equal(await curl(...as('for-servers'), status), '401')
    t.equal(await curl('--tls-max', '1.1', status), '000', 'nor by what is no longer safe')
    t.equal(await curl(...as('noc'), 'https://127.0.0.1:7443/v1/audit'), '403')
    t.equal(await curl('http://127.0.0.1:7443/v1/status'), '000', 'nobody is served in clear text')
    const { token } = await makeToken(g, 'prometheus', 'viewer')
    t.equal(await curl('-H', `Authorization: Bearer ${token}`, status), '200')
  })

  t.test('the command asks from elsewhere, and trusts whom it is told to trust', async (t) => {
    const { token } = await makeToken(g, 'elsewhere', 'viewer')
    await writeFile(file('token'), `${token}\n`)
    const ask = (env: Record<string, string>) =>
      g.lab.exec(g.lab.gateway, [COMMAND, 'status'], {
        env: { ...process.env, EGRESS25_URL: origin, ...env },
      })
    const known = { EGRESS25_CA_FILE: file('ca.pem'), EGRESS25_TOKEN_FILE: file('token') }
    t.match(await ask(known), { code: 0, stdout: /^gateway +gw-test/ })
    t.match(await ask({ ...known, EGRESS25_TOKEN_FILE: '' }), { code: 1, stderr: /EGRESS25_TOKEN_FILE/ })
    t.match(await ask({ ...known, EGRESS25_CA_FILE: '' }), { code: 4, stderr: /EGRESS25_CA_FILE/ })
    t.match(await ask({ ...known, EGRESS25_CA_FILE: '/nowhere' }), { code: 2, stderr: /nowhere/ })
  })

  t.test('a certificate that is revoked is nobody from SIGHUP on', async (t) => {
    t.equal(await curl(...as('stolen'), status), '200')
    // Also where it had come in before, for something that lasts.
    const argv = ['curl', '-sN', '--cacert', file('ca.pem'), ...as('stolen'), `${origin}/v1/events`] as const
    const listening = g.lab.spawn(g.lab.gateway, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => listening.kill())
    const ended = new Promise((resolve) => listening.once('close', resolve))
    await new Promise((resolve) => listening.stdout?.once('data', resolve))
    await ca('-revoke', file('stolen.pem'))
    await writeRevocations()
    service.kill('SIGHUP')
    await until('its end', async () => (await curl(...as('stolen'), status)) === '401')
    t.equal(await curl(...as('noc'), status), '200')
    await ended
  })

  t.test('a new certificate is taken at SIGHUP', async (t) => {
    const serial = async () => {
      const script =
        'openssl s_client -connect 127.0.0.1:7443 </dev/null 2>/dev/null | openssl x509 -noout -serial'
      return (await g.lab.exec(g.lab.gateway, ['sh', '-c', script], {})).stdout
    }
    const before = await serial()
    t.match(before, /^serial=/)
    await certify('server', '/CN=gw-test', '-addext', 'subjectAltName=IP:127.0.0.1', ...signed)
    service.kill('SIGHUP')
    await until('the new certificate', async () => (await serial()) !== before)
    t.equal(await curl(...as('noc'), status), '200')
  })

  t.test('after all of it', async (t) => t.equal(await g.stop(service), 0))
})
