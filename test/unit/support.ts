/** What tests of the command and of policy directories need: files that go with the test, and programs run to their end. */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'

const COMMAND = new URL('../../scripts/egress25', import.meta.url).pathname

/** Writes the files into a directory that goes with the test. */
export async function directory(
  test: Test,
  files: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'egress25-test-'))
  test.teardown(() => rm(root, { recursive: true, force: true }))
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  return root
}

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export interface Surroundings {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

export function egress25(args: readonly string[], surroundings: Surroundings = {}): Promise<Ended> {
  return run(COMMAND, args, surroundings)
}

export function run(
  program: string,
  args: readonly string[],
  surroundings: Surroundings = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, surroundings)
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, out, err }))
  })
}
