/**
 * Policies in git with the real service and kernel: whatever kills it, what was acknowledged is in the history once; and
 * they come from, and go back to, a remote behind a real sshd.
 */
import { createHmac } from 'node:crypto'
import { chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { run } from '../../scripts/lab/process.ts'
import { type Gateway, gateway, POLICIES, until } from './gateway.ts'
import { type Sshd, startSshd } from './sshd.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

// They wait most of the time.
t.jobs = 2

interface Page {
  readonly items: readonly { readonly name: string }[]
  readonly next: string | null
}

t.test('killed while exemptions come in', { buffered: true }, async (t) => {
  const g = await gateway(t)
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  config.policies.history = 'init'
  config.api.loopback_role = 'admin'
  await writeFile(g.config, JSON.stringify(config))
  const policies = config.policies.directory
  const git = async (...args: string[]) =>
    (await run(['git', '-c', `safe.directory=${policies}`, '-C', policies, ...args])).stdout.trim()
  const acknowledged: string[] = []
  let number = 0
  for (let round = 0; round < 4; round++) {
    const service = await g.start()
    const before = acknowledged.length
    let killed = false
    const clients = Array.from({ length: 4 }, async () => {
      while (!killed) {
        const name = `e${++number}`
        const body = { sources: [`100.64.${number >> 8}.${number & 255}`], reason: 'because' }
        const answer = await g
          .ask('PUT', `/v1/exemptions/${name}`, body, { 'egress25-reason': `Nr ${name}` })
          .catch(() => null)
        if (answer?.status === 201) acknowledged.push(name)
        else if (answer !== null && !killed) t.fail(answer.text)
      }
    })
    // However busy the machine is.
    await until('the first', async () => acknowledged.length > before)
    await sleep(Math.random() * 4000)
    killed = true
    const ended = g.stop(service, 'SIGKILL')
    await Promise.all([ended, ...clients])
  }
  const service = await g.start()
  await until(
    'the queue',
    async () => {
      const { repository } = (await g.get('/v1/status')) as unknown as {
        repository: { waiting: number; failure: string | null }
      }
      return repository.waiting === 0 && repository.failure === null
    },
    60_000,
  )
  const subjects = (await git('log', '--format=%s')).split('\n')
  t.ok(acknowledged.length >= 4, `${acknowledged.length} acknowledged of ${number}`)
  for (const name of acknowledged)
    t.equal(subjects.filter((one) => one === `exemption ${name}: added`).length, 1, name)
  t.equal(await git('status', '--porcelain'), '')
  const listed: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const page: Page = (await g.get(
      `/v1/exemptions?limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`,
    )) as unknown as Page
    listed.push(...page.items.map(({ name }) => name))
    cursor = page.next
  }
  t.same(
    acknowledged.filter((name) => !listed.includes(name)),
    [],
  )
  t.comment(`${acknowledged.length} acknowledged, ${subjects.length} commits, ${listed.length} listed`)
  const explained = await g.get(
    `/v1/explain?source=100.64.${Number(acknowledged[0]?.slice(1)) >> 8}.${Number(acknowledged[0]?.slice(1)) & 255}&destination=203.0.113.9`,
  )
  t.match(explained, { verdict: 'allow' })
  t.equal(await g.stop(service), 0)
})

