/**
 * Files that tell everything that is, and nothing of what was (dnsmasq, CSV): each time such a file has changed it is
 * read as a whole, and who is not in it any more is gone since. A file that is still being written is left alone until
 * it rests.
 */
import { dirname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { openFile, readLines } from './read-lines.ts'
import type { Reader } from './source.ts'
import { fault, type LineParser } from './subscriber.ts'

export interface SnapshotReaderOptions {
  readonly file: string
  readonly newParser: () => LineParser
  /** At the first reading: what it says has been so all the time, or since it was written. */
  readonly atFirst: 'always' | 'since-written'
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Milliseconds without a change after which a file rests; longer where its last line has no end. */
const REST = 250
const LONG_REST = 2_000

export function snapshotReader({ file, newParser, atFirst, now }: SnapshotReaderOptions): Reader {
  let known = ''
  let isFirst = true
  return {
    folders: () => [dirname(file)],
    async look(into, faults) {
      const handle = await openFile(file).catch((error: NodeJS.ErrnoException) => {
        throw new Error(
          error.code === 'ENOENT' ? `there is no ${file}` : `cannot read ${file}: ${error.message}`,
        )
      })
      try {
        const { ino, size, mtimeMs } = await handle.stat()
        const version = `${ino} ${size} ${mtimeMs}`
        if (version === known) return null
        const last = Buffer.alloc(1)
        await handle.read(last, 0, 1, Math.max(0, size - 1))
        const rest = size === 0 || last[0] === 10 ? REST : LONG_REST
        // A clock that was put back must not make it wait for long.
        const age = Math.abs(now() - mtimeMs)
        if (age < rest) return rest - age
        const time = isFirst && atFirst === 'always' ? 0 : Math.floor(mtimeMs / 1000)
        const parser = newParser()
        let line = 0
        into.beginPass()
        for await (const batch of readLines(handle, 0, true)) {
          for (const { text } of batch) {
            line++
            const parsed = text === null ? fault('the line is too long, or no text') : parser.line(text)
            for (const found of parsed) {
              if (found.what === 'fault') faults.add(file, line, found.message)
              else into.take(found, time)
            }
          }
        }
        const after = await handle.stat()
        // Somebody wrote meanwhile: what is missing is not gone yet.
        if (after.size !== size || after.mtimeMs !== mtimeMs) return REST
        for (const _ of into.endPass(Math.floor(mtimeMs / 1000))) await setImmediate()
        known = version
        isFirst = false
        return null
      } finally {
        await handle.close()
      }
    },
  }
}
