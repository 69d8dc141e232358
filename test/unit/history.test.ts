/** Policies in git: what was acknowledged is in the history once, and what others do there is theirs. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import t, { type Test } from 'tap'
import { toApiError } from '../../src/api/http/errors.ts'
import { isSigned } from '../../src/api/routes/pull.ts'
import { DocumentError } from '../../src/control/changes/document-change.ts'
import { AnomalyRevocation } from '../../src/control/exemptions/anomaly-revocation.ts'
import { ExemptionRequests } from '../../src/control/exemptions/exemption-requests.ts'
import type { Incident, IncidentEvent } from '../../src/detect/incident.ts'
import type { RequestEvent } from '../../src/exemptions/exemption-request.ts'
import { newlyExempted } from '../../src/exemptions/infected-hosts.ts'
import { revertSubject, signatureOf } from '../../src/history/change-record.ts'
import { UnchangeableError } from '../../src/history/history-error.ts'
import { KernelError } from '../../src/kernel/kernel-error.ts'
import { runProcess } from '../../src/kernel/process.ts'
import type { Exemption, Model } from '../../src/policy/model.ts'
import { parsePrefix } from '../../src/policy/prefix.ts'
import { PrefixSet } from '../../src/policy/prefix-set.ts'
import { openDatabase } from '../../src/store/database.ts'
import { type DueRevocation, DueRevocations } from '../../src/store/due-revocations.ts'
import { ExemptionRequestStore } from '../../src/store/exemption-requests.ts'
import { ALICE, git, openDesk, POLICIES, workTree } from './history-support.ts'
import { directory, run } from './support.ts'

const EXEMPTION = { sources: ['100.64.12.7'], ticket: 'NOC-1' }

t.test('a change through the API is one commit', async (t) => {
  const root = await workTree(t)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  await writeFile(join(root, 'notes.txt'), 'not mine to commit\n')
  await git(root, 'add', 'notes.txt')

  await desk.put('exemption', 'acme', EXEMPTION, 'They asked.\n\nReviewed-by: nobody')
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'observe' })
  await desk.history.recorder.settle()
  t.equal(await git(root, 'rev-list', '--count', 'HEAD'), '3')
  t.equal(await git(root, 'status', '--porcelain'), 'A  notes.txt', 'what somebody has staged stays staged')
  t.equal(
    await readFile(join(root, 'policies/residential.yaml'), 'utf8'),
    POLICIES['policies/residential.yaml'].replace('enforce', 'observe'),
    'comments and layout stay',
  )

  const { revisions, next } = await desk.history.list(null, 2, null)
  t.match(revisions, [
    { subject: 'policy residential: changed', author: { email: 'alice@example.net' }, requestId: 'req-1' },
    { subject: 'exemption acme: added', reason: 'They asked.\n\nReviewed-by: nobody', reverts: null },
  ])
  const older = await desk.history.list(next, 2, null)
  t.match(older, { revisions: [{ subject: 'Begin', requestId: null }], next: null })
  t.match((await desk.history.list(null, 10, 'exemptions')).revisions, [{ subject: /acme/ }])

  const shown = await desk.history.show(revisions[0]?.id ?? '')
  t.match(shown, {
    documents: [{ change: 'changed', kind: 'policy', name: 'residential' }],
    files: [{ path: 'policies/residential.yaml', change: 'changed' }],
    patch: /-mode: enforce\n\+mode: observe/,
  })
  await t.rejects(desk.history.show('abcdef0'), /there is no revision/)
  await t.rejects(desk.history.show('--output=x'), /there is no revision/)
  t.match(await desk.history.show(await git(root, 'rev-list', '--max-parents=0', 'HEAD')), {
    documents: [{ change: 'added', name: 'residential' }],
  })

  await desk.controller.delete('exemption', 'acme', { by: ALICE, dryRun: false, mayGoAhead() {} })
  await desk.history.recorder.settle()
  t.equal(await git(root, 'log', '-1', '--format=%s'), 'exemption acme: removed')
  t.equal(await git(root, 'ls-files', 'exemptions'), '')

  const seen = await git(root, 'rev-parse', 'HEAD')
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'observe' })
  await desk.history.recorder.settle()
  t.equal(await git(root, 'rev-parse', 'HEAD'), seen, 'what changes nothing is no commit')
})

t.test('a file stays what it is when a document in it changes', async (t) => {
  const bom = '\ufeff'
  const windows = `${bom}kind: relay # first\r\nname: a\r\naddresses: [192.0.2.1]\r\n---\r\nkind: relay\r\nname: b # last\r\naddresses: [192.0.2.2]\r\n`
  const root = await workTree(t, {
    'relays é/from windows.yaml': windows,
    'shared.yaml': POLICIES['policies/residential.yaml'],
  })
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  await chmod(join(root, 'shared.yaml'), 0o666)
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'observe' })
  t.equal((await stat(join(root, 'shared.yaml'))).mode & 0o777, 0o666, 'whoever could write it still can')
  await desk.put('relay', 'b', { addresses: ['192.0.2.2', '192.0.2.3'] })
  t.equal(
    await readFile(join(root, 'relays é/from windows.yaml'), 'utf8'),
    windows.replace('[192.0.2.2]', '[192.0.2.2, 192.0.2.3]'),
  )
  await desk.put('relay', 'a', { addresses: ['192.0.2.4'] })
  await desk.controller.delete('relay', 'b', { by: ALICE, dryRun: false, mayGoAhead() {} })
  t.equal(
    await readFile(join(root, 'relays é/from windows.yaml'), 'utf8'),
    `${bom}kind: relay # first\r\nname: a\r\naddresses: [192.0.2.4]\r\n`,
  )
  await desk.history.recorder.settle()
  t.equal(await git(root, 'status', '--porcelain'), '')
})

t.test('line ends as the attributes of the repository say', async (t) => {
  const shared = 'exemptions/shared.yaml'
  let foreign = 0
  const two = ['c', 'd']
    .map((name) => `kind: exemption\nname: ${name}\nsources: [100.64.12.7]\n`)
    .join('---\n')
  for (const [attributes, ...config] of [
    ['*.yaml eol=crlf\n'],
    ['* text=auto\n', 'core.autocrlf', 'true'],
    ['* text=auto\n', 'core.eol', 'crlf'],
    ['* text=auto\n'],
    ['*.yaml text\n'],
  ]) {
    const root = await workTree(t, { ...POLICIES, [shared]: two, '.gitattributes': attributes ?? '' })
    if (config.length > 0) await git(root, 'config', ...config)
    for (const file of [shared, 'policies/residential.yaml']) {
      await rm(join(root, file))
      await git(root, 'checkout', '--quiet', '--', file)
    }
    const text = () => readFile(join(root, shared), 'utf8')
    const isForeign = (await text()).includes('\r\n')
    if (isForeign) foreign++
    const say = `${attributes} ${config.join('=')}`
    const desk = await openDesk(t, root)
    t.teardown(() => desk.close())
    const put = (name: string, ticket: string) => desk.put('exemption', name, { ...EXEMPTION, ticket })
    await put('c', 'NOC-1')
    await put('d', 'NOC-2')
    await desk.history.recorder.settle()
    await put('c', 'NOC-3')
    await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'observe' })
    await put('new', 'NOC-4')
    await desk.history.recorder.settle()
    t.equal(/(?<!\r)\n/.test(await text()), !isForeign, say)
    t.match(await text(), /NOC-3.*NOC-2/s)
    t.notMatch(await git(root, 'cat-file', '-p', `HEAD:${shared}`), /\r/, say)
    t.equal(await git(root, 'status', '--porcelain'), '', say)
    t.equal(
      await git(root, 'diff', '--stat', 'HEAD~5', 'HEAD~4', '--', shared),
      ` ${shared} | 1 +\n 1 file changed, 1 insertion(+)`.trim(),
    )
    for (const name of ['c', 'd'])
      await desk.controller.delete('exemption', name, { by: ALICE, dryRun: false, mayGoAhead() {} })
    await desk.history.recorder.settle()
    t.equal(await git(root, 'status', '--porcelain'), '', say)
    t.equal(await git(root, 'ls-files', shared), '')
  }
  t.equal(foreign, 3)
})

t.test('no filter of the repository is run', async (t) => {
  const root = await workTree(t, { ...POLICIES, '.gitattributes': 'secret/*.yaml filter=crypt\n' })
  const ran = join(await directory(t), 'ran')
  await git(root, 'config', 'filter.crypt.clean', `touch ${ran}; tr a-z n-za-m`)
  await git(root, 'config', 'filter.crypt.required', 'true')
  await mkdir(join(root, 'secret'))
  const file = join(root, 'secret/acme.yaml')
  await writeFile(file, 'kind: exemption\nname: acme\nsources: [100.64.12.7]\n')
  await git(root, 'add', '.')
  await git(root, 'commit', '--quiet', '-m', 'Secret')
  await rm(ran)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  const refused = await desk.put('exemption', 'acme', { sources: ['100.64.12.8'] }).catch((error) => error)
  t.ok(refused instanceof UnchangeableError)
  await desk.put('exemption', 'other', { sources: ['100.64.12.9'] })
  await desk.history.recorder.settle()
  await desk.history.repository.edited()
  await t.rejects(lstat(ran))
})

t.test('a file that is a link is not replaced', async (t) => {
  const text = 'kind: relay\nname: mx\naddresses: [192.0.2.1]\n'
  const root = await workTree(t, { ...POLICIES, 'common/relay.txt': text })
  await symlink('common/relay.txt', join(root, 'relay.yaml'))
  await git(root, 'add', '.')
  await git(root, 'commit', '--quiet', '-m', 'A link')
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  const refused = async (work: Promise<unknown>, files: string[]) => {
    const error = await work.then(
      () => new Error('done'),
      (one: Error) => one,
    )
    t.ok(error instanceof UnchangeableError)
    t.match(toApiError(error), { code: 'file-unchangeable', detail: { files } })
  }
  await refused(desk.put('relay', 'mx', { addresses: ['192.0.2.2'] }), ['relay.yaml'])
  t.ok((await lstat(join(root, 'relay.yaml'))).isSymbolicLink())
  t.equal(await readFile(join(root, 'relay.yaml'), 'utf8'), text)

  const elsewhere = await directory(t)
  await symlink(elsewhere, join(root, 'exemptions'))
  await refused(desk.put('exemption', 'acme', { sources: ['100.64.12.7'] }), ['exemptions/acme.yaml'])
  t.same(await readdir(elsewhere), [])
  t.same(desk.controller.inForce?.model.exemptions, [])
})

t.test('a repository of SHA-256', async (t) => {
  const root = await directory(t, POLICIES)
  await git(root, 'init', '--quiet', '--object-format=sha256', '--initial-branch=main', '.')
  await git(root, 'add', '.')
  await git(root, 'commit', '--quiet', '-m', 'Begin')
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  await desk.put('exemption', 'acme', EXEMPTION)
  await desk.history.recorder.settle()
  await desk.controller.delete('exemption', 'acme', { by: ALICE, dryRun: false, mayGoAhead() {} })
  await desk.history.recorder.settle()
  t.equal(await git(root, 'log', '-1', '--format=%s'), 'exemption acme: removed')
  t.equal(await git(root, 'status', '--porcelain'), '')
})

t.test('many at once: each is a commit, once, in the order in which they were made', async (t) => {
  const root = await workTree(t)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  const names = Array.from({ length: 20 }, (_, index) => `e${index}`)
  await Promise.all(
    names.map((name, index) => desk.put('exemption', name, { sources: [`100.64.13.${index}`] })),
  )
  await desk.history.recorder.settle()
  const subjects = (await git(root, 'log', '--reverse', '--format=%s')).split('\n').slice(1)
  t.same(
    subjects,
    names.map((name) => `exemption ${name}: added`),
  )
  t.equal(await git(root, 'status', '--porcelain'), '')
  t.same(desk.journal.all(), [])
  await git(root, 'fsck', '--strict')
})

t.test('many at once go together, and each has a verdict of its own', async (t) => {
  const root = await workTree(t)
  let applied = 0
  const desk = await openDesk(t, root, { onApplied: () => applied++ })
  t.teardown(() => desk.close())
  await desk.put('exemption', 'old', EXEMPTION)
  const put = (name: string, body: object) =>
    desk.put('exemption', name, body).then(
      () => 'done',
      (error: Error) => error.constructor.name,
    )
  const changes = (names: readonly string[]) => names.map((name) => put(name, { sources: ['100.64.13.1'] }))
  const remove = (mayGoAhead: () => void) =>
    desk.controller.delete('exemption', 'old', { by: ALICE, dryRun: false, mayGoAhead }).then(
      () => 'done',
      ({ message }) => message,
    )
  const stale = () => {
    throw new Error('stale')
  }
  applied = 0
  // The first of them has its turn while the others come.
  const names = Array.from({ length: 30 }, (_, index) => `e${index}`)
  t.same(await Promise.all([...changes(names), remove(stale)]), [...names.map(() => 'done'), 'stale'])
  t.ok(applied <= 3, `${applied} changes of the kernel`)
  t.same(await Promise.all([...changes(['f0', 'f1', 'f0']), remove(() => {})]), [
    'done',
    'done',
    'done',
    'done',
  ])
  const dangling = put('f2', { sources: ['@nowhere'] })
  t.same(await Promise.all([...changes(['f3']), dangling, ...changes(['f4'])]), [
    'done',
    'PolicyError',
    'done',
  ])
  await desk.history.recorder.settle()
  const subjects = (await git(root, 'log', '--format=%s')).split('\n')
  t.equal(new Set(subjects).size, subjects.length, 'none is there twice')
  t.equal(subjects.length, 1 + 1 + names.length + 2 + 1 + 2)
  t.equal(await git(root, 'status', '--porcelain'), '')
  t.same(desk.journal.all(), [])
})

t.test(
  'what was not made is told by its reason, and forgotten, also when the journal cannot be written',
  async (t) => {
    const root = await workTree(t)
    const state = await directory(t)
    const database = openDatabase(join(state, 'egress25.db'))
    t.teardown(() => database.close())
    let refuses = false
    const desk = await openDesk(t, root, {
      state,
      onApply() {
        if (!refuses) return
        database.exec(
          "CREATE TRIGGER full BEFORE DELETE ON history_journal BEGIN SELECT RAISE(FAIL, 'the disk is full'); END",
        )
        throw new KernelError('refused', 'the kernel says no')
      },
    })
    refuses = true
    await t.rejects(desk.put('exemption', 'never', EXEMPTION), { message: 'the kernel says no' })
    await t.rejects(desk.put('exemption', 'acme', EXEMPTION), { message: 'the disk is full' })
    database.exec('DROP TRIGGER full')
    refuses = false
    await desk.put('exemption', 'acme', EXEMPTION)
    await desk.close()
    const again = await openDesk(t, root, { state })
    t.teardown(() => again.close())
    await again.history.recorder.settle()
    t.same((await git(root, 'log', '--format=%s')).split('\n'), ['exemption acme: added', 'Begin'])
    t.equal(await git(root, 'status', '--porcelain'), '')
    t.same(again.journal.all(), [])
  },
)

/** A service whose kernel refuses while it is told to, and the database beside it. */
async function openMoody(t: Test, onRefused: (database: DatabaseSync) => void = () => {}) {
  const state = await directory(t)
  const database = openDatabase(join(state, 'egress25.db'))
  t.teardown(() => database.close())
  const kernel = { refuses: false }
  const desk = await openDesk(t, await workTree(t), {
    state,
    onApply() {
      if (!kernel.refuses) return
      onRefused(database)
      throw new KernelError('refused', 'the kernel says no')
    },
  })
  t.teardown(() => desk.close())
  return { database, desk, kernel }
}

