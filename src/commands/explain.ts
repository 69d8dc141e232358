/** `egress25 explain DIR SOURCE DESTINATION`: the verdict, and the document that decided it. */
import { readConfig } from '../config.ts'
import { explain as explainPacket } from '../policy/explain.ts'
import { loadPolicies } from '../policy/load.ts'
import { parseAddress } from '../policy/prefix.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'

export interface ExplainOptions {
  readonly json: boolean
  readonly port: string
  readonly user?: string
  /** The interface by which it leaves. */
  readonly leavesBy?: string
  readonly config: string | null
}

export async function explain(
  directory: string,
  from: string,
  to: string,
  { json, port, user, leavesBy, config }: ExplainOptions,
): Promise<Exit> {
  const source = parseAddress(from)
  const destination = parseAddress(to)
  if (source === null || destination === null) {
    complain(`egress25: ${source === null ? from : to} is not an IPv4 or IPv6 address`)
    return EXIT.usage
  }
  if (!/^[1-9][0-9]{0,4}$/.test(port) || Number(port) > 65_535) {
    complain(`egress25: ${port} is not a port number`)
    return EXIT.usage
  }
  const { outsideInterfaces } = (await readConfig(config)).compile
  const now = Date.now()
  const { model, diagnostics } = await loadPolicies(directory, { now, outsideInterfaces })
  if (model === null) {
    if (json) printJson({ diagnostics })
    else complainOf(diagnostics)
    return EXIT.no
  }
  const packet = { source, destination, port: Number(port), user: user ?? null }
  const found = explainPacket(model, packet, now, { outsideInterfaces, by: leavesBy ?? null })
  if (json) printJson(found)
  else print(`${found.verdict}: ${found.reason}`)
  return EXIT.done
}