/** A bare repository with the policies, and a clone for somebody who works on it. */
async function gitServer(
  g: Gateway,
): Promise<{ bare: string; clone: string; git: (where: string, ...args: string[]) => Promise<string> }> {
  const bare = join(g.directory, 'policies.git')
  const clone = join(g.directory, 'clone')
  const git = async (where: string, ...args: string[]) => {
    const who = ['-c', 'user.name=Bob', '-c', 'user.email=bob@example.net', '-c', 'init.defaultBranch=main']
    const { code, stdout, stderr } = await run(['git', ...who, '-C', where, ...args])
    if (code !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`)
    return stdout.trim()
  }
  await git(g.directory, 'init', '--quiet', '--bare', bare)
  await git(g.directory, 'init', '--quiet', clone)
  for (const [path, text] of Object.entries(POLICIES)) await writeFile(join(clone, path), text)
  await git(clone, 'remote', 'add', 'origin', bare)
  await git(clone, 'add', '.')
  await git(clone, 'commit', '--quiet', '-m', 'Begin')
  await git(clone, 'push', '--quiet', 'origin', 'HEAD:main')
  return { bare, clone, git }
}

interface Status {
  readonly repository: {
    readonly edited: { readonly state: string }
    readonly remote: { readonly state: string; readonly ahead: number; readonly reason: string | null }
  }
}

t.test('a remote behind ssh, and exemptions under four eyes', { buffered: true }, async (t) => {
  const g = await gateway(t, {})
  const policies = join(g.directory, 'policies')
  await mkdir(policies)
  const { bare, clone, git } = await gitServer(g)
  let sshd: Sshd = await startSshd(t, g.lab, join(g.directory, 'ssh'))
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  Object.assign(config.policies, {
    history: 'init',
    by_hand: 'apply',
    remote: `ssh://root@127.0.0.1:${sshd.port}${bare}`,
    poll: '1d',
    ssh_key: sshd.clientKey,
    known_hosts: sshd.knownHosts,
    webhook_secret_file: join(g.directory, 'secret'),
  })
  config.api.loopback_role = 'admin'
  config.exemptions = { four_eyes: true, on_anomaly: 'revoke' }
  await writeFile(g.config, JSON.stringify(config))
  const service = await g.start()
  const status = async () => (await g.get('/v1/status')) as unknown as Status
  const code = (text: string) => (JSON.parse(text) as { code: string }).code

  t.test('what is there comes, and what is changed here goes there', async (t) => {
    await until('the first pull', async () => (await status()).repository.remote.state === 'in-step')
    t.match(await g.get('/v1/policies/residential'), { name: 'residential' })
    const body = { addresses: ['192.0.2.26'] }
    t.equal((await g.ask('PUT', '/v1/relays/second', body, { 'egress25-reason': 'More.' })).status, 201)
    await until('the push', async () =>
      /relay second: added/.test(await git(bare, 'log', '-1', '--format=%s', 'main')),
    )
  })

  t.test('a webhook that is signed makes it pull; any other does not', async (t) => {
    await git(clone, 'pull', '--quiet', 'origin', 'main')
    await writeFile(join(clone, 'third.yaml'), 'kind: relay\nname: third\naddresses: [192.0.2.27]\n')
    await git(clone, 'add', '.')
    await git(clone, 'commit', '--quiet', '-m', 'A third')
    await git(clone, 'push', '--quiet', 'origin', 'HEAD:main')
    const body = { ref: 'refs/heads/main' }
    const mac = (secret: string, text: string) => createHmac('sha256', secret).update(text).digest('hex')
    const text = JSON.stringify(body)
    const post = (headers: Record<string, string>) => g.ask('POST', '/v1/pull/webhook', body, headers)
    const now = Math.floor(Date.now() / 1_000)
    const own = (time: number) => ({
      'egress25-signature': `t=${time},v1=${mac('sesame', `${time}.${text}`)}`,
    })
    for (const headers of [
      {},
      { 'x-hub-signature-256': `sha256=${mac('guessed', text)}` },
      { 'x-hub-signature-256': `sha256=${mac('sesame', `${text} `)}` },
      own(now - 3_600),
      own(now + 3_600),
    ]) {
      const refused = await post(headers as Record<string, string>)
      t.same([refused.status, code(refused.text)], [401, 'unauthenticated'])
    }
    t.equal((await g.ask('GET', '/v1/relays/third')).status, 404)
    t.equal((await post({ 'x-hub-signature-256': `sha256=${mac('sesame', text)}` })).status, 202)
    await until('what is new', async () => (await g.ask('GET', '/v1/relays/third')).status === 200)
    t.equal((await post(own(now))).status, 202)
  })

  await t.test('what is edited by hand comes into force when it is sound', async (t) => {
    const file = join(policies, 'by-hand.yaml')
    const edited = (state: string) =>
      until(state, async () => (await status()).repository.edited.state === state)
    await writeFile(file, 'kind: relay\nname: by-hand\naddresses: [192.0.2.28]\n')
    await until('it', async () => (await g.ask('GET', '/v1/relays/by-hand')).status === 200)
    t.equal((await g.get('/v1/explain?source=192.0.2.28&destination=203.0.113.9'))['verdict'], 'allow')
    await writeFile(file, 'kind: relay\nname: by-hand\naddresses: [192.0.2.28/24]\n')
    await edited('unsound')
    t.equal((await g.ask('GET', '/v1/relays/by-hand')).status, 200, 'what was sound stays')
    await rm(file)
    await edited('in-force')
    t.equal((await g.ask('GET', '/v1/relays/by-hand')).status, 404)
  })

  const roles = { alice: 'operator', bob: 'operator', carol: 'admin', rita: 'requester', victor: 'viewer' }
  const tokens = new Map<string, string>()
  for (const [name, role] of Object.entries(roles)) {
    const made = await g.egress25('token', 'create', name, '--role', role, '--json')
    tokens.set(name, JSON.parse(made.stdout).token)
  }
  const as = (name: string, method: string, path: string, body?: unknown, headers = {}) =>
    g.ask(method, path, body, { authorization: `Bearer ${tokens.get(name)}`, ...headers })
  const HOST = '100.64.12.7'
  const way = { from: HOST, to: '203.0.113.9', port: 25 }
  const request = async (by: string, name: string) => {
    const body = { name, sources: [HOST], destinations: ['203.0.113.0/24'], reason: 'Mail.' }
    const { status, text } = await as(by, 'POST', '/v1/exemption-requests', body)
    t.equal(status, 201, text)
    return `/v1/exemption-requests/${JSON.parse(text).id}`
  }

  t.test('whoever asks does not approve', async (t) => {
    const put = { sources: [HOST] }
    const direct = await as('alice', 'PUT', '/v1/exemptions/direct', put)
    t.same([direct.status, code(direct.text)], [403, 'four-eyes'])
    const asked = await request('alice', 'asked')
    const alone = await as('alice', 'POST', `${asked}/approve`, {})
    t.same([alone.status, code(alone.text)], [403, 'four-eyes'])
    t.equal(await g.client.connect(way), 'reset')
    const waiting = async () =>
      /^egress25_exemption_requests_waiting (\d+)$/m.exec((await as('victor', 'GET', '/metrics')).text)?.[1]
    t.equal(await waiting(), '1')
    t.equal((await as('bob', 'POST', `${asked}/approve`, { reason: 'Seen.' })).status, 200)
    t.equal(await waiting(), '0')
    t.equal(await g.client.connect(way), 'connected')
    t.match(JSON.parse((await as('victor', 'GET', asked)).text), {
      state: 'in-force',
      requested: { by: 'alice' },
      decided: { by: 'bob', reason: 'Seen.' },
    })
    await until('its commit', async () => {
      const { author } = JSON.parse((await as('victor', 'GET', '/v1/history/HEAD')).text)
      return author.name === 'bob'
    })
  })

  t.test('an exempt host that turns into a bot is exempt no longer', async (t) => {
    const attempts = Array.from({ length: 60 }, (_, i) => ({
      from: HOST,
      to: `198.51.100.${i + 1}`,
      port: 25,
    }))
    await g.client.connectAll(attempts, 20)
    await until(
      'the end of it',
      async () => (await as('victor', 'GET', '/v1/exemptions/asked')).status === 404,
    )
    t.equal(await g.client.connect(way), 'reset')
    const { items } = JSON.parse((await as('victor', 'GET', '/v1/incidents?state=open')).text)
    t.match(items, [{ kind: 'spam-bot', source: HOST }])
    // The commit comes right behind the change, and the alert behind both.
    const { reason } = await until('its commit', async () => {
      const head = JSON.parse((await as('victor', 'GET', '/v1/history/HEAD')).text)
      return head.subject === 'exemption asked: removed' && head
    })
    t.match(reason, items[0].id)
    await until('the alert', async () =>
      g.deliveries.some(({ body }) => JSON.parse(body).event === 'exemption-revoked'),
    )
  })

  t.test('it is exempted again only by somebody who knows, and says why', async (t) => {
    const again = await request('rita', 'again')
    const approve = (body: object) => as('bob', 'POST', `${again}/approve`, body)
    const first = await approve({ reason: 'Yes.' })
    t.same([first.status, code(first.text)], [409, 'open-incident'])
    t.match(JSON.parse(first.text), { incidents: [{ kind: 'spam-bot', source: HOST }] })
    const silent = await approve({ override_incident: true })
    t.same([silent.status, code(silent.text)], [422, 'reason-required'])
    const past = await as('carol', 'PUT', '/v1/exemptions/past', { sources: [HOST] })
    t.same([past.status, code(past.text)], [409, 'open-incident'])
    const add = ['exempt', 'add', HOST, '--name', 'past', '--override-incident']
    t.equal((await g.egress25(...add)).code, 1, 'without a reason')
    t.equal(await g.client.connect(way), 'reset')
    t.equal((await approve({ override_incident: true, reason: 'It was a test of ours.' })).status, 200)
    t.equal(await g.client.connect(way), 'connected')
    t.equal((await g.egress25(...add, '--reason', 'And this.')).code, 0)
    await g.client.connectAll(
      Array.from({ length: 5 }, () => ({ ...way, to: '198.51.100.1' })),
      5,
    )
    t.equal((await as('victor', 'GET', '/v1/exemptions/again')).status, 200, 'it was meant, and stays')
  })

  t.test(
    'nor does it come back with a revision or a list, unless somebody knows, and says why',
    async (t) => {
      const over = '?override_incident=true'
      const why = { 'egress25-reason': 'It is clean: seen on site.' }
      const { items } = JSON.parse((await as('victor', 'GET', '/v1/history?limit=100')).text)
      const removed = items.find(({ subject }: { subject: string }) => subject === 'exemption asked: removed')
      const revert = `/v1/history/${removed.revision}/revert`
      const refused = await as('carol', 'POST', revert)
      t.same([refused.status, code(refused.text)], [409, 'open-incident'])
      t.match(JSON.parse(refused.text), { incidents: [{ kind: 'spam-bot', source: HOST }] })
      t.equal(code((await as('carol', 'POST', `${revert}?dry_run=true`)).text), 'open-incident')
      t.equal(code((await as('carol', 'POST', `${revert}${over}`)).text), 'reason-required')
      t.equal((await as('victor', 'GET', '/v1/exemptions/asked')).status, 404)
      const command = ['history', 'revert', removed.revision]
      t.equal((await g.egress25(...command)).code, 1)
      t.equal((await g.egress25(...command, '--override-incident', '--reason', 'Clean.')).code, 0)
      t.equal((await as('victor', 'GET', '/v1/exemptions/asked')).status, 200)

      const list = (prefixes: string[], query = '', headers = {}) =>
        as('carol', 'PUT', `/v1/lists/spare${query}`, { prefixes }, { 'if-match': '*', ...headers })
      const spare = { prefixes: ['100.64.12.9'] }
      t.equal((await as('carol', 'PUT', '/v1/lists/spare', spare, { 'if-none-match': '*' })).status, 201)
      t.equal((await as('carol', 'PUT', '/v1/exemptions/spare', { sources: ['@spare'] })).status, 201)
      const wider = ['100.64.12.0/29', '100.64.12.9']
      t.equal(code((await list(wider)).text), 'open-incident')
      t.equal(code((await list(wider, over)).text), 'reason-required')
      t.equal((await list(wider, over, why)).status, 200)
      t.equal((await list([...wider, '100.64.12.10'])).status, 200, 'what is in force is not asked again')
    },
  )

  t.test('whoever is said to be clean, and is not, is exempt no longer once more', async (t) => {
    const host = '100.64.12.77'
    const exemption = { sources: [host], destinations: ['203.0.113.0/24'] }
    for (const round of ['first', 'second']) {
      const name = `/v1/exemptions/${round}`
      t.equal((await as('carol', 'PUT', name, exemption)).status, 201)
      const to = (i: number) => `198.51.100.${i + 1}`
      await g.client.connectAll(
        Array.from({ length: 60 }, (_, i) => ({ from: host, to: to(i), port: 25 })),
        20,
      )
      await until(round, async () => (await as('victor', 'GET', name)).status === 404)
      const { items } = JSON.parse((await as('victor', 'GET', '/v1/incidents?state=open')).text)
      const incident = items.find(({ source }: { source: string }) => source === host)
      t.match(incident, { kind: 'spam-bot' })
      const resolve = `/v1/incidents/${incident.id}/resolve`
      t.equal((await as('alice', 'POST', resolve)).status, 200)
    }
  })

  t.test('another host key is not spoken to', async (t) => {
    await sshd.stop()
    sshd = await startSshd(t, g.lab, join(g.directory, 'ssh-of-somebody-else'), sshd)
    const pulled = await g.ask('POST', '/v1/pull')
    t.same([pulled.status, code(pulled.text)], [503, 'history-failed'])
    t.match((await status()).repository.remote, { state: 'unreachable', reason: /[Hh]ost key/ })
    t.match(await g.egress25('status'), { code: 0, stdout: /remote +main: unreachable/ })
    const metrics = (await as('victor', 'GET', '/metrics')).text
    t.match(metrics, /^egress25_pull_state\{state="unreachable"\} 1$/m)
    t.match(metrics, /^egress25_pull_state\{state="in-step"\} 0$/m)
    t.match(metrics, /^egress25_pull_last_success_timestamp_seconds\{branch="main"\} 1\d{9}/m)
    t.match(metrics, /^egress25_history_waiting 0$/m)
  })

  t.test('after all of it', async (t) => t.equal(await g.stop(service), 0))
})

t.test(
  "a repository that is somebody else's is not used, and that is said",
  { buffered: true },
  async (t) => {
    const g = await gateway(t)
    const policies = join(g.directory, 'policies')
    await run(['git', '-C', policies, 'init', '--quiet'])
    await chown(join(policies, '.git'), 64_025, 64_025)
    await g.start()
    t.equal((await g.ask('PUT', '/v1/exemptions/acme', { sources: ['100.64.12.7'] })).status, 201)
    const { repository } = await g.get('/v1/status')
    t.match(repository, { reason: /another user/, failure: /another user/, waiting: 0 })
    t.match(await g.egress25('status'), { code: 0, stdout: /^history +NONE: .*another user/m })
    t.match((await g.ask('GET', '/metrics')).text, /^egress25_history_ok 0$/m)
    t.match(await g.log(), /"level":50.*another user.*changes are not committed/)
  },
)
