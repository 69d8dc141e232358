/**
 * The program behind an attempt of this machine's own users: its connection is looked up in /proc/net/tcp while it is still
 * there, and its socket among what the user's processes hold open. Who may not see other users' processes says nothing, and
 * so does who comes too late: what is refused at once is mostly gone by then.
 */
import { createReadStream } from 'node:fs'
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { endianness } from 'node:os'
import type { Prefix } from '../policy/prefix.ts'
import type { Attempt } from './attempt.ts'

export interface LocalProcess {
  /** As the kernel knows it: at most 15 bytes, which the process chooses. */
  readonly name: string
  /** Of the program that it runs; null when it has ended meanwhile. */
  readonly path: string | null
}

/** Milliseconds between two looks, at whomever, and at the same user when nothing was found. */
const PAUSE = 250
const PAUSE_OF_USER = 1_000
/** Milliseconds for which a user's program is not looked up again, and after which it is forgotten. */
const FRESH = 60_000
const STALE = 3_600_000
const MOST_USERS = 4_096
/** What is read of /proc/net/tcp at most, some 100,000 connections; and of what processes hold open. */
const MOST_BYTES = 16_777_216
const MOST_FILES = 20_000
/** Characters of a path. */
const MOST_PATH = 1_000

interface Known {
  asked: number
  found: number
  process: LocalProcess | null
}

export class LocalProcesses {
  readonly #now: () => number
  /** In the order in which they were asked for, the earliest first. */
  readonly #users = new Map<number, Known>()
  #asked = Number.NEGATIVE_INFINITY
  #isBusy = false
  /** null: not tried yet. */
  #maySee: boolean | null = null

  /** `now` in milliseconds since the epoch. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** To be told of each attempt, right when it comes; looks at a few of them. Never fails. */
  look(attempt: Pick<Attempt, 'source' | 'sourcePort' | 'destination' | 'uid'>): void {
    const { uid } = attempt
    const now = this.#now()
    if (uid === null || this.#isBusy || this.#maySee === false || now - this.#asked < PAUSE) return
    const known = this.#users.get(uid)
    if (known !== undefined && (now - known.found < FRESH || now - known.asked < PAUSE_OF_USER)) return
    this.#asked = now
    this.#note(uid, { process: null, found: Number.NEGATIVE_INFINITY, ...known, asked: now })
    this.#isBusy = true
    this.#find(attempt, uid)
      .then((process) => {
        if (process !== null) this.#note(uid, { asked: now, found: this.#now(), process })
      })
      // A process that ends while it is looked at.
      .catch(() => {})
      .finally(() => {
        this.#isBusy = false
      })
  }

  /** The program that made one of the user's attempts within the last hour; null: nobody saw. */
  of(uid: number): LocalProcess | null {
    const known = this.#users.get(uid)
    return known === undefined || this.#now() - known.found > STALE ? null : known.process
  }

  #note(uid: number, known: Known): void {
    this.#users.delete(uid)
    this.#users.set(uid, known)
    const [oldest] = this.#users.keys()
    if (this.#users.size > MOST_USERS && oldest !== undefined) this.#users.delete(oldest)
  }

  async #find(attempt: Parameters<LocalProcesses['look']>[0], uid: number): Promise<LocalProcess | null> {
    this.#maySee ??= await maySeeOthers()
    if (!this.#maySee) return null
    const inode = await findSocket(attempt, uid)
    return inode === null ? null : findHolder(`socket:[${inode}]`, uid)
  }
}

/** CAP_SYS_PTRACE, and CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH: what it takes to see what other users' processes hold open. */
const PTRACE = 1n << 19n
const READ = (1n << 1n) | (1n << 2n)

async function maySeeOthers(): Promise<boolean> {
  const [, held = '0'] = /^CapEff:\t([0-9a-f]+)$/m.exec(await readFile('/proc/self/status', 'utf8')) ?? []
  const capabilities = BigInt(`0x${held}`)
  return (capabilities & PTRACE) !== 0n && (capabilities & READ) !== 0n
}

/** The number of a connection's socket, if it is the user's; null when there is no such connection. */
async function findSocket(
  { source, sourcePort, destination }: Parameters<LocalProcesses['look']>[0],
  uid: number,
): Promise<string | null> {
  const ends = (write: (address: Prefix) => string) =>
    `: ${write(source)}:${hex(sourcePort, 4)} ${write(destination)}:0019 `
  const tables: [string, string][] =
    source.family === 6
      ? [['/proc/net/tcp6', ends(words)]]
      : [
          ['/proc/net/tcp', ends(words)],
          // A program that speaks IPv6 only in name.
          ['/proc/net/tcp6', ends((address) => `${'0'.repeat(16)}${word(0xffff)}${words(address)}`)],
        ]
  for (const [path, connection] of tables) {
    const line = await findLine(path, connection)
    // State, queues, timer, retransmissions, user, timeout, inode.
    const [, owner, inode] = /^\S+ \S+ \S+ \S+ +(\d+) +\d+ (\d+) /.exec(line) ?? []
    if (owner !== undefined && inode !== undefined && Number(owner) === uid && inode !== '0') return inode
  }
  return null
}

/** What stands behind the text in its line; empty when it is nowhere. */
async function findLine(path: string, text: string): Promise<string> {
  const LONGEST = 400
  let rest = ''
  for await (const chunk of createReadStream(path, { encoding: 'latin1', end: MOST_BYTES })) {
    rest += chunk
    const at = rest.indexOf(text)
    const end = at === -1 ? -1 : rest.indexOf('\n', at)
    if (end !== -1) return rest.slice(at + text.length, end)
    rest = rest.slice(at === -1 ? -LONGEST : at)
  }
  return ''
}

/** As /proc/net/tcp has it: words of 32 bits as this machine keeps them. */
function words({ family, address }: Prefix): string {
  if (family === 4) return word(address)
  return [96n, 64n, 32n, 0n].map((shift) => word(Number((address >> shift) & 0xffff_ffffn))).join('')
}

function word(value: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return hex(endianness() === 'LE' ? bytes.readUInt32LE() : bytes.readUInt32BE(), 8)
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0')
}

/** Which of the user's processes holds it open. */
async function findHolder(socket: string, uid: number): Promise<LocalProcess | null> {
  let files = 0
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const owner = await stat(`/proc/${pid}`).catch(() => null)
    if (owner?.uid !== uid) continue
    for (const file of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if (++files > MOST_FILES) return null
      if ((await readlink(`/proc/${pid}/fd/${file}`).catch(() => '')) === socket) return describe(pid)
    }
  }
  return null
}

async function describe(pid: string): Promise<LocalProcess> {
  const name = await readFile(`/proc/${pid}/comm`, 'utf8')
  const path = await readlink(`/proc/${pid}/exe`).catch(() => null)
  return { name: clean(name.replace(/\n$/, '')), path: path === null ? null : clean(path) }
}

/** Whoever runs a program names it. */
function clean(text: string): string {
  return text.slice(0, MOST_PATH).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}