t.test('an approval that fails is told by its reason, and can be repeated', async (t) => {
  const { database, desk, kernel } = await openMoody(t, (database) =>
    database.exec(
      "CREATE TRIGGER full BEFORE UPDATE ON exemption_requests BEGIN SELECT RAISE(FAIL, 'the disk is full'); END",
    ),
  )
  const requests = new ExemptionRequests({
    store: new ExemptionRequestStore(database),
    controller: desk.controller,
    fourEyes: true,
    openIncidents: () => [],
    now: Date.now,
    onEvent() {},
    onUnwritable() {},
  })
  const decision = { by: { ...ALICE, name: 'carol' }, reason: null, overrideIncident: false }
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'observe' })
  const { id } = requests.ask({ kind: 'exemption', name: 'acme', sources: ['100.64.12.7'] }, null, ALICE)
  kernel.refuses = true
  await t.rejects(requests.approve(id, decision), { message: 'the kernel says no' })
  database.exec('DROP TRIGGER full')
  kernel.refuses = false
  t.equal((await requests.approve(id, decision)).stage, 'approved')
  t.same(
    desk.controller.inForce?.model.exemptions.map(({ name }) => name),
    ['acme'],
  )
  await t.rejects(requests.approve(id, decision), /is decided/)
})

t.test('a request says what became of its exemption', async (t) => {
  const root = await workTree(t)
  const state = await directory(t)
  const CAROL = { name: 'carol', role: 'operator', requestId: null } as const
  let now = Date.now()
  let refuses = (_: number) => false
  let applied = 0
  /** As a service starts. */
  const start = async () => {
    const database = openDatabase(join(state, 'egress25.db'))
    const store = new ExemptionRequestStore(database)
    let requests: ExemptionRequests | null = null
    const waiting: Parameters<ExemptionRequests['made']>[] = []
    const desk = await openDesk(t, root, {
      state,
      onApply() {
        if (refuses(++applied)) throw new KernelError('refused', 'the kernel says no')
      },
      onMade: (...made) => (requests === null ? waiting.push(made) : requests.made(...made)),
    })
    requests = new ExemptionRequests({
      store,
      controller: desk.controller,
      fourEyes: false,
      openIncidents: () => [],
      now: () => now,
      onEvent() {},
      onUnwritable: t.fail,
    })
    for (const made of waiting) requests.made(...made)
    const self = requests
    let isOpen = true
    const stop = async () => {
      if (!isOpen) return
      isOpen = false
      await desk.close()
      database.close()
    }
    t.teardown(stop)
    return {
      desk,
      store,
      requests,
      ask: (name: string, expires?: string) =>
        self.ask(
          {
            kind: 'exemption',
            name,
            sources: ['100.64.12.7'],
            ...(expires === undefined ? {} : { expires }),
          },
          expires === undefined ? '30d' : null,
          ALICE,
        ).id,
      /** Its state, and all that happened to it. */
      how(id: string) {
        const { request, state } = self.shown(self.get(id, CAROL), 0)
        return [state, ...request.events.map(({ event, by }) => `${event} by ${by}`)]
      },
      stop,
    }
  }
  const yes = { by: CAROL, reason: null, overrideIncident: false }
  const asked = 'requested by alice@example.net'
  const approved = 'approved by carol'
  const folder = join(root, 'exemptions')
  const names = async () => (await readdir(folder).catch(() => [])).sort()

  await t.test('made by half', async (t) => {
    let one = await start()
    const id = one.ask('acme')
    await mkdir(join(folder, 'acme.yaml/in-the-way'), { recursive: true })
    applied = 0
    refuses = (time) => time > 1
    await t.rejects(one.requests.approve(id, yes), /is in force until the next start/)
    t.same(one.how(id), ['in-force', asked, approved], 'as the kernel has it')
    await t.rejects(one.requests.approve(id, yes), /its exemption made by half/)
    refuses = () => false
    await rm(folder, { recursive: true })
    await one.desk.put('exemption', 'beta', { sources: ['100.64.12.9'] })
    t.same(one.how(id), ['in-force', asked, approved])
    await one.stop()
    one = await start()
    t.same(one.how(id), ['requested', asked])
    t.same((await one.requests.approve(id, yes)).stage, 'approved')
    t.same(await names(), ['acme.yaml', 'beta.yaml'])
    await one.requests.revoke(id, yes)
    t.same(one.how(id), ['revoked', asked, approved, 'revoked by carol'])
    await one.stop()
  })

  await t.test('not made', async (t) => {
    const one = await start()
    const id = one.ask('acme')
    await mkdir(join(folder, 'acme.yaml/in-the-way'), { recursive: true })
    await t.rejects(one.requests.approve(id, yes), /nothing was changed/)
    t.same(one.how(id), ['requested', asked])
    await rm(join(folder, 'acme.yaml'), { recursive: true })
    await one.requests.approve(id, yes)
    await run('chattr', ['+i', join(folder, 'acme.yaml')])
    t.teardown(() => run('chattr', ['-i', join(folder, 'acme.yaml')]))
    await t.rejects(one.requests.revoke(id, yes), /nothing was changed/)
    t.same(one.how(id), ['in-force', asked, approved])
    await t.rejects(
      one.desk.controller.delete('exemption', 'acme', { ...yes, dryRun: false, mayGoAhead() {} }),
    )
    t.same(one.how(id), ['in-force', asked, approved])
    await run('chattr', ['-i', join(folder, 'acme.yaml')])
    await one.desk.controller.delete('exemption', 'acme', { ...yes, dryRun: false, mayGoAhead() {} })
    t.same(one.how(id), ['revoked', asked, approved, 'revoked by carol'])
    await one.stop()
  })

  await t.test('killed on the way', async (t) => {
    let one = await start()
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => one.ask(name)) as [string, string, string, string]
    await one.requests.approve(b, yes)
    await one.requests.approve(c, yes)
    await one.requests.approve(d, yes)
    const event = (event: 'approved' | 'revoked') => ({ event, time: now, by: 'carol', reason: 'So.' })
    const mark = (id: string, stage: 'approving' | 'revoking', ...events: RequestEvent[]) => {
      const request = one.requests.get(id, CAROL)
      one.store.save({ ...request, stage, events: [...request.events.slice(0, 2), ...events] })
    }
    mark(a, 'approving', event('approved'))
    mark(b, 'approving')
    mark(c, 'revoking', event('revoked'))
    mark(d, 'revoking', event('revoked'))
    await one.stop()
    await rm(join(folder, 'c.yaml'))
    one = await start()
    t.same(one.how(a), ['requested', asked], 'before the change')
    t.same(one.how(b), ['in-force', asked, approved], 'behind it')
    t.same(one.how(c), ['revoked', asked, approved, 'revoked by carol'])
    t.same(one.how(d), ['in-force', asked, approved])
    await one.stop()
  })

  await t.test('what could never be approved is not asked for', async (t) => {
    const one = await start()
    const ask = (more: object) => {
      try {
        one.requests.ask({ kind: 'exemption', name: 'new', sources: ['100.64.12.7'], ...more }, null, ALICE)
        return null
      } catch (error) {
        return error instanceof DocumentError ? error.problems.map(({ pointer }) => pointer) : error
      }
    }
    t.same(ask({ name: 'beta' }), ['/name'])
    t.same(ask({ expires: new Date(now - 60_000).toISOString().replace(/\.\d+/, '') }), ['/expires'])
    t.same(ask({ sources: ['100.64.12.7', '@nowhere'], destinations: ['@nowhere'] }), [
      '/sources/1',
      '/destinations/0',
    ])
    const late = one.ask('late', new Date(now + 60_000).toISOString().replace(/\.\d+/, ''))
    now += 120_000
    await t.rejects(one.requests.approve(late, yes), /over before anybody approved it/)
    t.same(one.how(late), ['requested', asked])
    await one.stop()
  })

  await t.test('while nobody looked, and by other ways', async (t) => {
    let one = await start()
    const [e, f] = ['e', 'f'].map((name) => one.ask(name)) as [string, string]
    const end = new Date(now + 86_400_000).toISOString().replace(/\.\d+/, '')
    const g = one.ask('g', end)
    for (const id of [e, f, g]) await one.requests.approve(id, yes)
    await one.stop()
    await rm(join(folder, 'e.yaml'))
    one = await start()
    t.same(one.how(e), ['revoked', asked, approved, 'revoked by egress25'])
    const later = new Date(now + 90 * 86_400_000).toISOString().replace(/\.\d+/, '')
    await one.desk.put('exemption', 'f', { sources: ['100.64.12.7'], expires: later })
    t.match(one.requests.get(f, CAROL), { exemption: { expires: later } })
    now += 40 * 86_400_000
    t.same(one.how(f), ['in-force', asked, approved, 'changed by alice@example.net'])
    t.same(one.how(g), ['expired', asked, approved])
    await one.desk.controller.delete('exemption', 'g', { ...yes, dryRun: false, mayGoAhead() {} })
    t.same(one.how(g), ['expired', asked, approved], 'it was over when it went')
    one.store.prune(now - 39.5 * 86_400_000)
    t.same(one.how(g), ['expired', asked, approved])
    one.store.prune(now)
    t.throws(() => one.requests.get(g, CAROL))
    await one.stop()
  })
})

