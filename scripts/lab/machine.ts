// A whole machine of its own: Debian's kernel, with a clock that may be set and a boot that may be watched, emulated in
// software by qemu, so that it runs wherever the tests do. All that is in it is in its memory: nothing of this machine
// can be reached from inside.
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { modulesInOrder } from './kernel-modules.ts'
import { mustRun, start, stop } from './process.ts'

const KERNEL = new URL('../lib/kernel', import.meta.url).pathname

export interface MachineOptions {
  /** What its clock says when it is switched on, ISO 8601 in UTC without the zone: 2030-01-01T10:00:00. */
  readonly clock: string
  /** Names of modules that are loaded at its boot. */
  readonly modules: readonly string[]
  /** Programs of this machine, found in the PATH, that are there too, with the libraries they need; beside busybox. */
  readonly programs: readonly string[]
  /** Files and folders of this machine, which are at the same paths there. */
  readonly copies: readonly string[]
  /** Other files, by path, with what is in them. */
  readonly files: Readonly<Record<string, string>>
}

export interface Machine {
  /** Runs one line of sh(1) to its end; both outputs together. What it leaves running runs on. */
  run(line: string, timeoutMs?: number): Promise<{ readonly code: number; readonly output: string }>
  /** Like `run`, but fails on an exit status other than 0. */
  must(line: string, timeoutMs?: number): Promise<string>
  /** Switches it off, as a power cut would. */
  close(): Promise<void>
}

/** Megabytes. */
const MEMORY = 1_024
/** Milliseconds: a busy machine emulates slowly. */
const BOOT_PATIENCE = 120_000
const RUN_PATIENCE = 120_000

// Commands come as lines on the second serial port. Each is answered by its exit status, the length of what it printed in
// bytes, and that.
const INIT = `#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp /run /root /var/lib
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod "$module" || echo "cannot load $module"; done
ip link set lo up
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo ready >&3
while read -r line <&3; do
  sh -c "$line" </dev/null >/run/output 2>&1 3>&-
  status=$?
  cp /run/output /run/answer
  echo "$status $(wc -c </run/answer)" >&3
  cat /run/answer >&3
done
poweroff -f
`

/**
 * Switches a machine on; resolves when it takes commands.
 * @throws Error when it does not boot, with the last that its kernel said
 */
export async function openMachine(options: MachineOptions): Promise<Machine> {
  const folder = mkdtempSync(join(tmpdir(), 'egress25-emulated-'))
  const log = join(folder, 'console')
  try {
    const kernel = execFileSync(KERNEL, { encoding: 'utf8', timeout: 300_000 }).trim()
    const [version = ''] = readdirSync(join(kernel, 'lib/modules'))
    const image = join(folder, 'image')
    await furnish(join(folder, 'root'), join(kernel, 'lib/modules', version), options, image)
    openSync(log, 'w')
    const qemu = start(
      [
        ...[
          'setpriv',
          '--pdeathsig',
          'KILL',
          'qemu-system-x86_64',
          '-accel',
          'tcg',
          '-cpu',
          'qemu64,+rdrand',
          '-m',
          `${MEMORY}`,
        ],
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
        ...['-rtc', `base=${options.clock},clock=host`],
        ...['-kernel', join(kernel, `boot/vmlinuz-${version}`), '-initrd', image],
        ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on'],
        ...['-serial', `file:${log}`, '-serial', 'stdio'],
      ],
      { stdio: ['pipe', 'pipe', openSync(log, 'a')] },
    )
    const { stdin, stdout } = qemu
    if (stdin === null || stdout === null) throw new Error('no pipes to qemu')
    stdin.on('error', () => {}) // it has ended; whoever waits is told
    const console = () => readFileSync(log, 'utf8').trim().split('\n').slice(-20).join('\n')
    const heard = listener(stdout, qemu, console)
    const close = async () => {
      await stop(qemu, 3_000)
      rmSync(folder, { recursive: true, force: true, maxRetries: 9 })
    }
    try {
      await heard.line(BOOT_PATIENCE)
    } catch (error) {
      await close()
      throw error
    }
    const run: Machine['run'] = async (line, timeoutMs = RUN_PATIENCE) => {
      if (line.includes('\n')) throw new Error('one line at a time')
      stdin.write(`${line}\n`)
      const [code, length] = (await heard.line(timeoutMs)).split(' ').map(Number)
      if (code === undefined || length === undefined) throw new Error('the machine answers nonsense')
      return { code, output: await heard.bytes(length, timeoutMs) }
    }
    return {
      run,
      async must(line, timeoutMs) {
        const { code, output } = await run(line, timeoutMs)
        if (code !== 0) throw new Error(`${line}: exit status ${code}. ${output.trim()}`)
        return output
      },
      close,
    }
  } catch (error) {
    rmSync(folder, { recursive: true, force: true, maxRetries: 9 })
    throw error
  }
}

