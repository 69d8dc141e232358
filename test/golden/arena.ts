/**
 * A lab in which nobody answers: what arrives at a side is seen and goes no further, so that every packet on the cables
 * is one that a test has put there, or that the gateway has made of it.
 */
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Lab, openLab } from '../../scripts/lab/lab.ts'
import { openWire, type Wire } from '../../scripts/lab/wire.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import type { Ruleset, TotalOf } from '../../src/compile/ruleset.ts'
import { type Nft, openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import { hasErrors } from '../../src/policy/diagnostic.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { learnedSet } from '../../src/watch/source-counters.ts'
import { SUBSCRIBERS } from './field.ts'
import type { Directory } from './random.ts'

export interface Arena {
  readonly lab: Lab
  readonly wire: Wire
  readonly nft: Nft
  /** Ids of the users that random directories speak of. */
  readonly uids: ReadonlyMap<string, number>
  /** Loads a directory; its list files lie in a folder of the arena's own. @throws with its diagnostics */
  load(directory: Directory): Promise<Model>
  /** Puts a ruleset in force, with all its counters at zero. */
  apply(ruleset: Ruleset): Promise<void>
  /** What the kernel has counted, by names that people can read; what is zero is left out. */
  counted(ruleset: Ruleset): Promise<Map<string, number>>
  close(): Promise<void>
}

const SILENT = `table inet silent {
  chain arrivals {
    type filter hook prerouting priority -500; policy accept;
    iifname "up0" drop
  }
}
`

/** Fails without root: what is shown here can be shown in no other way. */
export async function openArena(): Promise<Arena> {
  if (process.getuid?.() !== 0)
    throw new Error('network namespaces and nftables need root: sudo scripts/test')
  const lab = await openLab({ subscriberPrefixes: SUBSCRIBERS })
  const folder = await mkdtemp(join(tmpdir(), 'egress25-arena-'))
  // Also when a signal ends the process, as the lab does.
  const removeFolder = () => rmSync(folder, { recursive: true, force: true, maxRetries: 9 })
  process.once('exit', removeFolder)
  const close = async () => {
    await lab.close()
    process.off('exit', removeFolder)
    removeFolder()
  }
  try {
    for (const side of [lab.subscribers, lab.relays, lab.internet]) {
      const { code, stderr } = await lab.exec(side, ['nft', '-f', '-'], { input: SILENT })
      if (code !== 0) throw new Error(stderr)
    }
    return await arena(lab, folder, close)
  } catch (error) {
    await close()
    throw error
  }
}

async function arena(lab: Lab, folder: string, close: () => Promise<void>): Promise<Arena> {
  const inGateway: ProcessRunner = (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)
  const nft = openNft(inGateway)
  const written = new Set<string>()
  let diverts = false
  return {
    lab,
    nft,
    wire: await openWire(lab),
    uids: await findUserIds(['daemon', 'nobody'], runProcess),
    close,
    async load({ yaml, files }) {
      for (const [path, text] of files) {
        if (written.has(path)) continue
        await mkdir(dirname(join(folder, path)), { recursive: true })
        await writeFile(join(folder, path), text)
        written.add(path)
      }
      const overlay = new Map([['policies.yaml', yaml]])
      const { model, diagnostics } = await loadPolicies(folder, { now: Date.now(), overlay })
      if (model !== null) return model
      const errors = diagnostics.filter((one) => hasErrors([one]))
      throw new Error(`${errors.map(({ line, message }) => `${line}: ${message}`).join('\n')}\n${yaml}`)
    },
    async apply(ruleset) {
      await nft.apply(renderReplacement(ruleset).text)
      // What conntrack knows of earlier connections would decide about later ones with the same ports.
      if (diverts) await inGateway(['conntrack', '-F'], { timeout: 60_000 })
      diverts = ruleset.chains.some(({ base }) => base?.type === 'nat')
    },
    async counted(ruleset) {
      const argv = ['nft', '-j', 'list', 'table', 'inet', 'egress25'] as const
      const { code, stdout, stderr } = await inGateway(argv, { timeout: 60_000 })
      if (code !== 0) throw new Error(stderr)
      const { nftables } = JSON.parse(stdout) as { nftables: { set?: ListedSet }[] }
      const elements = new Map(nftables.flatMap(({ set }) => (set ? [[set.name, set.elem ?? []]] : [])))
      const totals = new Map(ruleset.totals.map(({ id, what }) => [id, nameOf(what)]))
      const found = new Map<string, number>()
      const note = (name: string, packets: number) => packets > 0 && found.set(name, packets)
      for (const { elem } of elements.get('totals') ?? []) {
        note(totals.get(Number(elem.val)) ?? `unknown ${elem.val}`, elem.counter.packets)
      }
      for (const { name } of ruleset.learned) {
        if (learnedSet(name) === null) continue
        for (const { elem } of elements.get(name) ?? []) note(`${name} ${elem.val}`, elem.counter.packets)
      }
      return found
    },
  }
}

interface ListedSet {
  readonly name: string
  readonly elem?: readonly {
    readonly elem: { readonly val: string; readonly counter: { readonly packets: number } }
  }[]
}

/** `attempts NAME VERDICT`, `allowed relay`, `allowed exemption` or `logged`. */
function nameOf(what: TotalOf): string {
  return Object.values(what).join(' ')
}
