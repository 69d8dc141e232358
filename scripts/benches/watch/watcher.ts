// A program that is told of attempts and finds the machines behind them.
import type { ChildProcess } from 'node:child_process'
import type { Lab } from '../../lab/lab.ts'

export interface Watcher {
  readonly name: string
  /** Resolves when it is ready for a flood. It ends with the lab. */
  start(lab: Lab, folder: string): Promise<Watching>
}

export interface Watching {
  /** The processes that do the work, by name. */
  readonly processes: Readonly<Record<string, number>>
  /** How many attempts it knows of in detail so far. */
  told(): Promise<number>
  /** When it said of a source that it does too much, as `performance.now()` tells it. */
  readonly found: ReadonlyMap<string, number>
}

/** Of how a source is found to be too much, everywhere: so many attempts, within so many seconds. */
export const LIMITS = { attempts: 30, seconds: 300 }

/** Blocks port 25, and hands every attempt to a log group: what other programs are told from. */
export function plainRules(group: number): string {
  return `table inet plain {
  chain forward {
    type filter hook forward priority 0; policy accept;
    tcp dport 25 tcp flags & (syn | ack) == syn log prefix "kernel: egress " group ${group} snaplen 128
    tcp dport 25 reject with tcp reset
  }
}
`
}

/** Loads rules into the gateway of a lab. */
export async function load(lab: Lab, rules: string): Promise<void> {
  const { code, stderr } = await lab.exec(lab.gateway, ['nft', '-f', '-'], { input: rules })
  if (code !== 0) throw new Error(`nft: ${stderr.trim()}`)
}

/** Hands on each line that a program prints. */
export function onLines(child: ChildProcess, take: (line: string) => void): void {
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) take(line)
    })
  }
}

/** Waits for a condition, for a minute at most. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | false | null> | T | false | null,
): Promise<T> {
  for (const deadline = performance.now() + 60_000; ; ) {
    const found = await ask()
    if (found !== false && found !== null) return found
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export function pidOf({ pid }: ChildProcess): number {
  if (pid === undefined) throw new Error('a program did not start')
  return pid
}
