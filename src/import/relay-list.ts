/** A plain list of relay addresses, an address or prefix a line, `#` starts a comment. */
import { parseListFile } from '../policy/list-file.ts'
import { formatPrefix, type Prefix } from '../policy/prefix.ts'
import type { Document } from '../policy/schema.ts'
import type { Remarks } from './remark.ts'

const MOST_ADDRESSES = 50_000

/** Relays by the name `relays`, and `relays-2` and so on where they are many. Lines that are no prefix are told of. */
export function relaysOf(text: string, remarks: Remarks): Document[] {
  const { prefixes, diagnostics } = parseListFile('', text)
  for (const { line, message } of diagnostics) remarks.add('error', 'syntax', `line ${line}`, message)
  const known = new Map<string, Prefix>()
  for (const prefix of prefixes) known.set(formatPrefix(prefix), prefix)
  const addresses = [...known.keys()]
  const everybody = addresses.filter((address) => address.endsWith('/0'))
  if (everybody.length > 0) {
    const message = `${everybody.join(' and ')} as a relay lets everybody send, and was left out`
    remarks.add('error', 'not-translated', '', message)
  }
  const kept = addresses.filter((address) => !everybody.includes(address))
  if (kept.length > 0) {
    const message =
      'everyone may submit to these relays on port 25: name their clients where that is too many'
    remarks.add('note', 'assumed', '', message)
  }
  const documents: Document[] = []
  for (let at = 0; at < kept.length; at += MOST_ADDRESSES) {
    const nth = at / MOST_ADDRESSES + 1
    documents.push({
      kind: 'relay',
      name: nth === 1 ? 'relays' : `relays-${nth}`,
      addresses: kept.slice(at, at + MOST_ADDRESSES),
    })
  }
  return documents
}
