/** From a captured record to an attempt. */
import type { Attempt } from './attempt.ts'
import { parseNflog } from './nflog.ts'
import type { PcapRecord } from './pcap.ts'
import { parseTcpPacket } from './tcp-packet.ts'

/** The name of an interface by its number; null when there is none of that number. */
export type NameInterface = (index: number) => string | null

/** null for a record that is damaged or not one of ours: somebody else may log to the same group. */
export function decodeAttempt({ time, data }: PcapRecord, nameInterface: NameInterface): Attempt | null {
  const record = parseNflog(data)
  if (record === null) return null
  const label = parseLabel(record.prefix)
  const packet = parseTcpPacket(record.payload)
  if (label === null || packet === null) return null
  const { source, sourcePort, destination } = packet
  const { uid, mac, inputInterface } = record
  return {
    time,
    source,
    sourcePort,
    destination,
    ...label,
    interface: inputInterface === null ? null : nameInterface(inputInterface),
    uid,
    mac,
  }
}

/** What the rule says of its packets: see the log rules of `compile/`. */
function parseLabel(prefix: string): Pick<Attempt, 'policy' | 'verdict' | 'because'> | null {
  const allowed = /^allow:(relay|exemption)$/.exec(prefix)
  if (allowed !== null) {
    return { policy: null, verdict: 'allow', because: allowed[1] as 'relay' | 'exemption' }
  }
  const judged = /^(block|redirect|observe):([a-z0-9-]+)$/.exec(prefix)
  if (judged === null) return null
  return { policy: judged[2] ?? '', verdict: judged[1] as Attempt['verdict'], because: null }
}
