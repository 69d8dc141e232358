/** Sources as the configuration names them. */

import type { ProcessRunner } from '../kernel/process.ts'
import { csvParser } from './csv.ts'
import { dnsmasqParser } from './dnsmasq.ts'
import { filesLike, keaFiles } from './files.ts'
import { iscDhcpParser } from './isc-dhcp.ts'
import { keaParser } from './kea.ts'
import { logReader } from './log-reader.ts'
import { neighbourReader } from './neighbours.ts'
import { radiusParser } from './radius.ts'
import { snapshotReader } from './snapshot-reader.ts'
import { type Reader, Source, type SourceOptions } from './source.ts'
import type { SubscriberSource } from './subscriber-source.ts'
import { Subscribers } from './subscribers.ts'

export interface OpenSubscribersOptions
  extends Pick<SourceOptions, 'now' | 'onFault' | 'onFailed' | 'onRead'> {
  readonly sources: readonly SubscriberSource[]
  /** Milliseconds. */
  readonly retain: number
  readonly run: ProcessRunner
  /** Of each source. */
  readonly maxEntries?: number
}

const MAX_ENTRIES = 2_000_000

/** Nothing is read before `start`. */
export function openSubscribers(options: OpenSubscribersOptions): Subscribers {
  const { sources, retain, run, maxEntries = MAX_ENTRIES, ...told } = options
  return new Subscribers({
    sources: sources.map(
      (source) =>
        new Source({
          ...told,
          name: source.name,
          type: source.type,
          maxEntries,
          reader: readerOf(source, run, told.now),
        }),
    ),
    retain,
    now: told.now,
  })
}

function readerOf(source: SubscriberSource, run: ProcessRunner, now: () => number): Reader {
  switch (source.type) {
    case 'kea':
      return logReader({ file: source.file, files: () => keaFiles(source.file), newParser: keaParser })
    case 'isc-dhcp':
      return logReader({ file: source.file, files: () => [source.file], newParser: iscDhcpParser })
    case 'radius':
      return logReader({ file: source.file, files: () => filesLike(source.file), newParser: radiusParser })
    case 'dnsmasq':
      return snapshotReader({ file: source.file, newParser: dnsmasqParser, atFirst: 'since-written', now })
    case 'csv':
      return snapshotReader({ file: source.file, newParser: csvParser, atFirst: 'always', now })
    case 'neighbours':
      return neighbourReader(run, now)
    default:
      return source satisfies never
  }
}
