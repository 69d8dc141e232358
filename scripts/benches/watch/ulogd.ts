// ulogd2, which writes what a log group tells into a file: as JSON, or in the lines of the kernel's log.
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from '../../lab/lab.ts'
import { unpacked } from '../compare/unpacked.ts'
import { pidOf, until } from './watcher.ts'

export interface Ulogd {
  readonly pid: number
  readonly file: string
  /** Lines that it has written so far. */
  lines(): number
}

const PACKAGES = [
  'ulogd2',
  'ulogd2-json',
  'libnetfilter-log1',
  'libnetfilter-conntrack3',
  'libnetfilter-acct1',
  'libnfnetlink0',
  'libjansson4',
]

/** With a socket buffer of 32 to 64 MB, which it takes as root whatever net.core.rmem_max says. */
export async function startUlogd(
  lab: Lab,
  folder: string,
  group: number,
  as: 'json' | 'log',
): Promise<Ulogd> {
  const root = unpacked(...PACKAGES)
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
  const libraries = join(root, 'usr/lib', triplet)
  const plugin = (name: string) => `plugin="${join(libraries, 'ulogd', `ulogd_${name}.so`)}"`
  const file = join(folder, `attempts.${as}`)
  const input = ['inppkt_NFLOG', 'raw2packet_BASE', 'filter_IFINDEX', 'filter_IP2STR']
  const output = as === 'json' ? ['output_JSON'] : ['filter_PRINTPKT', 'output_LOGEMU']
  const stack =
    as === 'json'
      ? 'in:NFLOG,base:BASE,if:IFINDEX,ip:IP2STR,out:JSON'
      : 'in:NFLOG,base:BASE,if:IFINDEX,ip:IP2STR,print:PRINTPKT,out:LOGEMU'
  const config = join(folder, 'ulogd.conf')
  const log = join(folder, 'ulogd.log')
  writeFileSync(
    config,
    `[global]\nlogfile="${log}"\nloglevel=3\n${[...input, ...output].map(plugin).join('\n')}\nstack=${stack}\n` +
      `[in]\ngroup=${group}\nnetlink_socket_buffer_size=33554432\nnetlink_socket_buffer_maxsize=67108864\n` +
      `[out]\nfile="${file}"\nsync=0\n`,
  )
  const child = lab.spawn(lab.gateway, [join(root, 'usr/sbin/ulogd'), '-c', config], {
    stdio: 'ignore',
    env: { ...process.env, LD_LIBRARY_PATH: libraries },
  })
  const pid = pidOf(child)
  const listening = ['sh', '-c', `grep -q "^ *${group} " /proc/net/netfilter/nfnetlink_log`]
  await until('ulogd2', async () => (await lab.exec(lab.gateway, listening)).code === 0)
  return { pid, file, lines: () => linesOf(file) }
}

function linesOf(file: string): number {
  const descriptor = openSync(file, 'r')
  const chunk = Buffer.alloc(1 << 20)
  let lines = 0
  try {
    for (let length = readSync(descriptor, chunk); length > 0; length = readSync(descriptor, chunk)) {
      for (let at = chunk.indexOf(10); at >= 0 && at < length; at = chunk.indexOf(10, at + 1)) lines++
    }
  } finally {
    closeSync(descriptor)
  }
  return lines
}
