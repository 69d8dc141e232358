/** The command beside a real service, as people and their scripts use it. */
import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { COMMAND, type Gateway, gateway, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const BOT = '100.64.3.3'
const HOST = '100.64.12.7'

/** The command on a terminal of that size, by script(1); what it wrote there. */
function onTerminal(g: Gateway, args: readonly string[], columns = 100, rows = 30) {
  const line = `stty cols ${columns} rows ${rows}; exec ${[COMMAND, '-c', g.config, ...args].join(' ')}`
  const child = g.lab.spawn(g.lab.gateway, ['script', '-qec', line, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'], TERM: 'xterm-256color' },
  })
  let text = ''
  child.stdout?.on('data', (bytes) => (text += bytes))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { type: (keys: string) => child.stdin?.write(keys), text: () => text, ended }
}

// Each has a gateway of its own, and waits a lot.
t.jobs = 2

t.test('with the service', async (t) => {
  const g = await gateway(t)
  const settings = JSON.parse(await readFile(g.config, 'utf8'))
  settings.policies.history = 'init'
  await writeFile(g.config, JSON.stringify(settings))
  await g.start()
  const attempts = Array.from({ length: 40 }, (_, i) => ({
    from: BOT,
    to: `198.51.100.${i + 1}`,
    port: 25,
  }))
  for (const outcome of await g.client.connectAll(attempts, 20)) t.equal(outcome, 'reset')
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await g.egress25(...args)
    if (code !== 0) throw new Error(`${args.join(' ')}: ${code} ${stderr}`)
    return JSON.parse(stdout)
  }

  t.test('incidents: listed, shown, acknowledged, resolved', async (t) => {
    const { items } = await until('the incident', async () => {
      const found = await json('incidents')
      return found.items.length > 0 && found
    })
    t.match(items, [{ kind: 'spam-bot', source: BOT, state: 'open' }])
    const { id } = items[0]
    t.match(await json('incidents', 'show', id), { id, source: BOT })
    t.match(await json('incidents', 'acknowledge', id), { id, acknowledged: true })
    t.match(await json('incidents', 'resolve', id), { id, state: 'resolved' })
    t.same(await json('incidents'), { items: [], next: null })
    t.match(await json('incidents', '--state', 'all'), { items: [{ id }] })
    t.match(await g.egress25('incidents', 'show', 'none'), { code: 1, stderr: /no incident none/ })
  })

  t.test('attempts and machines', async (t) => {
    await until('what is written once a second', async () => {
      const { items } = await json('attempts', '--source', BOT, '--limit', '3')
      return items.length === 3
    })
    t.match(await json('attempts', '--verdict', 'allow'), { items: [] })
    const items = await until('what is counted once a second', async () => {
      const found = (await json('sources')).items
      return found[0]?.attempts === 40 && found
    })
    t.match(items, [{ source: BOT, attempts: 40 }])
    t.match(await json('sources', BOT), { source: BOT, attempts: 40, policy: 'residential' })
  })

  t.test('what is typed wrongly is told by its name on the command line', async (t) => {
    for (const [name, ...args] of [
      ['ADDRESS', 'sources', 'nonsense'],
      ['--state', 'incidents', '--state', 'ajar'],
      ['--limit', 'attempts', '--limit', '0'],
      ['--source', 'attempts', '--source', '::ffff:10.0.0.1'],
      ['--from', 'report', '--from', 'yesterday'],
      ['--path', 'history', '--path', '/etc'],
      ['--for', 'alerts', 'silence'],
      ['--kind', 'alerts', 'silence', '--for', '1h', '--kind', 'worm'],
      ['NAME', 'token', 'create', 'Not One', '--role', 'viewer'],
      ['ID', 'token', 'revoke', 'none'],
    ] as const) {
      const { code, stderr } = await g.egress25(...args)
      t.equal(code, 2, stderr)
      t.match(stderr, `egress25: ${name} `, args.join(' '))
    }
  })

  t.test('alerts: channels looked at, tried, and silent for a while', async (t) => {
    t.match(await json('alerts', 'channels'), { items: [{ name: 'hook', type: 'webhook', dead: 0 }] })
    t.match(await json('alerts', 'test', 'hook'), { delivered: true })
    t.match(await g.egress25('alerts', 'test', 'none'), { code: 1, stderr: /no channel none/ })
    const { id } = await until('a message that has arrived', async () => {
      const { items } = await json('alerts', 'list', '--state', 'sent')
      return items[0]
    })
    t.match(await json('alerts', 'show', String(id)), { id, channel: 'hook', lines: Array })
    t.match(await json('alerts', 'resend', String(id)), { id })
    t.match(await json('alerts', 'resend', '--dead', 'hook'), { resent: 0 })
    t.equal((await g.egress25('alerts', 'resend')).code, 2)
    const silence = ['alerts', 'silence', '--for', '2h', '--kind', 'scanner', 'flood', '--reason', 'Works.']
    const made = await json(...silence)
    t.match(await json('alerts', 'silences'), {
      items: [{ id: made.id, kinds: ['scanner', 'flood'], reason: 'Works.', configured: false }],
    })
    t.match(await json('alerts', 'unsilence', made.id), { id: made.id, silenced: 0 })
    t.match(await g.egress25('alerts', 'silence', '--for', 'ever'), {
      code: 2,
      stderr: /"ever" is no duration/,
    })
  })

  t.test('explain asks the service where no directory is named', async (t) => {
    t.match(await json('explain', HOST, '203.0.113.9', '--json'), {
      verdict: 'block',
      document: { kind: 'policy', name: 'residential' },
    })
    t.equal((await g.egress25('explain', HOST)).code, 2)
  })

  t.test('an exemption: at once, and its end', async (t) => {
    const way = { from: HOST, to: '203.0.113.9', port: 25 }
    const reason = 'A mail server of its own.'
    const added = await g.egress25(
      'exempt',
      'add',
      HOST,
      '--for',
      '30d',
      '--ticket',
      'NOC-4711',
      '--reason',
      reason,
    )
    t.match(added, { code: 0, stdout: /^in force: exemption host-100-64-12-7, until \d{4}-/ })
    t.equal(await g.client.connect(way), 'connected')
    t.match(await json('exempt', 'list'), {
      items: [{ name: 'host-100-64-12-7', ticket: 'NOC-4711', reason }],
    })
    const { expires } = await json('exempt', 'show', 'host-100-64-12-7')
    const left = Date.parse(expires) - Date.now()
    t.ok(left > 29 * 86_400_000 && left < 31 * 86_400_000)
    t.match(
      await g.egress25('exempt', 'add', HOST),
      { code: 1, stderr: /exists already/ },
      'nothing is overwritten',
    )
    t.match(await g.egress25('exempt', 'add', HOST, '--name', 'x', '--for', '30'), {
      code: 2,
      stderr: /duration/,
    })
    t.match(await g.egress25('exempt', 'add', '100.64.0.1/8', '--name', 'x'), {
      code: 2,
      stderr: /SOURCE .*host bits/,
    })
    t.match(await g.egress25('exempt', 'extend', 'host-100-64-12-7'), { code: 2, stderr: /--for/ })
    t.equal((await g.egress25('exempt', 'extend', 'none', '--for', '1h')).code, 1)
    t.match(await g.egress25('exempt', 'extend', 'host-100-64-12-7', '--for', '20d'), {
      code: 0,
      stderr: `ended ${expires}`,
    })
    t.match(await g.egress25('exempt', 'extend', 'host-100-64-12-7', '--for', '60d'), { code: 0, stderr: '' })
    const extended = await json('exempt', 'show', 'host-100-64-12-7')
    t.match(extended, { ticket: 'NOC-4711', reason }, 'the rest stays')
    t.ok(Date.parse(extended.expires) > Date.parse(expires))
    t.equal(await g.client.connect(way), 'connected')
    const revoke = ['exempt', 'revoke', 'host-100-64-12-7', '--reason', 'Nicht mehr nötig.']
    t.equal((await g.egress25(...revoke)).code, 0)
    t.equal(await g.client.connect(way), 'reset')
    const useless = await g.egress25('exempt', 'add', '8.8.8.8')
    t.match(useless, { code: 0, stderr: /no policy governs/ }, 'what does nothing says so')
    t.equal((await g.egress25('exempt', 'revoke', 'host-100-64-12-7')).code, 1)
  })

  t.test('the history, and the way back', async (t) => {
    const { items } = await json('history', '--path', 'exemptions/host-100-64-12-7.yaml')
    t.match(items, [
      { subject: /removed/, reason: 'Nicht mehr nötig.' },
      { subject: /changed/, reason: null },
      { subject: /changed/, reason: null },
      { subject: /added/, reason: 'A mail server of its own.' },
    ])
    const [{ revision }] = items
    t.match(await json('history', 'show', revision.slice(0, 10)), { revision, diff: /-ticket: NOC-4711/ })
    const reverted = await json('history', 'revert', revision, '--reason', 'It was.')
    t.match(reverted, { reverts: revision, reason: 'It was.' })
    t.match(await json('history', 'show'), { revision: reverted.revision })
    t.equal(await g.client.connect({ from: HOST, to: '203.0.113.9', port: 25 }), 'connected')
    t.equal((await g.egress25('exempt', 'revoke', 'host-100-64-12-7')).code, 0)
    t.match(await g.egress25('history', 'show', 'yesterday'), { code: 2, stderr: /no revision/ })
    t.equal((await g.egress25('history', 'revert', '0123456')).code, 1)
    t.match(await g.egress25('pull'), { code: 1, stderr: /policies.remote/ })
  })

  t.test('an exemption that is asked for, and decided on', async (t) => {
    const { id, state } = await json(
      'exempt',
      'request',
      '100.64.12.8',
      '--for',
      '7d',
      '--reason',
      'A relay of ours.',
    )
    t.equal(state, 'requested')
    t.match(await json('exempt', 'requests', '--state', 'requested'), { items: [{ id }] })
    t.match(await json('exempt', 'approve', id, '--reason', 'as agreed'), { state: 'expiring' })
    t.equal(await g.client.connect({ from: '100.64.12.8', to: '203.0.113.9', port: 25 }), 'connected')
    t.equal((await g.egress25('exempt', 'refuse', id)).code, 1, 'too late')
    t.match(await g.egress25('exempt', 'approve', 'x'), { code: 2, stderr: /exempt requests/ })
    const other = await json('exempt', 'request', '100.64.12.9')
    t.match(await json('exempt', 'withdraw', other.id), { state: 'withdrawn' })
  })

  t.test('on a terminal: tables, with colours unless somebody minds', async (t) => {
    const sources = onTerminal(g, ['sources'])
    t.equal(await sources.ended, 0)
    t.match(sources.text(), /SOURCE +ATTEMPTS/)
    t.match(sources.text(), new RegExp(`\u001b\\[1m${BOT}`))
    const plain = onTerminal(g, ['sources', '--json'])
    await plain.ended
    t.ok(JSON.parse(plain.text()).items.length >= 1)
  })

  t.test('watch: a view of what happens, and the terminal as it was', async (t) => {
    const view = onTerminal(g, ['watch'])
    await until('the view', async () => view.text().includes('in sync, listening'))
    t.equal(await g.client.connect({ from: '100.64.8.8', to: '203.0.113.77', port: 25 }), 'reset')
    await until('the attempt', async () => view.text().includes('100.64.8.8 → 203.0.113.77'))
    t.ok(view.text().startsWith('\u001b[?1049h'))
    view.type('q')
    t.equal(await view.ended, 0)
    t.ok(view.text().endsWith('\u001b[?25h\u001b[?1049l'), 'the cursor and the screen from before')
  })

  t.test('watch in a pipe: a line for each event, until nobody reads', async (t) => {
    const pipe = g.lab.spawn(
      g.lab.gateway,
      ['sh', '-c', `${COMMAND} -c ${g.config} watch --json | head -1`],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    let text = ''
    pipe.stdout?.on('data', (bytes) => (text += bytes))
    let status: number | null = null
    pipe.once('close', (code) => {
      status = code
    })
    const attempt = () => g.client.connect({ from: BOT, to: '203.0.113.9', port: 25 })
    await until('a line', async () => {
      await attempt()
      return text.includes('\n')
    })
    t.match(JSON.parse(text), { type: 'attempt', source: BOT, time: /Z$/ })
    // What it writes next tells it; not every attempt of one who makes many is told.
    await until('its end', async () => {
      await attempt()
      return status !== null
    })
    t.equal(status, 0)
  })
})

t.test('without the service: files, that an apply brings into force', async (t) => {
  const g = await gateway(t)
  const added = await g.egress25('exempt', 'add', HOST, '--to', '203.0.113.0/24', '--ticket', 'NOC-1')
  t.match(added, { code: 0, stdout: /no service runs/ })
  const path = join(g.directory, 'policies/exemptions/host-100-64-12-7.yaml')
  t.match(await readFile(path, 'utf8'), /^kind: exemption\nname: host-100-64-12-7\n/)
  t.equal((await g.egress25('exempt', 'add', HOST)).code, 1, 'nothing is overwritten')
  t.match(await g.egress25('exempt', 'add', '@nobody', '--name', 'x'), {
    code: 1,
    stderr: /nothing was changed/,
  })
  t.equal((await g.egress25('apply')).code, 0)
  t.equal(await g.client.connect({ from: HOST, to: '203.0.113.9', port: 25 }), 'connected')
  t.equal((await g.egress25('exempt', 'revoke', 'host-100-64-12-7')).code, 0)
  t.equal((await g.egress25('apply')).code, 0)
  t.equal(await g.client.connect({ from: HOST, to: '203.0.113.9', port: 25 }), 'reset')
  t.match(await g.egress25('exempt', 'list'), {
    code: 0,
    stdout: '{"items":[],"next":null}\n',
    stderr: /files/,
  })
  t.equal((await g.egress25('exempt', 'show', 'none')).code, 1)
  for (const args of [['incidents'], ['sources'], ['history'], ['watch']]) {
    t.match(await g.egress25(...args), { code: 4, stderr: /does not answer/ }, args.join(' '))
  }
})

/** Runs a program with text for its standard input. */
function feed(
  argv: readonly [string, ...string[]],
  input: string,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1))
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += bytes))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
    child.stdin.end(input)
  })
}

