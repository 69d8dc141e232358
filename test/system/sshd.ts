/** A real sshd(8) in the gateway's namespace, of the package openssh-server: unpacked, because installed it would be started. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Lab } from '../../scripts/lab/lab.ts'
import { until } from './gateway.ts'

export interface Sshd {
  readonly port: number
  /** The private key that it lets in as root. */
  readonly clientKey: string
  /** With its own key. */
  readonly knownHosts: string
  stop(): Promise<void>
}

const PORT = 2222
const BANNER = 'SSH-2.0'

/** Lets in who has the key that is made with it, or the key that another one lets in. */
export async function startSshd(test: Test, lab: Lab, folder: string, like?: Sshd): Promise<Sshd> {
  const packages = ['openssh-server', 'libwrap0']
  const unpacked = new URL('../../scripts/lib/unpacked', import.meta.url).pathname
  const root = execFileSync(unpacked, packages, { encoding: 'utf8' }).trim()
  await mkdir(folder)
  const file = (name: string) => join(folder, name)
  for (const name of ['host', 'client'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file(name)])
  if (like !== undefined)
    for (const end of ['', '.pub']) await copyFile(`${like.clientKey}${end}`, file(`client${end}`))
  await copyFile(file('client.pub'), file('authorized_keys'))
  await writeFile(file('known_hosts'), `[127.0.0.1]:${PORT} ${await readFile(file('host.pub'), 'utf8')}`)
  const helpers = [
    ['SshdSessionPath', 'sshd-session'],
    ['SshdAuthPath', 'sshd-auth'],
  ].flatMap(([key, name]) => {
    const path = join(root, 'usr/lib/openssh', String(name))
    return existsSync(path) ? [`${key} ${path}`] : []
  })
  await writeFile(
    file('sshd_config'),
    [
      ...[`Port ${PORT}`, 'ListenAddress 127.0.0.1', `HostKey ${file('host')}`, `PidFile ${file('pid')}`],
      ...[`AuthorizedKeysFile ${file('authorized_keys')}`, 'StrictModes no', 'UsePAM no'],
      ...['PasswordAuthentication no', 'KbdInteractiveAuthentication no', 'PermitRootLogin yes', ...helpers],
      '',
    ].join('\n'),
  )
  // Who it separates its privileges to must be known; it is, in what only this process and its children see.
  await writeFile(
    file('passwd'),
    'root:*:0:0:root:/root:/bin/sh\nsshd:*:65533:65534:sshd:/run/sshd:/usr/sbin/nologin\n',
  )
  const script = `mount --bind ${file('passwd')} /etc/passwd && mkdir -p /run/sshd && chmod 755 /run/sshd
exec env LD_LIBRARY_PATH=$(echo ${root}/lib/*-linux-gnu ${root}/usr/lib/*-linux-gnu | tr ' ' :) \\
  ${root}/usr/sbin/sshd -D -E ${file('log')} -f ${file('sshd_config')}`
  const child = lab.spawn(lab.gateway, ['unshare', '--mount', 'sh', '-c', script], { stdio: 'ignore' })
  // It says a lot, of which somebody wants to know when a test failed.
  test.teardown(() => {
    if (!test.passing()) process.stderr.write(readFileSync(file('log')))
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await until('sshd', async () => {
    const probe = `exec 3<>/dev/tcp/127.0.0.1/${PORT} && head -c ${BANNER.length} <&3`
    return (await lab.exec(lab.gateway, ['bash', '-c', probe], {})).stdout === BANNER
  })
  return {
    port: PORT,
    clientKey: file('client'),
    knownHosts: file('known_hosts'),
    async stop() {
      child.kill()
      await ended
    },
  }
}
