/**
 * Files that grow: a lease or a session is a record at the end, and the later record counts (Kea, ISC DHCP, RADIUS). A
 * file is known by its inode and by the last bytes that were read of it, so one that was renamed is read on where it was,
 * and one that was rewritten, cut or replaced from its beginning: old records, read again, change nothing.
 */
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Holdings } from './holdings.ts'
import { openFile, readLines } from './read-lines.ts'
import type { FaultLog, Reader } from './source.ts'
import type { LineParser } from './subscriber.ts'

export interface LogReaderOptions {
  /** The file that there must be, for messages; or the pattern. */
  readonly file: string
  /** In the order in which they are to be read. */
  readonly files: () => Promise<readonly string[]> | readonly string[]
  readonly newParser: () => LineParser
}

/** How far a file was read. */
interface Progress {
  offset: number
  line: number
  parser: LineParser
  /** The bytes before the offset. */
  tail: Buffer
}

const TAIL = 64

/** Restarts of access servers in one look; each costs a look at some of all sessions. */
const MOST_RESTARTS = 100

export function logReader({ file, files, newParser }: LogReaderOptions): Reader {
  /** By device and inode. */
  let known = new Map<string, Progress>()
  return {
    folders: () => [folderOf(file)],
    async look(into, faults) {
      const next = new Map<string, Progress>()
      let isThere = false
      const budget = { restarts: MOST_RESTARTS }
      for (const path of await files()) {
        const handle = await openFile(path).catch((error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return null
          throw new Error(`cannot read ${path}: ${error.message}`)
        })
        if (handle === null) continue
        isThere = true
        try {
          const { dev, ino } = await handle.stat()
          const key = `${dev}:${ino}`
          const before = known.get(key) ?? next.get(key)
          const isKnown = before !== undefined && (await isContinued(handle, before))
          const progress = isKnown
            ? before
            : { offset: 0, line: 0, parser: newParser(), tail: Buffer.alloc(0) }
          next.set(key, progress)
          await readOn({ handle, path, progress, into, faults, isLive: isKnown, budget })
        } finally {
          await handle.close()
        }
      }
      known = next
      if (!isThere) throw new Error(`there is no ${file}`)
      return null
    },
  }
}

interface ReadOn {
  readonly handle: FileHandle
  readonly path: string
  readonly progress: Progress
  readonly into: Holdings
  readonly faults: FaultLog
  /** What is read now has just been written. */
  readonly isLive: boolean
  readonly budget: { restarts: number }
}

async function readOn({ handle, path, progress, into, faults, isLive, budget }: ReadOn): Promise<void> {
  const { size, mtimeMs } = await handle.stat()
  if (size === progress.offset) return
  const now = Math.floor(mtimeMs / 1000)
  const batches = readLines(handle, progress.offset)
  for (let batch = await batches.next(); ; batch = await batches.next()) {
    if (batch.done === true) {
      progress.offset = batch.value
      progress.tail = await tailBefore(handle, batch.value)
      return
    }
    for (const { text } of batch.value) {
      progress.line++
      if (text === null) {
        faults.add(path, progress.line, 'the line is too long, or no text')
        continue
      }
      for (const found of progress.parser.line(text)) {
        if (found.what === 'fault') faults.add(path, progress.line, found.message)
        // When a lease was released is not in Kea's files; who sees it happen knows.
        else if (found.what === 'released' && found.at === null && !isLive) continue
        else if (found.what === 'server-restarted' && --budget.restarts < 0)
          faults.add(path, progress.line, 'too many restarts of access servers at once')
        else into.take(found, now)
      }
    }
  }
}

async function isContinued(handle: FileHandle, { offset, tail }: Progress): Promise<boolean> {
  const { size } = await handle.stat()
  return size >= offset && (await tailBefore(handle, offset)).equals(tail)
}

async function tailBefore(handle: FileHandle, offset: number): Promise<Buffer> {
  const length = Math.min(TAIL, offset)
  const bytes = Buffer.alloc(length)
  await handle.read(bytes, 0, length, offset - length)
  return bytes
}

/** Of a pattern, the part that is no pattern. */
function folderOf(file: string): string {
  return dirname(file.split('*')[0] ?? file)
}
