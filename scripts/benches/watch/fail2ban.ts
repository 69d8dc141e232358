// fail2ban, which reads the lines of the kernel's log.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { unpacked } from '../compare/unpacked.ts'
import { startUlogd } from './ulogd.ts'
import { LIMITS, load, onLines, pidOf, plainRules, until, type Watcher } from './watcher.ts'

const GROUP = 26

const FILTER = `[Definition]
failregex = ^.* kernel: .*SRC=<HOST> DST=\\S+ .*PROTO=TCP .*DPT=25
`

export const fail2ban: Watcher = {
  name: 'fail2ban',
  async start(lab, folder) {
    const root = unpacked('fail2ban')
    await load(lab, plainRules(GROUP))
    const { pid: ulogd, file } = await startUlogd(lab, folder, GROUP, 'log')
    const config = join(folder, 'fail2ban')
    for (const part of ['filter.d', 'action.d']) mkdirSync(join(config, part), { recursive: true })
    cpSync(join(root, 'etc/fail2ban/fail2ban.conf'), join(config, 'fail2ban.conf'))
    const own = {
      loglevel: 'NOTICE',
      logtarget: 'STDOUT',
      socket: join(folder, 'fail2ban.sock'),
      pidfile: join(folder, 'fail2ban.pid'),
      dbfile: ':memory:',
    }
    writeFileSync(join(config, 'fail2ban.local'), `[Definition]\n${settings(own)}`)
    writeFileSync(join(config, 'filter.d/port-25.conf'), FILTER)
    const jail = {
      enabled: 'true',
      filter: 'port-25',
      logpath: file,
      backend: 'polling',
      maxretry: String(LIMITS.attempts),
      findtime: String(LIMITS.seconds),
      bantime: '3600',
      action: '',
    }
    writeFileSync(join(config, 'jail.conf'), `[DEFAULT]\n[port-25]\n${settings(jail)}`)
    const env = {
      ...process.env,
      PYTHONPATH: join(root, 'usr/lib/python3/dist-packages'),
      PYTHONDONTWRITEBYTECODE: '1',
      PYTHONUNBUFFERED: '1',
    }
    const program = (name: string) => ['/usr/bin/python3', join(root, 'usr/bin', name), '-c', config]
    const child = lab.spawn(lab.gateway, [...program('fail2ban-server'), '-f', 'start'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    })
    const found = new Map<string, number>()
    onLines(child, (line) => {
      const source = /\] Ban (\S+)/.exec(line)?.[1]
      if (source !== undefined) found.set(source, performance.now())
    })
    const status = async () => {
      const { stdout } = await lab.exec(lab.gateway, [...program('fail2ban-client'), 'status', 'port-25'], {
        env,
      })
      const failed = /Total failed:\s+(\d+)/.exec(stdout)?.[1]
      return failed === undefined ? null : Number(failed)
    }
    await until('fail2ban', status)
    return {
      processes: { fail2ban: pidOf(child), ulogd2: ulogd },
      found,
      told: async () => (await status()) ?? 0,
    }
  },
}

function settings(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} = ${value}\n`)
    .join('')
}