t.test('a file that cannot have its name costs its own change, and no other', async (t) => {
  const root = await workTree(t)
  let applied = 0
  let refused = Number.POSITIVE_INFINITY
  const desk = await openDesk(t, root, {
    onApply() {
      if (++applied >= refused) throw new KernelError('refused', 'it may not be')
    },
  })
  t.teardown(() => desk.close())
  await desk.put('exemption', 'old', EXEMPTION)
  await mkdir(join(root, 'exemptions/in-the-way.yaml/there'), { recursive: true })
  await writeFile(join(root, 'exemptions/in-the-way.yaml/there/notes.txt'), '')
  const inForce = () => desk.controller.inForce?.model.exemptions.map(({ name }) => name).sort()
  const together = (...names: readonly string[]) =>
    Promise.all(
      names.map((name) =>
        desk.put('exemption', name, { sources: ['100.64.13.1'] }).then(
          () => 'done',
          (error: Error) => error.constructor.name,
        ),
      ),
    )
  applied = 0
  t.same(await together('a', 'b', 'in-the-way', 'c'), ['done', 'done', 'UnwritableError', 'done'])
  t.equal(applied, 2, 'all of them at once, and a change that takes one of them back')
  t.same(inForce(), ['a', 'b', 'c', 'old'])
  t.same(await together('in-the-way'), ['UnwritableError'])
  t.same(inForce(), ['a', 'b', 'c', 'old'])

  applied = 0
  refused = 2
  t.same(await together('d', 'e', 'in-the-way'), ['done', 'done', 'HalfMadeError'])
  t.same(inForce(), ['a', 'b', 'c', 'd', 'e', 'in-the-way', 'old'], 'what the kernel holds')
  refused = Number.POSITIVE_INFINITY
  await desk.history.recorder.settle()
  t.same((await git(root, 'log', '--reverse', '--format=%s')).split('\n').slice(2).sort(), [
    ...['a', 'b', 'c', 'd', 'e'].map((name) => `exemption ${name}: added`),
  ])
  t.same(desk.journal.all(), [])
  const files = (await readdir(join(root, 'exemptions'))).filter((file) => file.endsWith('.new'))
  t.same(files, [], 'nothing is left behind')
  await desk.controller.apply()
  t.same(inForce(), ['a', 'b', 'c', 'd', 'e', 'old'], 'as at the next start')
})