t.test('a socket that the caller may not use', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'egress25-socket-'))
  const server = createServer()
  t.teardown(async () => {
    server.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 9 })
  })
  const socket = join(folder, 'api.sock')
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  await chmod(socket, 0)
  const config = join(folder, 'egress25.yaml')
  await mkdir(join(folder, 'policies'))
  await writeFile(join(folder, 'policies/p.yaml'), 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\n')
  await writeFile(
    config,
    `policies: { directory: ${folder}/policies }\napi: { listen: ["unix:${socket}"] }\n`,
  )
  // Root, without its power to pass over the permissions of files.
  const weak = ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] as const
  const ask = (...args: string[]) => feed([...weak, COMMAND, '-c', config, ...args], '')
  t.match(await ask('status'), { code: 4, output: /EACCES.*sudo/ })
  for (const args of [
    ['explain', '10.0.0.1', '203.0.113.9'],
    ['exempt', 'list'],
  ]) {
    const { code, output } = await ask(...args)
    t.equal(code, 0, 'the files may be read')
    t.match(output, /sudo/)
    t.notMatch(output, /no service runs/)
  }
  // Whoever may not ask the service that is there does not write behind its back either.
  t.match(await ask('exempt', 'add', '10.0.0.2'), { code: 4, output: /sudo/ })
  t.match(await ask('exempt', 'revoke', 'any'), { code: 4, output: /sudo/ })
  t.same(await readdir(join(folder, 'policies')), ['p.yaml'])
})

