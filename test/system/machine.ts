/**
 * A Debian machine inside this one: systemd as process 1, in namespaces of its own, on a copy-on-write view of this
 * machine's files. What is installed, enabled or written in it is gone with it. It lives in the lab's gateway.
 */
import { type ChildProcess, spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { Lab } from '../../scripts/lab/lab.ts'
import { mustRun, type Output, run } from '../../scripts/lab/process.ts'

export interface Machine {
  /** Switches it on; resolves when it has started all that is enabled. */
  boot(): Promise<void>
  /** Pulls the plug, and empties the gateway's kernel as a power cut does. */
  cutPower(): Promise<void>
  run(argv: readonly string[], timeoutMs?: number): Promise<Output>
  /** Standard output; fails on an exit status other than 0. */
  mustRun(argv: readonly string[], timeoutMs?: number): Promise<string>
  remove(): Promise<void>
}

const TARGET = `[Unit]
Requires=sysinit.target
Wants=systemd-journald.service multi-user.target
`

/** Outside its own namespaces of processes and cgroups: lays the copy-on-write root, and a cgroup to live in. */
const LAY_OUT = `set -eu
base=$1 library=$2 checkout=$3 home=$4
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
# Nothing of an egress25 that the machine around runs; what this one has written stays from boot to boot.
[ -e "$base/booted" ] || rm -rf "$base/root/var/lib/egress25" "$base/root/etc/egress25"
mkdir -p "$base/booted" "$base/root/usr/lib/egress25"
mount --bind "$library" "$base/root/usr/lib/egress25"
# An overlay shows one file system; a checkout or home folder on another one is added.
for path in "$checkout" "$home"; do
  [ "$(stat -c %d "$path")" = "$(stat -c %d /)" ] && continue
  mkdir -p "$base/root$path"
  mount --bind "$path" "$base/root$path"
done
mount --bind "$base/units" "$base/root/etc/systemd/system"
mount -t cgroup2 none "$base/cgroup"
group=$base/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$(basename "$base")
mkdir -p "$group"
echo $$ >"$group/cgroup.procs"
umount "$base/cgroup"
exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child sh -c "$5" machine "$base/root"
`

/** As process 1: the file systems that an empty machine needs, and then systemd. */
const START = `set -eu
cd "$1"
mount -t proc proc proc
# What is not in a namespace belongs to the machine around.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mount -t tmpfs -o mode=755 tmpfs run
# Only what is tested: not what Debian starts early, nor what the machine around mounts.
for folder in usr/lib/systemd/system/*.target.wants; do mount -t tmpfs tmpfs "$folder"; done
mount -t tmpfs tmpfs usr/lib/systemd/system-generators
mkdir -p .around
pivot_root . .around
umount -l /.around
# As container managers leave it for systemd: what is mounted for credentials must reach all.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin \\
  setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog \\
  /lib/systemd/systemd --log-target=journal --unit=test.target
`

/** Removes the cgroup, with those that systemd made in it. */
const REMOVE_CGROUP = `set -eu
mount -t cgroup2 none "$1/cgroup"
group=$1/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$(basename "$1")
[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
`

export async function makeMachine(lab: Lab, checkout: string): Promise<Machine> {
  // What is written goes to memory: an overlay cannot write to the file system that it shows.
  const base = await mkdtemp('/dev/shm/egress25-machine-')
  // Except the program itself, which is too big for it.
  const library = await mkdtemp(join(tmpdir(), 'egress25-machine-'))
  await mustRun(['chmod', '755', base, library])
  for (const folder of ['upper', 'work', 'root', 'units', 'cgroup']) await mkdir(join(base, folder))
  await writeFile(join(base, 'units/test.target'), TARGET)

  let power: ChildProcess | null = null
  let init = 0
  const switchOff = () => {
    power?.kill('SIGKILL')
    power = null
    for (const deadline = Date.now() + 60_000; ; ) {
      const done = spawnSync('unshare', ['--mount', 'sh', '-c', REMOVE_CGROUP, 'machine', base])
      if (done.status === 0) return
      if (Date.now() > deadline) throw new Error(`the machine's cgroup stays: ${done.stderr}`)
    }
  }
  const self: Machine = {
    async boot() {
      const script = ['sh', '-c', LAY_OUT, 'machine', base, library, checkout, homedir(), START]
      // Should this process be killed, the machine is too.
      const argv = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', ...script]
      const child = lab.spawn(lab.gateway, argv, { stdio: ['ignore', 'ignore', 'pipe'] })
      power = child
      let complaint = ''
      child.stderr?.on('data', (text) => {
        complaint += text
      })
      for (const deadline = Date.now() + 120_000; ; await wait(50)) {
        if (child.exitCode !== null || Date.now() > deadline) {
          throw new Error(`the machine does not start: ${complaint}`)
        }
        init = await systemdOf(child)
        if (init === 0) continue
        const { stdout } = await self.run(['systemctl', 'is-system-running'])
        if (/^(running|degraded)$/.test(stdout.trim())) return
      }
    },
    async cutPower() {
      switchOff()
      await lab.exec(lab.gateway, ['nft', 'flush', 'ruleset'])
    },
    run: (argv, timeoutMs = 60_000) =>
      run(['nsenter', '--target', `${init}`, '--all', '--root', '--wd', ...argv], { timeoutMs }),
    async mustRun(argv, timeoutMs) {
      const { code, stdout, stderr } = await self.run(argv, timeoutMs)
      if (code !== 0) throw new Error(`${argv.join(' ')}: exit status ${code}. ${stdout}${stderr}`)
      return stdout
    },
    async remove() {
      process.off('exit', removeNow)
      switchOff()
      // It is much, and others go on meanwhile.
      for (const path of [base, library]) await rm(path, { recursive: true, force: true })
    },
  }
  /** In the last moment of a process. Whoever ends it may tell of its exit more than once. */
  const removeNow = () => {
    process.off('exit', removeNow)
    switchOff()
    for (const path of [base, library]) rmSync(path, { recursive: true, force: true })
  }
  process.once('exit', removeNow)
  return self
}

/** Its process 1; 0 until that is systemd, since before it is still among the files of the machine around. */
async function systemdOf({ pid }: ChildProcess): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const first = Number(children.trim().split(' ')[0])
  const name = await readFile(`/proc/${first}/comm`, 'utf8').catch(() => '')
  return name.trim() === 'systemd' ? first : 0
}