t.test('of a change of several files all are there, or none', async (t) => {
  const files = { ...POLICIES, 'lists/one.txt': '100.64.1.1\n' }
  const root = await workTree(t, files)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  await mkdir(join(root, 'lists/two.txt/there'), { recursive: true })
  await chmod(join(root, 'lists/one.txt'), 0o600)
  const change = (paths: readonly string[]) =>
    desk.controller.changeFiles(
      async () => ({
        files: paths.map((path) => ({ path, text: '100.64.1.2\n' })),
        remember: () => null,
      }),
      { by: ALICE, dryRun: false },
    )
  await t.rejects(change(['lists/new.txt', 'lists/one.txt', 'lists/two.txt']), {
    message: /two.txt: .*; nothing was changed$/,
  })
  t.equal(await readFile(join(root, 'lists/one.txt'), 'utf8'), '100.64.1.1\n')
  t.equal((await stat(join(root, 'lists/one.txt'))).mode & 0o777, 0o600)
  t.same((await readdir(join(root, 'lists'))).sort(), ['one.txt', 'two.txt'])
  await change(['lists/new.txt', 'lists/one.txt'])
  t.equal(await readFile(join(root, 'lists/one.txt'), 'utf8'), '100.64.1.2\n')
})

t.test('what somebody edits by hand is neither overwritten nor swept along', async (t) => {
  const root = await workTree(t)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  const file = join(root, 'policies/residential.yaml')
  await writeFile(file, `${POLICIES['policies/residential.yaml']}description: half a thou`)
  await t.rejects(
    desk.put('policy', 'residential', { networks: ['100.64.0.0/16'] }),
    /edited by hand and not committed/,
  )
  t.match(await readFile(file, 'utf8'), /half a thou$/)
  await desk.put('exemption', 'acme', EXEMPTION)
  await desk.history.recorder.settle()
  t.equal(
    await git(root, 'status', '--porcelain'),
    'M policies/residential.yaml',
    'still there, still not committed',
  )
  t.equal(
    desk.controller.inForce?.loaded.documents.find(({ document }) => document.name === 'residential')
      ?.document.description,
    undefined,
    'nor has it come into force',
  )
  await writeFile(file, 'kind: policy\nname: [')
  await desk.put('exemption', 'beta', { sources: ['100.64.12.9'] })
  await desk.history.recorder.settle()
  t.equal(await desk.controller.differs().catch(({ name }) => name), 'Error', 'it has mistakes')

  await git(root, 'checkout', '--', 'policies/residential.yaml')
  await writeFile(join(root, 'exemptions/gamma.yaml'), '# a draft\n')
  await t.rejects(
    desk.put('exemption', 'gamma', { sources: ['100.64.12.10'] }),
    /edited by hand and not committed/,
  )
  await rm(join(root, 'exemptions/gamma.yaml'))

  await writeFile(file, POLICIES['policies/residential.yaml'].replace('enforce', 'observe'))
  await git(root, 'commit', '--quiet', '-am', 'By hand')
  t.equal(await desk.controller.differs(), true)
  await desk.controller.apply(ALICE)
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'enforce' })
  await desk.history.recorder.settle()
  t.match(await git(root, 'log', '-2', '--format=%s'), 'policy residential: changed\nBy hand')
})

