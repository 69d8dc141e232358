/** `egress25 confirm` and `egress25 rollback`: what becomes of a change that waits for its confirmation. */
import { callService, mustBeAbsent } from '../client/client.ts'
import { readConfig } from '../config/config.ts'
import { NothingPendingError } from '../control/trial/pending.ts'
import { openController } from './apply.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem } from './service-directory.ts'

interface Options {
  readonly json: boolean
  readonly config: string | null
}

/** What the service says; the same is said without it. */
interface Settled {
  readonly id: string
  readonly boot_file_error?: string | null
}

export function confirm(options: Options): Promise<Exit> {
  return settle('confirm', options)
}

export function rollback(options: Options): Promise<Exit> {
  return settle('rollback', options)
}

/** Through the service when it runs, else by the files and the kernel. */
async function settle(what: 'confirm' | 'rollback', { json, config: file }: Options): Promise<Exit> {
  const config = await readConfig(file)
  let settled: Settled
  try {
    const { status, body } = await callService(config.listen, 'POST', `/v1/${what}`)
    if (status !== 200) return complainOfProblem(status, body, { json })
    settled = body as Settled
  } catch (error) {
    mustBeAbsent(error)
    const controller = openController(config, config.policyDirectory)
    try {
      if (what === 'rollback') settled = await controller.rollBack()
      else {
        const { id, bootFileError } = await controller.confirm()
        settled = { id, boot_file_error: bootFileError?.message ?? null }
      }
    } catch (refusal) {
      if (!(refusal instanceof NothingPendingError)) throw refusal
      complain(`egress25: ${refusal.message}`)
      return EXIT.no
    }
  }
  if (json) printJson(settled)
  else if (what === 'rollback') print('rolled back: the rules from before are in force')
  else print('confirmed: the rules stay')
  const { boot_file_error: bootFileError = null } = settled
  if (bootFileError !== null) {
    complain(`egress25: warning: the rules would not survive a reboot: ${bootFileError}`)
  }
  return EXIT.done
}
