/** Elements of sets and maps, many to a command (nft(8), "ELEMENTS"). */
import { format4, format6 } from '../../policy/prefix.ts'
import type { Entry } from '../delta.ts'
import { splitKey } from '../lookup-tables.ts'
import type { LookupKey, LookupTable } from '../ruleset.ts'
import { TABLE } from './names.ts'

/** Elements in one command: large enough to be quick, small enough that an error message stays readable. */
const BATCH = 10_000

/** Keys and, for a map, the target of each at the same index: as a table has them. */
export interface Columns {
  readonly keys: ArrayLike<Entry['key']>
  readonly targets: ArrayLike<string | null> | null
}

export function elementCommands(
  verb: 'add' | 'delete',
  { name, key, via }: LookupTable,
  { keys, targets }: Columns,
): string[] {
  const textOf = keyText(key)
  const commands: string[] = []
  for (let from = 0; from < keys.length; from += BATCH) {
    const batch: string[] = []
    for (let i = from; i < Math.min(from + BATCH, keys.length); i++) {
      const text = textOf(keys[i] ?? 0)
      const target = targets?.[i] ?? null
      batch.push(target === null ? text : `${text} : ${via} ${target}`)
    }
    commands.push(`${verb} element ${TABLE} ${name} { ${batch.join(', ')} }`)
  }
  return commands
}

/** Chosen once for a table: most keys by far are IPv4 addresses, and need no splitting. */
function keyText(key: LookupKey): (value: Entry['key']) => string {
  if (key.family === 4 && (key.source === null || key.destination === null)) {
    return (value) => format4(value as number)
  }
  return (value) =>
    splitKey(key, value)
      .map((part) => (typeof part === 'number' ? format4(part) : format6(part)))
      .join(' . ')
}
