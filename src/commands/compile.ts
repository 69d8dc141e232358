/** `egress25 compile [DIR]`: prints the nft script, as it would be applied on this gateway. */
import { compile as compileModel } from '../compile/compile.ts'
import { renderReplacement } from '../compile/nft/replacement.ts'
import { type Config, readConfig } from '../config/config.ts'
import { runProcess } from '../kernel/process.ts'
import { findUserIds } from '../kernel/users.ts'
import { loadPolicies } from '../policy/load.ts'
import { relayUsers } from '../policy/model.ts'
import { complainOf, EXIT, type Exit, printJson } from './outcome.ts'

/** @param directory null: the one that the configuration names */
export async function compile(
  directory: string | null,
  { json, config }: { json: boolean; config: string | null },
): Promise<Exit> {
  const { compile: options, policyDirectory }: Config = await readConfig(config)
  const { model, diagnostics } = await loadPolicies(directory ?? policyDirectory, {
    now: Date.now(),
    outsideInterfaces: options.outsideInterfaces,
  })
  if (model === null) {
    if (json) printJson({ diagnostics })
    else complainOf(diagnostics)
    return EXIT.no
  }
  const uids = await findUserIds(relayUsers(model), runProcess)
  const script = renderReplacement(compileModel(model, { ...options, uids }))
  if (json) printJson({ diagnostics, digest: script.digest, script: script.text })
  else {
    complainOf(diagnostics)
    process.stdout.write(script.text)
  }
  return EXIT.done
}
