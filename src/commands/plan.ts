/** `egress25 plan [DIR]`: what an apply would change, asked of the service, or between two directories. */
import { callService, UnreachableError } from '../client/client.ts'
import { compile } from '../compile/compile.ts'
import { type Config, readConfig } from '../config/config.ts'
import { runProcess } from '../kernel/process.ts'
import { findUserIds } from '../kernel/users.ts'
import { type Compiled, makePlan } from '../plan/plan.ts'
import { type PlanBody, planBody } from '../plan/plan-body.ts'
import { planLines, planMarkdown } from '../plan/render.ts'
import { loadPolicies } from '../policy/load.ts'
import { relayUsers } from '../policy/model.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem, isServed } from './service-directory.ts'

export interface PlanOptions {
  readonly json: boolean
  readonly markdown: boolean
  readonly config: string | null
  /** The directory to start from; null: what the service has in force. */
  readonly from: string | null
}

export async function plan(directory: string | null, options: PlanOptions): Promise<Exit> {
  const config = await readConfig(options.config)
  if (options.from !== null) {
    return planBetween(options.from, directory ?? config.policyDirectory, config, options)
  }
  if (!(await isServedOrSay(directory, config))) return EXIT.no
  const { status, body } = await callService(config.listen, 'POST', '/v1/plan')
  if (status !== 200) return complainOfProblem(status, body, options)
  show(body as PlanBody, options)
  return EXIT.done
}

/** @throws UnreachableError with a way out: a plan needs something to start from */
async function isServedOrSay(directory: string | null, config: Config): Promise<boolean> {
  const hint = 'to compare two directories, name the first with --from DIR'
  try {
    if (await isServed(directory, config)) return true
    complain(`egress25: ${hint}`)
    return false
  } catch (error) {
    throw error instanceof UnreachableError
      ? new UnreachableError(`${error.message} (${hint})`, error.service)
      : error
  }
}

async function planBetween(from: string, to: string, config: Config, options: PlanOptions): Promise<Exit> {
  const now = Date.now()
  const before = await compiled(from, config, now, options)
  const after = await compiled(to, config, now, options)
  if (before === null || after === null) return EXIT.no
  show(planBody(makePlan(before, after, now)), options)
  return EXIT.done
}

async function compiled(
  directory: string,
  { compile: options }: Config,
  now: number,
  { json }: PlanOptions,
): Promise<Compiled | null> {
  const { outsideInterfaces } = options
  const loaded = await loadPolicies(directory, { now, outsideInterfaces })
  const { model, diagnostics } = loaded
  if (model === null) {
    if (json) printJson({ directory, diagnostics })
    else {
      complain(`egress25: ${directory} has mistakes:`)
      complainOf(diagnostics)
    }
    return null
  }
  const uids = await findUserIds(relayUsers(model), runProcess)
  return { loaded, model, ruleset: compile(model, { ...options, uids }) }
}

function show(body: PlanBody, { json, markdown }: PlanOptions): void {
  if (json) printJson(body)
  else if (markdown) process.stdout.write(planMarkdown(body))
  else for (const line of planLines(body)) print(line)
}
