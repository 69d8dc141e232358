/** What the service remembers things in, which is its alone while it runs. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { ConfigError } from '../config-error.ts'
import { keepLock, LockedError } from '../kernel/lock.ts'
import { openDatabase, openRelaxed } from '../store/database.ts'

const DATABASE = 'egress25.db'
const SERVICE_LOCK = 'service.lock'

/**
 * The database twice: `relaxed` is for what can be done again, and is not synced.
 * @throws ConfigError when another service has the directory, or it is of no use
 */
export async function openState(config: Pick<Config, 'stateDirectory'>) {
  const { stateDirectory } = config
  await mkdir(stateDirectory, { recursive: true }).catch(unusable(stateDirectory))
  await keepLock(join(stateDirectory, SERVICE_LOCK)).catch(inUse(stateDirectory))
  const database = open(stateDirectory)
  return { database, relaxed: openRelaxed(join(stateDirectory, DATABASE)) }
}

function open(stateDirectory: string) {
  const path = join(stateDirectory, DATABASE)
  try {
    return openDatabase(path)
  } catch (error) {
    throw new ConfigError(`cannot open ${path}: ${(error as Error).message}`)
  }
}

/** Two would heal each other's rules, and send every alert twice. */
function inUse(path: string) {
  return (error: Error) => {
    if (!(error instanceof LockedError)) throw error
    throw new ConfigError(`${error.holder} runs with the state directory ${path}; give this one another`)
  }
}

function unusable(path: string) {
  return (error: Error) => {
    throw new ConfigError(`cannot use the state directory ${path}: ${error.message}`)
  }
}
