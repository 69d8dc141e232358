/** Whole lines of a file from some place on, in bounded memory. What has no end yet is left for the next time. */
import { constants, type FileHandle, open } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'

export interface Line {
  /** null: it is too long, or no text. */
  readonly text: string | null
}

const CHUNK = 1 << 16
/** A line longer than this is no record of anything. */
export const LONGEST_LINE = 16_384

const LF = 10
const CR = 13

/** Opens a file to read; a pipe or a device would never end. @throws Error */
export async function openFile(path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw new Error('it is not a file')
}

/**
 * Lines from `offset` on, in batches. Answers in the end where the first unfinished line begins; with `isFinished` what
 * comes behind the last line end is a line, too.
 */
export async function* readLines(
  handle: FileHandle,
  offset: number,
  isFinished = false,
): AsyncGenerator<readonly Line[], number> {
  const chunk = Buffer.alloc(CHUNK)
  let rest: Buffer = Buffer.alloc(0)
  /** Bytes of an overlong line that were dropped already. */
  let dropped = 0
  let position = offset
  for (;;) {
    const { bytesRead } = await handle.read(chunk, 0, CHUNK, position)
    if (bytesRead === 0) break
    position += bytesRead
    const bytes =
      rest.length === 0 ? chunk.subarray(0, bytesRead) : Buffer.concat([rest, chunk.subarray(0, bytesRead)])
    const lines: Line[] = []
    let start = 0
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, start)) {
      lines.push({ text: dropped > 0 ? null : textOf(bytes.subarray(start, end)) })
      dropped = 0
      start = end + 1
    }
    rest = Buffer.from(bytes.subarray(start))
    if (rest.length > LONGEST_LINE) {
      dropped += rest.length
      rest = Buffer.alloc(0)
    }
    yield lines
    // Others want their turn: a file may have a million lines.
    await setImmediate()
  }
  if (isFinished && rest.length + dropped > 0) {
    yield [{ text: dropped > 0 ? null : textOf(rest) }]
    return position
  }
  return position - rest.length - dropped
}

function textOf(bytes: Buffer): string | null {
  if (bytes.length > LONGEST_LINE || bytes.includes(0)) return null
  return (bytes.at(-1) === CR ? bytes.subarray(0, -1) : bytes).toString('utf8')
}