t.test('while somebody rebases, commits wait', async (t) => {
  const root = await workTree(t)
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  await writeFile(join(root, '.git/MERGE_HEAD'), '')
  await desk.put('exemption', 'acme', EXEMPTION)
  await t.rejects(desk.history.recorder.settle(), /a merge is under way/)
  t.equal(desk.history.recorder.status.waiting, 1)
  await rm(join(root, '.git/MERGE_HEAD'))
  await desk.history.recorder.settle()
  t.equal(desk.history.recorder.status.waiting, 0)
  await git(root, 'checkout', '--quiet', '--detach')
  await desk.put('exemption', 'beta', { sources: ['100.64.12.9'] })
  await t.rejects(desk.history.recorder.settle(), /no branch is checked out/)
  await git(root, 'checkout', '--quiet', 'main')
})

t.test('after a crash', async (t) => {
  const state = await directory(t)
  const root = await workTree(t)
  const broken = async () => {
    throw new Error('killed')
  }
  const isCommit = (argv: readonly string[]) => argv.includes('fast-import')
  const first = await openDesk(t, root, {
    state,
    run: (argv, how) => (isCommit(argv) ? broken() : runProcess(argv, how)),
  })
  await first.put('exemption', 'acme', EXEMPTION)
  await first.put('exemption', 'beta', { sources: ['100.64.12.9'] })
  await first.put('exemption', 'acme', { ...EXEMPTION, ticket: 'NOC-2' })
  const text = (path: string) => readFile(join(root, path), 'utf8')
  const change = (path: string, before: string | null, after: string | null) =>
    ({ path, before: before === null ? null : first.history.repository.blobId(before), text: after }) as const
  const residential = POLICIES['policies/residential.yaml']
  const record = {
    kind: 'commit',
    time: Date.now(),
    author: { name: 'carol', email: 'carol@gw' },
    reason: null,
    requestId: null,
    reverts: null,
  } as const
  await first.close().catch(() => {})

  t.test('what was acknowledged is committed, once, by its authors', async (t) => {
    const second = await openDesk(t, root, { state })
    await second.history.recorder.settle()
    t.same((await git(root, 'log', '--format=%an %s')).split('\n'), [
      'alice@example.net exemption acme: changed',
      'alice@example.net exemption beta: added',
      'alice@example.net exemption acme: added',
      'Bob Begin',
    ])
    t.match(await git(root, 'show', 'HEAD~2:exemptions/acme.yaml'), /NOC-1/)
    t.equal(await git(root, 'status', '--porcelain'), '')
    await second.close()
  })
  t.test('what is committed already is not committed again', async (t) => {
    const id = /Egress25-Change: (\w+)/.exec(await git(root, 'log', '-1', '--format=%B'))?.[1] ?? ''
    const third = await openDesk(t, root, { state })
    const acme = await text('exemptions/acme.yaml')
    third.journal.add({
      ...record,
      id,
      subject: 'again',
      files: [change('exemptions/acme.yaml', null, acme)],
    })
    await third.close()
    const fourth = await openDesk(t, root, { state })
    await fourth.history.recorder.settle()
    t.equal(await git(root, 'rev-list', '--count', 'HEAD'), '4')
    t.same(fourth.journal.all(), [])
    await fourth.close()
  })
  t.test('of several that were made at once, each has happened or has not', async (t) => {
    const before = await openDesk(t, root, { state })
    const document = (name: string) => `kind: exemption\nname: ${name}\nsources: [100.64.12.20]\n`
    before.journal.together(() => {
      for (const [at, name] of ['g0', 'g1', 'g2'].entries()) {
        const files = [change(`exemptions/${name}.yaml`, null, document(name))]
        before.journal.add({ ...record, group: 'g', id: `${at}`.repeat(32), subject: name, files })
      }
    })
    await before.close()
    await writeFile(join(root, 'exemptions/g1.yaml'), document('g1'))
    const after = await openDesk(t, root, { state })
    await after.history.recorder.settle()
    t.equal(await git(root, 'log', '-1', '--format=%s'), 'g1')
    t.equal(await git(root, 'status', '--porcelain'), '')
    t.same(after.journal.all(), [])
    await git(root, 'reset', '--quiet', '--hard', 'HEAD~1')
    await after.close()
  })
  t.test('what a git that was killed has locked is free again, unless one is at work', async (t) => {
    const folder = join(root, '.git')
    const locks = ['index.lock', 'HEAD.lock', 'refs/heads/main.lock'].map((path) => join(folder, path))
    const isLocked = () => Promise.all(locks.map((path) => lstat(path).then(Boolean, () => false)))
    for (const path of locks) await writeFile(path, '')
    const waiting = spawn('git', ['-C', root, 'cat-file', '--batch'])
    await new Promise((resolve) => {
      waiting.stdout.once('data', resolve)
      waiting.stdin.write('HEAD\n')
    })
    const busy = await openDesk(t, root, { state })
    t.same(await isLocked(), [true, true, true])
    await busy.close()
    const ended = once(waiting, 'exit')
    waiting.stdin.end()
    await ended
    const free = await openDesk(t, root, { state })
    t.same(await isLocked(), [false, false, false])
    await free.close()
  })
  t.test('a file that was edited by hand since stays, whether the change had happened or not', async (t) => {
    const before = await openDesk(t, root, { state })
    const file = join(root, 'exemptions/beta.yaml')
    const beta = await text('exemptions/beta.yaml')
    const ours = beta.replace('100.64.12.9', '100.64.12.10')
    const theirs = beta.replace('100.64.12.9', '100.64.12.11')
    const head = await git(root, 'rev-parse', 'HEAD')
    const entry = (id: string) => ({
      ...record,
      id: id.repeat(32),
      subject: 'ours',
      files: [change('exemptions/beta.yaml', beta, ours)],
    })
    const sources = ({ controller }: typeof before) =>
      controller.inForce?.loaded.documents.flatMap(({ document }) =>
        document.kind === 'exemption' && document.name === 'beta' ? document.sources : [],
      )
    before.journal.add(entry('e'))
    await before.close()
    await writeFile(`${file}.4194305.new`, ours)
    await writeFile(file, theirs)
    const never = await openDesk(t, root, { state })
    await never.history.recorder.settle()
    t.equal(await git(root, 'rev-parse', 'HEAD'), head, 'it had never its name')
    t.same(never.journal.all(), [])
    t.same(sources(never), ['100.64.12.11'])
    await t.rejects(never.put('exemption', 'beta', { sources: ['100.64.12.12'] }), /edited by hand/)
    never.journal.add(entry('f'))
    await never.close()
    await rm(`${file}.4194305.new`)
    const happened = await openDesk(t, root, { state })
    await happened.history.recorder.settle()
    t.equal(await git(root, 'log', '-1', '--format=%an %s'), 'carol ours')
    t.equal(await git(root, 'status', '--porcelain'), 'M exemptions/beta.yaml')
    t.same(sources(happened), ['100.64.12.11'])
    await happened.close()
    await git(root, 'reset', '--quiet', '--hard', head)
  })
  t.test('what never happened is dropped; of what did all files follow', async (t) => {
    const fifth = await openDesk(t, root, { state })
    const observed = residential.replace('enforce', 'observe')
    const files = [
      change('policies/residential.yaml', residential, observed),
      change('exemptions/beta.yaml', await text('exemptions/beta.yaml'), null),
      change('exemptions/delta.yaml', null, 'kind: exemption\nname: delta\nsources: [100.64.12.11]\n'),
    ]
    fifth.journal.add({ ...record, id: 'a'.repeat(32), subject: 'never', files })
    await fifth.close()
    const sixth = await openDesk(t, root, { state })
    await sixth.history.recorder.settle()
    t.equal(await git(root, 'rev-list', '--count', 'HEAD'), '4')
    sixth.journal.add({ ...record, id: 'b'.repeat(32), subject: 'three files', files })
    await sixth.close()
    await writeFile(join(root, 'policies/residential.yaml'), observed)
    const seventh = await openDesk(t, root, { state })
    await seventh.history.recorder.settle()
    t.equal(await git(root, 'log', '-1', '--format=%an %s'), 'carol three files')
    t.equal(await git(root, 'status', '--porcelain'), '')
    t.same((await git(root, 'ls-files', 'exemptions')).split('\n'), [
      'exemptions/acme.yaml',
      'exemptions/delta.yaml',
    ])
    await seventh.close()
  })
})

