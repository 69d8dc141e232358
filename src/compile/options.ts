/** What a gateway adds to the policies. */
export interface CompileOptions {
  readonly hooks: readonly ('forward' | 'output')[]
  /** Empty: everything that leaves is outbound. */
  readonly outsideInterfaces: readonly string[]
  readonly nflogGroup: number
  readonly priority: number
  /** Most sources that are counted one by one. */
  readonly trackedSources: number
  /** Ids of the local users that relays name; a name without an id belongs to nobody on this machine. */
  readonly uids: ReadonlyMap<string, number>
}

export const DEFAULT_COMPILE_OPTIONS: CompileOptions = {
  hooks: ['forward', 'output'],
  outsideInterfaces: [],
  nflogGroup: 25,
  priority: -5,
  trackedSources: 65_536,
  uids: new Map(),
}
