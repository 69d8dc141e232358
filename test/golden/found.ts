/** What a fuzz found, written down as a golden case, so that it is never found again. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { decide } from '../../src/policy/decide.ts'
import { formatAddress } from '../../src/policy/prefix.ts'
import type { Arena } from './arena.ts'
import { type Compile, check, type Trial } from './differential.ts'
import { expectationOf } from './expectation.ts'
import { isGateway, isOutbound } from './field.ts'
import { endsSoon, PLAIN_GATEWAY, withEnds } from './random.ts'

const LONG_AGO = Date.parse('2020-01-01T00:00:00Z')
const FAR_OFF = Date.parse('2099-01-01T00:00:00Z')

/**
 * The same trial without anything that ends within the run: what ends then has ended long ago, or does not end for
 * long, whichever still fails. As it is where neither does, for then only the moment itself is wrong.
 */
export async function withoutEnds(arena: Arena, trial: Trial, compiler?: Compile): Promise<Trial> {
  if (!endsSoon(trial.directory)) return trial
  for (const end of [LONG_AGO, FAR_OFF]) {
    const fixed = { ...trial, directory: withEnds(trial.directory, end) }
    if ((await check(arena, fixed, compiler)).faults.length > 0) return fixed
  }
  return { ...trial, directory: withEnds(trial.directory, LONG_AGO) }
}

/** Writes the case into a folder, with what it should compile to and the verdicts of the reference. */
export async function writeCase(
  arena: Arena,
  folder: string,
  trial: Trial,
  why: readonly string[],
): Promise<void> {
  const { directory, gateway, packets } = trial
  const model = await arena.load(directory)
  const write = async (path: string, text: string) => {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  const now = Date.now()
  const buckets = new Map<string, number>()
  const lines = packets.map((packet) => {
    const { source, destination, port, user } = packet
    const sender = isGateway(source) ? { user: user ?? 'root' } : {}
    const outbound = isOutbound(destination, gateway.outsideInterfaces)
    const { verdict } = decide(model, { source, destination, port, outbound, user: sender.user ?? null }, now)
    const { outcome } = expectationOf(model, gateway, packet, now, buckets)
    const expect = ({ passes: 'connected', reset: 'reset', dropped: 'timeout' } as const)[outcome]
    const ends = { from: formatAddress(source), to: formatAddress(destination), port }
    return { ...ends, ...sender, verdict, expect }
  })
  const comment = why.map((line) => `# ${line}\n`).join('')
  const flow = lines.map((line) => `- ${stringify(line, { collectionStyle: 'flow', lineWidth: 0 })}`).join('')
  await write('policies/policies.yaml', directory.yaml)
  for (const [path, text] of directory.files) await write(join('policies', path), text)
  await write('packets.yaml', comment + flow)
  if (JSON.stringify(gateway) !== JSON.stringify(PLAIN_GATEWAY)) {
    const { hooks, outsideInterfaces } = gateway
    const firewall = {
      hooks: [...hooks],
      ...(outsideInterfaces.length > 0 ? { outside_interfaces: [...outsideInterfaces] } : {}),
    }
    await write('gateway.yaml', stringify({ firewall }))
  }
  const ruleset = compile(model, { ...DEFAULT_COMPILE_OPTIONS, ...gateway, uids: arena.uids })
  await write('expected.nft', renderReplacement(ruleset).text)
}