t.test('a revision is taken back by another one', async (t) => {
  const root = await workTree(t, {
    'policies/residential.yaml': `${POLICIES['policies/residential.yaml']}\n# How.\n\naction: reject\n`,
  })
  const desk = await openDesk(t, root)
  t.teardown(() => desk.close())
  const put = (body: object) =>
    desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], action: 'reject', ...body })
  await put({ mode: 'observe' })
  await desk.history.recorder.settle()
  const revision = await git(root, 'rev-parse', 'HEAD')
  await put({ mode: 'observe', description: 'new' })
  const { files } = await desk.history.revertOf(revision)
  t.match(files[0]?.content?.toString(), /mode: enforce\n[\s\S]*description: new/, 'what came later stays')
  await put({ mode: 'enforce', description: 'new' })
  t.same((await desk.history.revertOf(revision)).files, [], 'nothing is left to take back')
  await git(root, 'checkout', '--quiet', '-b', 'other')
  await git(root, 'commit', '--quiet', '--allow-empty', '-m', 'Nothing')
  const nothing = await git(root, 'rev-parse', 'HEAD')
  await t.rejects(desk.history.revertOf(nothing), /it changed no file/)
  await git(root, 'checkout', '--quiet', 'main')
  await t.rejects(desk.history.revertOf(nothing), /it is not in main/)
  const first = await git(root, 'rev-list', '--max-parents=0', 'HEAD')
  await t.rejects(desk.history.revertOf(first), /where the history begins/)
  const subjects = ['it', 'Revert "it"', 'Reapply "it"'] as const
  t.same(subjects.map(revertSubject), [subjects[1], subjects[2], subjects[1]])
  await put({ description: 'new' })
  await t.rejects(desk.history.revertOf(revision), /the same lines were changed since/)
})

