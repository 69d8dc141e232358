/** Rewrites every `expected.nft` from the code as it is. Read the difference before you keep it. */
import { readFile, writeFile } from 'node:fs/promises'
import { formatDiagnostic, hasErrors } from '../../src/policy/diagnostic.ts'
import { caseNames, expectedFile, readCase } from './cases.ts'

for (const name of await caseNames()) {
  const { compiled, diagnostics } = await readCase(name, Date.now())
  if (compiled === null) {
    for (const diagnostic of diagnostics.filter((one) => hasErrors([one]))) {
      process.stderr.write(`${name}: ${formatDiagnostic(diagnostic)}\n`)
    }
    process.exitCode = 1
    continue
  }
  const file = expectedFile(name)
  const before = await readFile(file, 'utf8').catch(() => null)
  if (before !== compiled.text) await writeFile(file, compiled.text)
  process.stdout.write(`${name}: ${before === compiled.text ? 'unchanged' : 'rewritten'}\n`)
}
