// firewalld in a namespace of its own, with its own D-Bus: the real service and the real firewall-cmd, as root.
import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contender } from './contender.ts'
import { unpacked } from './unpacked.ts'

/** For firewalld to come up, in milliseconds. */
const PATIENCE = 60_000

/** Nobody else can reach this bus; its limits are those of a system bus, which a long list of entries may exceed. */
const busConfig = (
  socket: string,
) => `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`

const RULES = [
  'rule priority="-10" family="ipv4" source ipset="exempt" port port="25" protocol="tcp" accept',
  'rule priority="10" family="ipv4" port port="25" protocol="tcp" reject',
]

export const firewalld: Contender = {
  name: 'firewalld, ipset entries',
  async open({ lab, folder, prefixes }) {
    const root = unpacked('firewalld', 'python3-firewall', 'python3-nftables')
    const at = (path: string) => join(root, path)
    const [config, entries, socket] = ['etc', 'entries', 'bus'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    cpSync(at('etc/firewalld'), config, { recursive: true })
    writeFileSync(entries, `${prefixes.join('\n')}\n`)
    writeFileSync(join(folder, 'bus.conf'), busConfig(socket))
    const environment = [
      'env',
      `DBUS_SYSTEM_BUS_ADDRESS=unix:path=${socket}`,
      `PYTHONPATH=${at('usr/lib/python3/dist-packages')}`,
    ]
    const python = (...words: string[]) => [...environment, '/usr/bin/python3', ...words]
    const spawn = (argv: readonly string[]) => lab.spawn(lab.gateway, argv, { stdio: 'ignore' })
    const cmd = (...words: string[]) => python(at('usr/bin/firewall-cmd'), ...words)
    const ready = async (words: readonly string[]) => {
      for (const deadline = performance.now() + PATIENCE; ; await sleep(200)) {
        const { code, stderr } = await lab.exec(lab.gateway, words, { timeoutMs: PATIENCE })
        if (code === 0) return
        if (performance.now() > deadline) throw new Error(`${words.join(' ')}: ${stderr.trim()}`)
      }
    }
    spawn(['dbus-daemon', `--config-file=${join(folder, 'bus.conf')}`, '--nofork'])
    await ready(['test', '-S', socket])
    spawn(
      python(
        at('usr/sbin/firewalld'),
        '--nofork',
        '--nopid',
        '--default-config',
        at('usr/lib/firewalld'),
        '--system-config',
        config,
      ),
    )
    await ready(cmd('--state'))
    const permanent = async (...words: string[]) => {
      const { code, stderr } = await lab.exec(lab.gateway, cmd('--permanent', ...words), {
        timeoutMs: PATIENCE,
      })
      if (code !== 0) throw new Error(`firewall-cmd ${words.join(' ')}: ${stderr.trim()}`)
    }
    await permanent('--new-ipset=exempt', '--type=hash:net', '--option=maxelem=2000000')
    await permanent('--new-policy=smtp')
    await permanent('--policy=smtp', '--add-ingress-zone=ANY')
    await permanent('--policy=smtp', '--add-egress-zone=ANY')
    await permanent('--policy=smtp', ...RULES.map((rule) => `--add-rich-rule=${rule}`))
    return {
      async first(run) {
        await run(cmd('--permanent', '--ipset=exempt', `--add-entries-from-file=${entries}`))
        await run(cmd('--reload'))
      },
      oneMore: (run, host) => run(cmd('--ipset=exempt', `--add-entry=${host}`)),
    }
  },
}