t.test('an exemption that is to be revoked is, also after a restart, and told of once', async (t) => {
  const { database, desk, kernel } = await openMoody(t)
  const due = new DueRevocations(database)
  const told: string[] = []
  const failed: string[] = []
  const start = (resumed: readonly Incident[]) =>
    new AnomalyRevocation({
      controller: desk.controller,
      due,
      resumed,
      because() {},
      onRevoked: ({ exemption, incident }) => told.push(`${exemption.name} ${incident}`),
      onFailed: (name) => failed.push(name),
      onUnkept: (error) => t.fail(error.message),
    })
  const incident = { id: 'i1', source: '100.64.12.7', kind: 'spam-bot', state: 'open', summary: 'It sends.' }
  const event = (what: object) => ({ time: 1_000, ...what }) as unknown as IncidentEvent
  const opened = event({ event: 'opened', incident })
  const exempted = () => desk.controller.inForce?.model.exemptions.map(({ name }) => name).sort()

  await desk.put('exemption', 'acme', EXEMPTION)
  await desk.put('exemption', 'net', { sources: ['100.64.12.0/24'] })
  await desk.put('exemption', 'other', { sources: ['100.64.99.7'] })
  kernel.refuses = true
  await start([]).incident(opened)
  t.same([failed, told, due.all().length], [['acme', 'net'], [], 2])
  kernel.refuses = false

  const second = start([incident as unknown as Incident])
  await second.resume()
  t.same([exempted(), due.all()], [['other'], []])
  t.same(told.splice(0), ['acme i1', 'net i1'])
  await desk.history.recorder.settle()
  const { revisions } = await desk.history.list(null, 1, null)
  t.match(revisions, [{ subject: 'exemption net: removed', reason: /incident i1: It sends\./ }])

  await desk.put('exemption', 'acme', EXEMPTION, 'It is clean.')
  await second.incident(event({ event: 'updated', incident }))
  t.same(exempted(), ['acme', 'other'], 'made while the incident is open')
  await second.incident(event({ event: 'resolved', incident: { ...incident, state: 'resolved' } }))
  await second.incident(opened)
  t.same([exempted(), told.splice(0)], [['other'], ['acme i1']], 'opened again')

  const [one, another] = ['gone', 'never-begun'].map((name) => ({
    incident: 'i2',
    exemption: { kind: 'exemption' as const, name, sources: ['100.64.12.7'] },
    reason: 'It sends.',
    time: 2_000,
    begun: false,
  })) as [DueRevocation, DueRevocation]
  for (const each of [one, another]) due.add(each)
  due.begin(one)
  await start([]).resume()
  t.same([told, due.all()], [['gone i2'], []], 'a crash came after the change and before the word')
})