t.test('shells complete the command', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'egress25-shells-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 9 }))
  const script = async (shell: string) => (await feed([COMMAND, 'completion', shell], '')).output

  t.test('bash', async (t) => {
    const functions = await script('bash')
    const offered = async (...words: string[]) => {
      const text = `${functions}
COMP_WORDS=(egress25 ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}
_egress25; printf '%s\\n' "\${COMPREPLY[@]}"`
      return (await feed(['bash', '--norc'], text)).output.trim().split('\n')
    }
    t.same((await offered('exempt', '')).filter((word) => /^[a-z]+$/.test(word)).slice(0, 2), [
      'add',
      'extend',
    ])
    t.same(await offered('incidents', 'ack'), ['acknowledge'])
    t.same(await offered('exempt', 'add', '--re'), ['--reason'])
    t.ok((await offered('')).includes('rollback'))
  })

  t.test('zsh', async (t) => {
    await writeFile(join(folder, '_egress25'), await script('zsh'))
    // The completion runs inside of zsh's line editor only, so zsh gets a terminal to type into.
    const text = `
import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM='dumb', PS1='ready> ')
    os.execvp('zsh', ['zsh', '-f', '-i'])
seen = b''
def until(what, seconds=60):
    global seen
    deadline = time.time() + seconds
    while what not in seen:
        if time.time() > deadline: sys.exit('in vain for %r in %r' % (what, seen))
        if select.select([fd], [], [], 0.1)[0]: seen += os.read(fd, 65536)
until(b'ready> ')
os.write(fd, b'fpath=(${folder} $fpath); autoload -U compinit; compinit -u -D; echo lo""aded\\n')
until(b'loaded\\r\\n')
os.write(fd, b'egress25 incidents ack\\t')
until(b'acknowledge')
os.write(fd, b'\\x15egress25 exempt add --re\\t')
until(b'--reason')
os.write(fd, b'\\x15egress25 exempt \\t')
until(b'revoke')
print('done')
os.kill(pid, 9)
`
    const { code, output } = await feed(['python3', '-'], text)
    t.equal(code, 0, output)
  })
})

