/** `egress25 explain [DIR] SOURCE DESTINATION`: the verdict, and the document that decided it. */
import { readConfig } from '../config/config.ts'
import { type Explanation, explain as explainPacket } from '../policy/explain.ts'
import { FORMATS } from '../policy/formats.ts'
import { loadPolicies } from '../policy/load.ts'
import { parseAddress } from '../policy/prefix.ts'
import { ask, query, sayThatFilesAreRead } from './ask.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'

export interface ExplainOptions {
  readonly json: boolean
  readonly port: string
  readonly user?: string
  /** The interface by which it leaves. */
  readonly leavesBy?: string
  readonly config: string | null
}

/** Of a directory, or without one of what the service has in force; where none runs, of the directory that it would read. */
export async function explain(words: readonly string[], options: ExplainOptions): Promise<Exit> {
  const { json, port, user, leavesBy, config } = options
  const directory = words.length === 2 ? null : words[0]
  const [from, to, ...more] = words.length === 2 ? words : words.slice(1)
  if (directory === undefined || from === undefined || to === undefined || more.length > 0) {
    complain('egress25: explain takes a source and a destination, and a directory before them')
    return EXIT.usage
  }
  const source = parseAddress(from)
  const destination = parseAddress(to)
  if (source === null || destination === null) {
    const [name, text] = source === null ? ['SOURCE', from] : ['DESTINATION', to]
    complain(`egress25: ${name} ${FORMATS.address(text)?.message}`)
    return EXIT.usage
  }
  if (source.family !== destination.family) {
    complain(`egress25: no packet goes from ${from} to ${to}: one is an IPv4 and the other an IPv6 address`)
    return EXIT.usage
  }
  if (!/^[1-9][0-9]{0,4}$/.test(port) || Number(port) > 65_535) {
    complain(`egress25: ${port} is not a port number`)
    return EXIT.usage
  }
  const { policyDirectory, compile } = await readConfig(config)
  if (directory === null) {
    const asked = { source: from, destination: to, port, user, leaves_by: leavesBy }
    try {
      const answer = await ask<Explanation>({ json, config }, { path: `/v1/explain${query(asked)}` })
      if ('exit' in answer) return answer.exit
      show(answer.body, json)
      return EXIT.done
    } catch (error) {
      sayThatFilesAreRead(error, policyDirectory)
    }
  }
  const { outsideInterfaces } = compile
  const now = Date.now()
  const { model, diagnostics } = await loadPolicies(directory ?? policyDirectory, { now, outsideInterfaces })
  if (model === null) {
    if (json) printJson({ diagnostics })
    else complainOf(diagnostics)
    return EXIT.no
  }
  const packet = { source, destination, port: Number(port), user: user ?? null }
  const found = explainPacket(model, packet, now, { outsideInterfaces, by: leavesBy ?? null })
  show(found, json)
  return EXIT.done
}

function show(found: Explanation, json: boolean): void {
  if (json) printJson(found)
  else print(`${found.verdict}: ${found.reason}`)
}
