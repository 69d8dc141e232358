/** `egress25 apply [DIR]`: through the service when it runs, else straight to the kernel. */
import { callService, mustBeAbsent } from '../client/client.ts'
import { localCaller } from '../client/local-caller.ts'
import { type Config, readConfig } from '../config/config.ts'
import { Controller } from '../control/controller.ts'
import { CONFIRM_RANGE, parseConfirm } from '../control/trial/confirmation.ts'
import { UnguardedError } from '../control/trial/guard.ts'
import { ConfirmationPendingError, pendingBody } from '../control/trial/pending.ts'
import { openConntrack } from '../kernel/conntrack.ts'
import { type Applied, Enforcer } from '../kernel/enforcer.ts'
import { Generation } from '../kernel/generation.ts'
import { openNft } from '../kernel/nft.ts'
import { runProcess } from '../kernel/process.ts'
import { findUserIds } from '../kernel/users.ts'
import { PolicyError } from '../policy/policy-error.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem, isServed } from './service-directory.ts'
import { formatResult } from './test.ts'

interface ApplyOptions {
  readonly json: boolean
  readonly config: string | null
  /** Until when it must be confirmed, a duration; null: it stays. */
  readonly confirm: string | null
}

/** What the service answers, and `--json` prints, of a change that waits. */
interface PendingBody {
  readonly pending?: { readonly seconds_left: number } | null
}

export async function apply(
  directory: string | null,
  { json, config: file, confirm }: ApplyOptions,
): Promise<Exit> {
  const seconds = confirm === null ? null : parseConfirm(confirm)
  if (confirm !== null && seconds === null) {
    complain(`egress25: --confirm ${confirm}: ${CONFIRM_RANGE}`)
    return EXIT.usage
  }
  const config = await readConfig(file)
  try {
    if (await isServed(directory, config)) return await applyThroughService(config, json, seconds)
    complain('egress25: it would undo this; change the policies there, or stop it')
    return EXIT.no
  } catch (error) {
    mustBeAbsent(error)
  }
  return applyHere(config, directory ?? config.policyDirectory, json, seconds)
}

/** The controller of a command, which does by itself what the service would do. */
export function openController(config: Config, directory: string): Controller {
  const conntrack = openConntrack({
    run: runProcess,
    now: Date.now,
    onEnded: () => {},
    onFailed: (reason) =>
      complain(`egress25: warning: redirected connections may go on as before: ${reason}`),
  })
  return new Controller({
    directory,
    compile: config.compile,
    enforcer: new Enforcer(openNft(runProcess), config.stateDirectory, {
      conntrack,
      generation: new Generation(runProcess, config.stateDirectory),
    }),
    trial: { stateDirectory: config.stateDirectory },
    findUserIds: (names) => findUserIds(names, runProcess),
    now: Date.now,
  })
}

async function applyThroughService({ listen }: Config, json: boolean, seconds: number | null): Promise<Exit> {
  const query = seconds === null ? '' : `?confirm=${seconds}s`
  const { status, body } = await callService(listen, 'POST', `/v1/apply${query}`)
  if (status !== 200) return complainOfProblem(status, body, { json })
  if (json) printJson(body)
  else {
    print(formatApplied(body as Pick<Applied, 'how' | 'elements' | 'chains'>))
    sayUntilWhen(body as PendingBody)
  }
  return EXIT.done
}

async function applyHere(
  config: Config,
  directory: string,
  json: boolean,
  seconds: number | null,
): Promise<Exit> {
  const controller = openController(config, directory)
  try {
    const { applied, loaded } = await (seconds === null
      ? controller.apply(localCaller())
      : controller.applyOnTrial(seconds, localCaller()))
    const { how, digest, elements, chains, bootFileError } = applied
    const body = { diagnostics: loaded.diagnostics, how, digest, elements, chains }
    const pending = pendingBody(controller.trial)
    if (json) printJson(pending === null ? body : { ...body, pending })
    else {
      complainOf(loaded.diagnostics)
      print(formatApplied(applied))
      sayUntilWhen({ pending })
    }
    if (bootFileError !== null) {
      complain(
        `egress25: warning: the rules are in force, but would not survive a reboot: ${bootFileError.message}`,
      )
    }
    return EXIT.done
  } catch (error) {
    if (error instanceof ConfirmationPendingError || error instanceof UnguardedError) {
      complain(`egress25: ${error.message}`)
      return EXIT.no
    }
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

function sayUntilWhen({ pending }: PendingBody): void {
  if (pending === undefined || pending === null) return
  print(`taken back in ${Math.round(pending.seconds_left)} s, unless you confirm it: egress25 confirm`)
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
