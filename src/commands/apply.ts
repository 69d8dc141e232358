/** `egress25 apply [DIR]`: through the service when it runs, else straight to the kernel. */
import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { callService, UnreachableError } from '../client.ts'
import { type Config, readConfig } from '../config.ts'
import { Controller } from '../control/controller.ts'
import { PolicyError } from '../control/policy-error.ts'
import { type Applied, Enforcer } from '../kernel/enforcer.ts'
import { openNft } from '../kernel/nft.ts'
import { runProcess } from '../kernel/process.ts'
import { findUserIds } from '../kernel/users.ts'
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostic.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'
import { formatResult } from './test.ts'

interface ApplyOptions {
  readonly json: boolean
  readonly config: string | null
}

export async function apply(directory: string | null, { json, config: file }: ApplyOptions): Promise<Exit> {
  const config = await readConfig(file)
  try {
    const running = await serviceDirectory(config)
    if (directory === null || (await canonical(directory)) === (await canonical(running))) {
      return await applyThroughService(config, json)
    }
    complain(
      `egress25: the running service enforces ${running} and would undo this; change the policies there, or stop it`,
    )
    return EXIT.no
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error
  }
  return applyHere(config, directory ?? config.policyDirectory, json)
}

/** @throws UnreachableError when no service runs */
async function serviceDirectory({ listen }: Config): Promise<string> {
  const { body } = await callService(listen, 'GET', '/v1/status')
  return String((body as { policy_directory?: unknown } | null)?.policy_directory)
}

async function applyThroughService({ listen }: Config, json: boolean): Promise<Exit> {
  const { status, body } = await callService(listen, 'POST', '/v1/apply')
  if (json) printJson(body)
  if (status === 200) {
    if (!json) print(formatApplied(body as Pick<Applied, 'how' | 'elements' | 'chains'>))
    return EXIT.done
  }
  const problem = body as { code?: string; detail?: string; diagnostics?: Diagnostic[] } | null
  if (!json) {
    for (const diagnostic of problem?.diagnostics ?? []) complain(formatDiagnostic(diagnostic))
    complain(`egress25: ${problem?.detail ?? `the service answered ${status}`}`)
  }
  return problem?.code === 'kernel-refused' ? EXIT.kernel : EXIT.no
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

/** The path without links; one that does not exist is told of when it is read. */
function canonical(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path))
}
