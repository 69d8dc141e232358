/** From a captured record to an attempt. */
import type { Attempt } from './attempt.ts'
import { parseNflog } from './nflog.ts'
import type { PcapRecord } from './pcap.ts'
import { parseTcpPacket } from './tcp-packet.ts'

/** null for a record that is damaged or not one of ours: somebody else may log to the same group. */
export function decodeAttempt({ time, data }: PcapRecord): Attempt | null {
  const record = parseNflog(data)
  if (record === null) return null
  const label = /^(block|redirect|observe):([a-z0-9-]+)$/.exec(record.prefix)
  const packet = parseTcpPacket(record.payload)
  if (label === null || packet === null) return null
  const { source, sourcePort, destination } = packet
  const verdict = label[1] as Attempt['verdict']
  const { uid, mac } = record
  const place = { interface: null, uid, mac }
  return {
    time,
    source,
    sourcePort,
    destination,
    policy: label[2] ?? '',
    verdict,
    because: null,
    ...place,
  }
}
