// Packets that arrive at a gateway of the lab, and what one of them costs it: the far side of inject.py.
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../lab/lab.ts'
import { gatewayInterface, nearMac } from '../lab/topology.ts'

/** SYNs from so many sources at random: a power of two, at most 65,536, whose lowest bits are clear in the first. */
export interface Traffic {
  readonly source: string
  readonly sources: number
  readonly destination: string
  readonly port: number
}

/** Lets so many packets arrive; answers the nanoseconds of processor time that one of them took. */
export type Inject = (count: number) => Promise<number>

/**
 * Opens a way for packets from the subscribers' side of a lab through its gateway to the internet's side, where they
 * are thrown away as they arrive. It ends with the lab.
 */
export async function openInjector(
  lab: Lab,
  { source, sources, destination, port }: Traffic,
): Promise<Inject> {
  const sink = [
    'add table netdev sink',
    'delete table netdev sink', // another injector's
    'add table netdev sink',
    'add chain netdev sink arrived { type filter hook ingress device "up0" priority 0; policy drop; }',
  ]
  const { code, stderr } = await lab.exec(lab.internet, ['nft', sink.join('; ')])
  if (code !== 0) throw new Error(`nft: ${stderr.trim()}`)
  const script = fileURLToPath(new URL('inject.py', import.meta.url))
  const where = [lab.gateway, gatewayInterface.subscribers, nearMac('subscribers')]
  // Debian's own, whatever else is in the PATH.
  const argv = [
    '/usr/bin/python3',
    '-IS',
    script,
    ...where,
    source,
    destination,
    String(port),
    String(sources),
  ]
  const child = lab.spawn(lab.gateway, argv, { stdio: ['pipe', 'pipe', 'pipe'] })
  if (!child.stdin || !child.stdout || !child.stderr) throw new Error('the injector needs pipes')
  let complaint = ''
  child.stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000)
  })
  child.stdin.on('error', () => {}) // it has ended; the answer below says so
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return async (count) => {
    child.stdin?.write(`${count}\n`)
    const { value, done } = await lines.next()
    if (done) throw new Error(`inject.py ended. ${complaint.trim()}`)
    return Number(value)
  }
}
