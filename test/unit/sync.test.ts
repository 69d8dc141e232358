/** Policies that are pulled from, and pushed to, a real git server: neither side is lost, and nothing unsound comes in. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { SignersError } from '../../src/history/openpgp-keys.ts'
import { UnsignedError } from '../../src/history/signed.ts'
import { ALICE, type Desk, git, openDesk, POLICIES } from './history-support.ts'
import { directory, freePort, run } from './support.ts'

const RESIDENTIAL = POLICIES['policies/residential.yaml']

/** git-daemon(1) on loopback with one repository; answers its URL and a clone for somebody who works on it. */
async function gitServer(t: Test): Promise<{ url: string; clone: string; bare: string }> {
  const base = await directory(t)
  const bare = join(base, 'policies.git')
  await git(base, 'init', '--quiet', '--bare', '--initial-branch=main', bare)
  const port = await freePort()
  const daemon: ChildProcess = spawn(
    'git',
    [
      ...['daemon', '--export-all', '--enable=receive-pack', `--base-path=${base}`],
      ...['--listen=127.0.0.1', `--port=${port}`, '--reuseaddr', base],
    ],
    { stdio: 'ignore', detached: true },
  )
  t.teardown(() => {
    if (daemon.pid !== undefined) process.kill(-daemon.pid, 'SIGKILL')
  })
  for (let left = 600; ; left--) {
    const answers = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true))
      socket.on('error', () => resolve(false))
      socket.unref()
    })
    if (answers) break
    if (left === 0) throw new Error('git daemon does not answer')
    await wait(50)
  }
  const url = `git://127.0.0.1:${port}/policies.git`
  const clone = join(base, 'clone')
  await git(base, 'clone', '--quiet', url, clone).catch(() => {})
  await git(clone, 'checkout', '--quiet', '-B', 'main')
  await commit(clone, { 'residential.yaml': RESIDENTIAL }, 'Begin')
  await git(clone, 'push', '--quiet', 'origin', 'main')
  return { url, clone, bare }
}

async function commit(
  clone: string,
  files: Readonly<Record<string, string>>,
  message: string,
  ...more: string[]
): Promise<void> {
  for (const [path, text] of Object.entries(files)) await writeFile(join(clone, path), text)
  await git(clone, 'add', '--all')
  await git(clone, ...more, 'commit', '--quiet', '-m', message)
}

/** Why a revision does not count as signed; null: it does, or nobody has looked. */
const faultOf = (pull: Promise<unknown>) =>
  pull.then(
    () => null,
    (error) => (error instanceof UnsignedError ? error.fault : null),
  )
const push = (clone: string) => git(clone, 'push', '--quiet', 'origin', 'HEAD:main')
const names = ({ controller }: Desk) =>
  (controller.inForce?.loaded.documents ?? []).map(({ document }) => document.name).sort()