/** Makes the archive that the kernel unpacks into its memory at its start. */
async function furnish(root: string, modules: string, options: MachineOptions, image: string): Promise<void> {
  const put = (path: string, content: string | Buffer) => {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), content, { mode: 0o755 })
  }
  const copy = (from: string, to = from) => {
    mkdirSync(dirname(join(root, to)), { recursive: true })
    cpSync(realpathSync(from), join(root, to), { recursive: true })
  }
  const which = (program: string) =>
    realpathSync(execFileSync('which', [program], { encoding: 'utf8' }).trim())
  const busybox = which('busybox')
  copy(busybox, '/bin/busybox')
  const programs = options.programs.map((program) => {
    const path = which(program)
    copy(path, `/usr/bin/${program}`)
    return path
  })
  const libraries = execFileSync('ldd', [busybox, ...programs], { encoding: 'utf8' })
  for (const library of new Set(libraries.match(/(?<=\s)\/\S+(?= \(0x)/g))) copy(library)
  for (const path of options.copies) copy(path)
  for (const [index, { name, image: module }] of modulesInOrder(modules, options.modules).entries())
    put(`/modules/${String(index).padStart(3, '0')}-${name}.ko`, module)
  for (const [path, content] of Object.entries(options.files)) put(path, content)
  put('/etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n')
  put('/etc/group', 'root:x:0:\n')
  put('/init', INIT)
  await mustRun(['sh', '-c', 'find . | busybox cpio -o -H newc >"$0"', image], { cwd: root })
  rmSync(root, { recursive: true, force: true, maxRetries: 9 })
}

/** Reads what the machine answers: a line, or so many bytes. Fails when it is late, or the machine has gone. */
function listener(
  output: NodeJS.ReadableStream,
  machine: NodeJS.EventEmitter,
  console: () => string,
): { line(timeoutMs: number): Promise<string>; bytes(count: number, timeoutMs: number): Promise<string> } {
  let buffer = Buffer.alloc(0)
  let gone = false
  let look = () => {}
  output.on('data', (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk])
    look()
  })
  const end = () => {
    gone = true
    look()
  }
  machine.once('exit', end)
  machine.once('error', end)
  /** Waits until so many bytes of the buffer, and one more for a line's end, belong together. */
  const take = (length: () => number, timeoutMs: number) =>
    new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => fail(`does not answer for ${timeoutMs} ms`), timeoutMs)
      const fail = (what: string) => {
        clearTimeout(timer)
        look = () => {}
        reject(new Error(`the machine ${what}; its console:\n${console()}`))
      }
      look = () => {
        const count = length()
        if (count >= 0 && buffer.length >= count) {
          clearTimeout(timer)
          look = () => {}
          resolve(buffer.toString('utf8', 0, count))
          buffer = buffer.subarray(count)
        } else if (gone) fail('has ended')
      }
      look()
    })
  return {
    line: async (timeoutMs) =>
      (await take(() => (buffer.includes(10) ? buffer.indexOf(10) + 1 : -1), timeoutMs)).trim(),
    bytes: (count, timeoutMs) => take(() => count, timeoutMs),
  }
}