t.test('manual pages are well formed, and know every command', async (t) => {
  const pages = new Map<string, string>()
  for (const page of ['egress25.1', 'egress25.yaml.5', 'egress25-policies.5']) {
    const { code, output } = await feed([COMMAND, 'manual', page], '')
    t.equal(code, 0)
    const lint = await feed(['mandoc', '-Tlint', '-Wwarning'], output)
    t.equal(lint.output, '', page)
    pages.set(page, output)
  }
  const output = pages.get('egress25.1') ?? ''
  const words = (await feed([COMMAND, 'completion', 'bash'], '')).output
  for (const [, path = ''] of words.matchAll(/^ {4}'([a-z ]+)'\)/gm)) {
    if (path !== '' && path !== 'exempt') t.ok(output.includes(`\\fB${path.replaceAll('-', '\\-')}`), path)
  }
  t.match(output, /explain \[DIR\] SOURCE DESTINATION/, 'arguments as they are typed')
  t.match(output, /exempt add SOURCE\.\.\./)
  // Groff takes bytes for letters.
  for (const [page, text] of pages) t.notMatch(text, /[^\n -~]/, page)
  t.equal((await feed([COMMAND, 'manual', 'nonsense'], '')).code, 2)
  t.equal((await feed([COMMAND, 'completion', 'fish'], '')).code, 2)
  t.ok((await readFile(join(ROOT, 'scripts/install'), 'utf8')).includes('install_helps'))
})