t.test('a remote', async (t) => {
  const { url, clone, bare } = await gitServer(t)
  const root = await directory(t)
  const desk = await openDesk(t, root, { remote: { remote: url, history: 'init' } })
  t.teardown(() => desk.close())
  const { sync } = desk
  if (sync === null) throw new Error('no remote')
  const pull = () => sync.pull(ALICE)
  const head = (where: string) => git(where, 'rev-parse', 'main')
  const relay = 'kind: relay\nname: mx\naddresses: [192.0.2.25]\n'

  t.match(await pull(), { state: 'in-step', ahead: 0 })
  t.same(names(desk), ['residential'], 'an empty directory takes what is there')
  t.equal(await git(root, 'status', '--porcelain'), '')
  for (const folder of ['objects', 'refs/heads', 'logs']) {
    const { mode } = await stat(join(root, '.git', folder))
    t.equal(mode & 0o2070, 0o2070, `who commits by hand leaves ${folder} to the service`)
  }

  await commit(clone, { 'mx.yaml': relay }, 'A relay')
  await push(clone)
  await pull()
  t.same(names(desk), ['mx', 'residential'])
  t.equal(await head(root), await head(clone))

  t.test('what does not pass is refused, and what was good last stays', async (t) => {
    await commit(clone, { 'mx.yaml': relay.replace('192.0.2.25', '192.0.2.25/24') }, 'A slip')
    await push(clone)
    await t.rejects(pull(), /the policies have mistakes/)
    t.match(sync.status, { state: 'refused', diagnostics: [{ file: 'mx.yaml', code: 'host-bits' }] })
    t.same(names(desk), ['mx', 'residential'])
    t.equal(await readFile(join(root, 'mx.yaml'), 'utf8'), relay)
    await commit(clone, { 'mx.yaml': `# Mended.\n${relay}` }, 'Mended')
    await push(clone)
    t.match(await pull(), { state: 'in-step' })
    t.equal(await head(root), await head(clone))
  })

  t.test('changes here are pushed; with changes there, ours come after theirs', async (t) => {
    await desk.put('exemption', 'acme', { sources: ['100.64.12.7'] }, 'They asked.')
    t.match(await pull(), { ahead: 0 })
    t.equal(
      await git(bare, 'log', '-1', '--format=%an %s', 'main'),
      'alice@example.net exemption acme: added',
    )
    await git(clone, 'pull', '--quiet', 'origin', 'main')
    await commit(clone, { 'mx.yaml': relay }, 'Theirs')
    await push(clone)
    await desk.put('exemption', 'beta', { sources: ['100.64.12.8'] })
    await desk.put('exemption', 'acme', { sources: ['100.64.12.7', '100.64.12.9'] })
    t.match(await pull(), { state: 'in-step' })
    t.same((await git(bare, 'log', '-3', '--format=%s', 'main')).split('\n'), [
      'exemption acme: changed',
      'exemption beta: added',
      'Theirs',
    ])
    t.equal(await head(root), await head(bare))
    t.equal(await git(root, 'status', '--porcelain'), '')
    t.equal(await readFile(join(root, 'mx.yaml'), 'utf8'), relay)
  })

  t.test('what somebody edits by hand is not overwritten', async (t) => {
    await git(clone, 'pull', '--quiet', 'origin', 'main')
    await commit(clone, { 'residential.yaml': `${RESIDENTIAL}description: theirs\n` }, 'Said')
    await push(clone)
    await writeFile(join(root, 'residential.yaml'), `${RESIDENTIAL}# mine\n`)
    await t.rejects(pull(), /edited by hand/)
    t.match(sync.status, { state: 'edited-by-hand' })
    t.match(await readFile(join(root, 'residential.yaml'), 'utf8'), /# mine/)
    await git(root, 'checkout', '--', 'residential.yaml')
    await pull()
  })

  t.test('the same document changed on both sides is left to people', async (t) => {
    await git(clone, 'pull', '--quiet', 'origin', 'main')
    await commit(
      clone,
      { 'exemptions/acme.yaml': 'kind: exemption\nname: acme\nsources: [100.64.99.9]\n' },
      'No',
    )
    await push(clone)
    await desk.put('exemption', 'acme', { sources: ['100.64.12.10'] })
    await t.rejects(pull(), /changed both here and at the remote: exemption acme/)
    t.match(sync.status, { state: 'diverged', kept: 'egress25/gw-test', ahead: 1 })
    t.equal(await git(bare, 'rev-parse', 'egress25/gw-test'), await head(root), 'ours is kept at the remote')
    t.equal(await git(bare, 'log', '-1', '--format=%s', 'main'), 'No', 'theirs as well')
    await git(clone, 'fetch', '--quiet', 'origin')
    await git(clone, 'merge', '--quiet', '-X', 'theirs', '-m', 'Both', 'origin/egress25/gw-test')
    await push(clone)
    t.match(await pull(), { state: 'in-step' })
    t.equal(await head(root), await head(clone))
  })
})

t.test(
  'what is taken out of the remote branch is neither pushed again nor taken back by itself',
  async (t) => {
    const { url, clone, bare } = await gitServer(t)
    const root = await directory(t)
    const desk = await openDesk(t, root, { remote: { remote: url, history: 'init' } })
    t.teardown(() => desk.close())
    const { sync } = desk
    if (sync === null) throw new Error('no remote')
    const pull = () => sync.pull(ALICE)
    const head = (where: string) => git(where, 'rev-parse', 'main')
    const force = () => git(clone, 'push', '--quiet', '--force', 'origin', 'main')
    const relay = (address: string) => `kind: relay\nname: mx\naddresses: [${address}]\n`
    await commit(clone, { 'mx.yaml': relay('192.0.2.25') }, 'A slip')
    await push(clone)
    await pull()
    const slip = await head(clone)

    await git(clone, 'reset', '--quiet', '--hard', 'HEAD~1')
    await force()
    const before = await head(clone)
    const rewritten = /rewritten at the remote/
    await t.rejects(pull(), rewritten)
    await desk.put('exemption', 'acme', { sources: ['100.64.12.7'] })
    await t.rejects(pull(), rewritten, 'and again, with a change here')
    t.match(sync.status, { state: 'refused', kept: null, revision: before })
    t.equal(await head(bare), before, 'nothing was pushed')
    t.equal((await git(bare, 'branch', '--format=%(refname)')).trim(), 'refs/heads/main')
    t.same(names(desk), ['acme', 'mx', 'residential'], 'what was good last stays')

    await commit(clone, { 'mx.yaml': relay('192.0.2.26') }, 'Another one')
    await force()
    await t.rejects(pull(), rewritten, 'also when something stands in its place')

    await git(clone, 'reset', '--quiet', '--hard', slip)
    await force()
    t.match(await pull(), { state: 'in-step' }, 'it is back')
    t.equal(await head(bare), await head(root))

    await git(clone, 'reset', '--quiet', '--hard', before)
    await force()
    await t.rejects(pull(), rewritten)
    await git(root, 'reset', '--quiet', '--hard', 'refs/remotes/egress25/main')
    t.match(await pull(), { state: 'in-step' }, 'somebody here agrees')
    t.equal(await head(bare), before)
    await desk.controller.apply()
    t.same(names(desk), ['residential'])
  },
)

t.test('what is pulled in a work tree with line ends of Windows', async (t) => {
  const { url, clone } = await gitServer(t)
  await commit(clone, { '.gitattributes': '*.yaml eol=crlf\n', 'a.txt': 'one\n' }, 'Attributes')
  await push(clone)
  const root = join(await directory(t), 'work')
  await git(clone, 'clone', '--quiet', url, root)
  t.match(await readFile(join(root, 'residential.yaml'), 'utf8'), /\r\n/)
  const desk = await openDesk(t, root, { remote: { remote: url } })
  t.teardown(() => desk.close())
  await commit(clone, { 'residential.yaml': RESIDENTIAL.replace('enforce', 'observe') }, 'Observe')
  await push(clone)
  await desk.sync?.pull(ALICE)
  t.equal(desk.controller.inForce?.model.policies[0]?.mode, 'observe')
  t.equal(await git(root, 'status', '--porcelain'), '')
  await desk.put('policy', 'residential', { networks: ['100.64.0.0/10'], mode: 'enforce' })
  await desk.sync?.pull(ALICE)
  t.equal(desk.sync?.status.state, 'in-step')
  t.equal(await git(root, 'status', '--porcelain'), '')
})

t.test('signatures', async (t) => {
  const { url, clone } = await gitServer(t)
  const keys = await directory(t)
  const home = join(keys, 'gnupg')
  await mkdir(home, { mode: 0o700 })
  t.teardown(() => run('gpgconf', ['--homedir', home, '--kill', 'all']))
  const env = { PATH: process.env['PATH'], GNUPGHOME: home }
  const gpg = async (...args: string[]) => {
    const { code, out, err } = await run('gpg', ['--batch', '--quiet', ...args], { env })
    if (code !== 0) throw new Error(`gpg ${args.join(' ')}: ${err}`)
    return out
  }
  const program = async (name: string, ...args: string[]) => {
    const path = join(keys, name)
    await writeFile(path, `#!/bin/sh\nGNUPGHOME=${home} exec ${args.join(' ')} "$@"\n`, { mode: 0o755 })
    return path
  }
  const now = await program('gpg-now', 'gpg')
  const then = await program('gpg-then', 'gpg', '--faked-system-time', '20250102T000000')
  for (const name of ['bob', 'eve', 'ivy'])
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(keys, name)])
  const make = (name: string, expires: string, ...more: string[]) =>
    gpg(...more, '--passphrase', '', '--quick-gen-key', `${name}@example.net`, 'ed25519', 'sign', expires)
  for (const name of ['carol', 'mallory', 'gone']) await make(name, 'never')
  await make('old', '30d', '--faked-system-time', '20250101T000000')
  const sign = {
    ssh: (name: string) => ['-c', 'gpg.format=ssh', '-c', `user.signingkey=${join(keys, name)}`],
    openpgp: (name: string, by = now) => [
      ...['-c', `gpg.program=${by}`, '-c', `user.signingkey=${name}@example.net`],
    ],
  }
  const signed = (how: readonly string[]) => [...how, '-c', 'commit.gpgsign=true']

  const signers = join(keys, 'signers')
  await writeFile(
    signers,
    `bob@example.net ${await readFile(join(keys, 'bob.pub'), 'utf8')}` +
      `ivy@example.net valid-before="20250101" ${await readFile(join(keys, 'ivy.pub'), 'utf8')}`,
  )
  const allowed = join(keys, 'keys.asc')
  const revoked = async (name: string) => {
    const listed = await gpg('--with-colons', '--list-keys', `${name}@example.net`)
    const [, fingerprint] = /^fpr:+([0-9A-F]+):/m.exec(listed) ?? []
    const text = await readFile(join(home, 'openpgp-revocs.d', `${fingerprint}.rev`), 'utf8')
    return text.slice(text.indexOf(':-----BEGIN') + 1)
  }
  const armored: string[] = []
  for (const name of ['carol', 'old', 'gone'])
    armored.push(await gpg('--armor', '--export', `${name}@example.net`))
  await writeFile(allowed, [...armored, await revoked('gone')].join(''))

  const root = await directory(t)
  const state = await directory(t)
  const open = async (more: object) => {
    const remote = {
      remote: url,
      history: 'init',
      push: false,
      require_signed_commits: true,
      ...more,
    } as const
    const desk = await openDesk(t, root, { remote, state })
    const pull = async () => {
      await desk.sync?.pull(ALICE)
    }
    return { desk, pull }
  }
  /** The branch at the remote is what was good last, with this on top. */
  const refused = async (
    { desk, pull }: Awaited<ReturnType<typeof open>>,
    how: readonly string[],
    fault: string,
  ) => {
    await commit(clone, { 'a.txt': `${how.join()}\n` }, `To be refused: ${fault}`, ...how)
    await push(clone)
    t.equal(await faultOf(pull()), fault, how.join(' '))
    t.equal(desk.sync?.status.state, 'refused')
    await git(clone, 'reset', '--quiet', '--hard', 'HEAD^')
    await git(clone, 'push', '--quiet', '--force', 'origin', 'main')
  }
  const taken = async ({ desk, pull }: Awaited<ReturnType<typeof open>>, how: readonly string[]) => {
    await commit(clone, { 'b.txt': `${how.join()}\n` }, 'To be taken', ...how)
    await push(clone)
    await pull()
    t.equal((await desk.history.repository.head()).commit, await git(clone, 'rev-parse', 'HEAD'))
  }

  await t.test('of ssh', async (t) => {
    const one = await open({ allowed_signers: signers })
    t.equal(await faultOf(one.pull()), 'none')
    t.same(names(one.desk), [])
    await git(clone, ...sign.ssh('bob'), 'commit', '--quiet', '--amend', '-S', '-m', 'Begin')
    await git(clone, 'push', '--quiet', '--force', 'origin', 'main')
    await one.pull()
    t.same(names(one.desk), ['residential'])
    await refused(one, signed(sign.ssh('eve')), 'not-listed')
    await refused(one, signed(sign.ssh('ivy')), 'not-listed')
    await refused(one, signed(sign.openpgp('carol')), 'not-listed')
    await refused(one, [], 'none')
    await one.desk.close()
  })

  await t.test('of OpenPGP', async () => {
    const one = await open({ allowed_keys: allowed })
    await taken(one, signed(sign.openpgp('carol')))
    await refused(one, signed(sign.openpgp('mallory')), 'not-listed')
    await refused(one, signed(sign.openpgp('old', then)), 'key-expired')
    await refused(one, signed(sign.openpgp('gone')), 'key-revoked')
    await refused(one, signed(sign.ssh('bob')), 'not-listed')
    await refused(one, [], 'none')
    await one.desk.close()
  })

  await t.test('of both; in a merge each commit counts, and so does the merge', async (t) => {
    const one = await open({ allowed_keys: allowed, allowed_signers: signers })
    await taken(one, signed(sign.ssh('bob')))
    await taken(one, signed(sign.openpgp('carol')))
    const merged = async (theirs: readonly string[], merge: readonly string[]) => {
      await git(clone, 'checkout', '--quiet', '-b', 'side')
      await commit(clone, { 'side.txt': 'x\n' }, 'At the side', ...theirs)
      await git(clone, 'checkout', '--quiet', 'main')
      await git(clone, ...merge, 'merge', '--quiet', '--no-ff', '-m', 'Merge', 'side')
      await git(clone, 'branch', '--quiet', '-D', 'side')
      await commit(
        clone,
        { 'c.txt': `${theirs.length} ${merge.length}\n` },
        'After it',
        ...signed(sign.ssh('bob')),
      )
      await push(clone)
    }
    const back = async () => {
      await git(clone, 'reset', '--quiet', '--hard', 'HEAD^^')
      await git(clone, 'push', '--quiet', '--force', 'origin', 'main')
    }
    await merged([], signed(sign.openpgp('carol')))
    t.equal(await faultOf(one.pull()), 'none')
    await back()
    await merged(signed(sign.ssh('bob')), [])
    t.equal(await faultOf(one.pull()), 'none')
    await back()
    await merged(signed(sign.ssh('bob')), signed(sign.openpgp('carol')))
    await one.pull()
    t.equal(one.desk.sync?.status.state, 'in-step')
    await one.desk.close()
  })

  await t.test('without a list nothing is taken', async (t) => {
    const empty = join(keys, 'empty')
    await writeFile(empty, '')
    await commit(clone, { 'd.txt': 'x\n' }, 'New', ...signed(sign.openpgp('carol')))
    await push(clone)
    for (const more of [
      { allowed_keys: empty },
      { allowed_keys: join(keys, 'none') },
      { allowed_signers: join(keys, 'none') },
    ]) {
      const one = await open(more)
      t.ok((await one.pull().catch((error) => error)) instanceof SignersError)
      t.equal(one.desk.sync?.status.state, 'refused')
      await one.desk.close()
    }
  })
})
