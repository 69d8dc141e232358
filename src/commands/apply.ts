/** `egress25 apply [DIR]`: through the service when it runs, else straight to the kernel. */
import { callService, UnreachableError } from '../client.ts'
import { type Config, readConfig } from '../config.ts'
import { Controller } from '../control/controller.ts'
import { PolicyError } from '../control/policy-error.ts'
import { type Applied, Enforcer } from '../kernel/enforcer.ts'
import { openNft } from '../kernel/nft.ts'
import { runProcess } from '../kernel/process.ts'
import { findUserIds } from '../kernel/users.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem, isServed } from './service-directory.ts'
import { formatResult } from './test.ts'

interface ApplyOptions {
  readonly json: boolean
  readonly config: string | null
}

export async function apply(directory: string | null, { json, config: file }: ApplyOptions): Promise<Exit> {
  const config = await readConfig(file)
  try {
    if (await isServed(directory, config)) return await applyThroughService(config, json)
    complain('egress25: it would undo this; change the policies there, or stop it')
    return EXIT.no
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error
  }
  return applyHere(config, directory ?? config.policyDirectory, json)
}

async function applyThroughService({ listen }: Config, json: boolean): Promise<Exit> {
  const { status, body } = await callService(listen, 'POST', '/v1/apply')
  if (status !== 200) return complainOfProblem(status, body, { json })
  if (json) printJson(body)
  else print(formatApplied(body as Pick<Applied, 'how' | 'elements' | 'chains'>))
  return EXIT.done
}

async function applyHere(config: Config, directory: string, json: boolean): Promise<Exit> {
  const controller = new Controller({
    directory,
    compile: config.compile,
    enforcer: new Enforcer(openNft(runProcess), config.stateDirectory),
    findUserIds: (names) => findUserIds(names, runProcess),
    now: Date.now,
  })
  try {
    const { applied, loaded } = await controller.apply()
    const { how, digest, elements, chains, bootFileError } = applied
    if (json) printJson({ diagnostics: loaded.diagnostics, how, digest, elements, chains })
    else {
      complainOf(loaded.diagnostics)
      print(formatApplied(applied))
    }
    if (bootFileError !== null) {
      complain(
        `egress25: warning: the rules are in force, but would not survive a reboot: ${bootFileError.message}`,
      )
    }
    return EXIT.done
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    if (json) printJson({ diagnostics: error.diagnostics, failed_tests: error.failedTests.map(formatResult) })
    else {
      complainOf(error.diagnostics)
      for (const result of error.failedTests) complain(formatResult(result))
      complain(`egress25: ${error.message}`)
    }
    return EXIT.no
  }
}

function formatApplied({ how, elements, chains }: Pick<Applied, 'how' | 'elements' | 'chains'>): string {
  switch (how) {
    case 'unchanged':
      return 'in force already: nothing to change'
    case 'delta':
      return `applied: ${elements} elements and ${chains} chains changed`
    case 'replacement':
      return `applied: the whole table, ${elements} elements and ${chains} chains`
    default:
      return how satisfies never
  }
}