t.test('which hosts a change lets through anew', (t) => {
  const incident = (source: string, kind = 'spam-bot', state = 'open') =>
    ({ id: source, source, kind, state }) as unknown as Incident
  const open = [
    incident('100.64.12.7'),
    incident('2001:db8::/64'),
    incident('100.64.12.8', 'scanner'),
    incident('100.64.12.9', 'spam-bot', 'resolved'),
  ]
  const prefixes = (texts: readonly string[]) =>
    PrefixSet.of(texts.map((text) => parsePrefix(text)).filter((one) => typeof one === 'object'))
  const model = (sources: readonly string[], more: Partial<Exemption> = {}) => {
    const [origin, rest] = [
      { file: 'e.yaml', line: 1, column: 1 },
      { destinations: null, rate: null },
    ]
    const exemption = {
      kind: 'exemption',
      name: 'e',
      origin,
      description: null,
      ...rest,
      expires: null,
    } as const
    return { exemptions: [{ ...exemption, sources: prefixes(sources), ...more }] as Exemption[] }
  }
  const NONE = { exemptions: [] }
  const found = (before: Pick<Model, 'exemptions'> | null, after: Pick<Model, 'exemptions'>) =>
    newlyExempted(before, after, open, 1_000).map(({ source }) => source)
  const host = ['100.64.12.7']
  for (const before of [null, NONE]) t.same(found(before, model(host)), host)
  t.same(found(model(['100.64.12.6']), model(['100.64.12.0/24'])), host)
  t.same(found(model(host), NONE), [])
  t.same(found(NONE, model(['100.64.12.8', '100.64.12.9'])), [], 'no spam-bot, and none any more')
  t.same(found(NONE, model(host, { expires: 1_000 })), [], 'ended')
  t.same(found(model(['100.64.12.0/24']), model(['100.64.12.7', '100.64.13.0/24'])), [])
  const narrow: Partial<Exemption> = {
    expires: 5_000,
    rate: { count: 60, per: 'minute' },
    destinations: prefixes(['203.0.113.0/24']),
  }
  t.same(found(model(host), model(host, narrow)), [])
  t.same(found(model(host, narrow), model(host, { ...narrow, expires: 6_000 })), host)
  t.same(found(model(host, narrow), model(host, { ...narrow, rate: { count: 2, per: 'second' } })), host)
  t.same(found(model(host, narrow), model(host, { ...narrow, rate: { count: 1, per: 'second' } })), [])
  const elsewhere = prefixes(['203.0.113.1', '198.51.100.0/24'])
  t.same(found(model(host, narrow), model(host, { ...narrow, destinations: elsewhere })), host)
  t.same(found(model(['2001:db8::1']), model(['2001:db8::2', '2001:db8:1::/64'])), ['2001:db8::/64'])
  t.same(found(model(['2001:db8::/80']), model(['2001:db8::1', '2001:db8::2'])), [])
  t.same(found(model(['2001:db8::1']), model(['2001:db8::/56'])), ['2001:db8::/64'])
  t.end()
})

t.test('who made a change, and what a webhook is signed with', async (t) => {
  t.same(signatureOf({ name: 'NOC <night>\n' }, 'gw 1'), { name: 'NOC night', email: 'NOC-night@gw-1' })
  const body = Buffer.from('{"ref":"main"}')
  const secret = 'sesame'
  const { createHmac } = await import('node:crypto')
  const mac = (data: string) => createHmac('sha256', secret).update(data).digest('hex')
  const now = 1_800_000_000_000
  t.ok(isSigned({ 'x-hub-signature-256': `sha256=${mac(String(body))}` }, body, secret, now))
  t.notOk(isSigned({ 'x-hub-signature-256': `sha256=${mac('else')}` }, body, secret, now))
  const own = (time: number) => ({ 'egress25-signature': `t=${time},v1=${mac(`${time}.${body}`)}` })
  t.ok(isSigned(own(now / 1_000), body, secret, now))
  t.notOk(isSigned(own(now / 1_000 - 301), body, secret, now), 'an old one is not taken again')
  t.notOk(isSigned({}, body, secret, now))
})
