// A profile of V8's, summed up by what the time was spent for.

/** The parts of a .cpuprofile file that are read here. Times in microseconds. */
export interface Profile {
  readonly nodes: readonly ProfileNode[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string }
  readonly children?: readonly number[]
}

/** What a module's time is spent for; whatever it calls counts as its own, unless that is named here as well. */
const PHASES: readonly (readonly [RegExp, string])[] = [
  [/\/src\/policy\/files\.ts$/, 'read files'],
  [/\/src\/policy\/list-file\.ts$/, 'read the list'],
  [/\/node_modules\/yaml\/|\/src\/policy\/[a-z-]*yaml[a-z-]*\.ts$/, 'parse YAML'],
  [/\/src\/policy\/(document|shape|formats|excerpt)\.ts$/, 'check each document'],
  [/\/src\/policy\//, 'hold documents against each other'],
  [/\/src\/compile\/nft\//, 'render the script'],
  [/\/src\/compile\//, 'compile'],
]

const OTHERS: Readonly<Record<string, string>> = {
  '(idle)': 'wait for the disk',
  '(garbage collector)': 'collect garbage',
}

const REST = 'start, and the rest'

/** Helpers of many; their time belongs to whoever calls them. */
const HELPERS = /\/src\/policy\/(prefix|address-ranges|load)\.ts$/

/** Shares of the whole, the largest first. */
export function shares({ nodes, samples, timeDeltas }: Profile): { phase: string; share: number }[] {
  const phases = new Map<number, string>()
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const visit = (node: ProfileNode, around: string) => {
    const phase = phaseOf(node.callFrame) ?? around
    phases.set(node.id, phase)
    for (const id of node.children ?? []) {
      const child = byId.get(id)
      if (child !== undefined) visit(child, phase)
    }
  }
  const [root] = nodes
  if (root !== undefined) visit(root, REST)
  const times = new Map<string, number>()
  let whole = 0
  for (const [index, id] of samples.entries()) {
    const time = timeDeltas[index] ?? 0
    const phase = phases.get(id) ?? REST
    times.set(phase, (times.get(phase) ?? 0) + time)
    whole += time
  }
  return [...times].map(([phase, time]) => ({ phase, share: time / whole })).sort((a, b) => b.share - a.share)
}

function phaseOf({ functionName, url }: ProfileNode['callFrame']): string | undefined {
  if (HELPERS.test(url)) return undefined
  return OTHERS[functionName] ?? PHASES.find(([module]) => module.test(url))?.[1]
}
