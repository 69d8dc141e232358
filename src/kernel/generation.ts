/**
 * Whether anybody has changed nftables behind our back. The kernel numbers its transactions (the generation): while the
 * number is the one that was noted, every table is as we left it, whatever happened to us meanwhile. The number is kept
 * in a file, for the next start, and followed by who hears of all changes.
 */
import { readFile, readlink, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessRunner } from './process.ts'

const FILE = 'generation'
const PATIENCE = 5_000
/** Milliseconds in which many changes become one write. */
const GATHER = 500

/** nlmsghdr(3) and nfgenmsg: 20 bytes, NFT_MSG_GETGEN of nf_tables, a request. */
const REQUEST = '\x14\0\0\0\x10\x0a\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0'
/** One message to the kernel over NETLINK_NETFILTER, and the first bytes of its answer in hexadecimal. */
const ASK = [
  'socat',
  '-x',
  '-t',
  '1',
  '-',
  'SOCKET-SENDTO:16:3:12:x00000000000000000000,readbytes=44',
] as const
/** Of the answer: NFTA_GEN_ID, the first attribute, big-endian. */
const NUMBER = /^< [^\n]*length=44[^\n]*\n((?: [0-9a-f]{2}){24})((?: [0-9a-f]{2}){4})/m

export class Generation {
  readonly #run: ProcessRunner
  readonly #path: string
  #noted: number | null = null
  #inDoubt = false
  #timer: NodeJS.Timeout | null = null

  constructor(run: ProcessRunner, stateDirectory: string) {
    this.#run = run
    this.#path = join(stateDirectory, FILE)
  }

  /** Whether nobody has changed anything since we, or an earlier run, noted it; false when nobody can tell. */
  async isAsNoted(): Promise<boolean> {
    const now = await this.#read()
    if (now === null || this.#inDoubt) return false
    if (this.#noted !== null) return now === this.#noted
    if ((await readFile(this.#path, 'utf8').catch(() => null)) !== (await lineOf(now))) return false
    this.#noted = now
    return true
  }

  /** Takes the kernel as it is now for what we have left there. */
  async note(): Promise<void> {
    this.#noted = await this.#read()
    this.#inDoubt = false
    await this.#write()
  }

  /** The next transaction was heard of, and was ours or none of our business. */
  heard(generation: number): void {
    if (this.#inDoubt) return
    this.#noted = generation
    this.#timer ??= setTimeout(() => void this.stop(), GATHER).unref()
  }

  /** Somebody has changed what is ours: until it is put right, and noted, no number is a good one. */
  doubt(): void {
    if (this.#inDoubt) return
    this.#inDoubt = true
    this.#noted = null
    void this.#write()
  }

  /** Whether there were transactions that nobody noted or heard of; false when nobody can tell. */
  async hasMoved(): Promise<boolean> {
    const now = await this.#read()
    return now !== null && now !== this.#noted
  }

  /** Writes what was heard last. */
  async stop(): Promise<void> {
    if (this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
    await this.#write()
  }

  async #read(): Promise<number | null> {
    try {
      const { stderr } = await this.#run(ASK, { input: REQUEST, timeout: PATIENCE })
      const number = NUMBER.exec(stderr)?.[2]
      return number === undefined ? null : Number.parseInt(number.replaceAll(' ', ''), 16)
    } catch {
      return null
    }
  }

  /** Not synced: it says which boot it is of. A file that cannot be written costs the next start some seconds. */
  async #write(): Promise<void> {
    try {
      const line = this.#noted === null ? '' : await lineOf(this.#noted)
      await writeFile(`${this.#path}.new`, line, { mode: 0o640 })
      await rename(`${this.#path}.new`, this.#path)
    } catch {
      // An old number matches no kernel that has moved on.
    }
  }
}

/** Generations are counted by each network namespace, from each start of the kernel. */
async function lineOf(generation: number): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
  return `${boot.trim()} ${await readlink('/proc/self/ns/net')} ${generation}\n`
}
