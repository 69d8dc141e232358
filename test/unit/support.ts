/** What tests of the command and of policy directories need: files that go with the test, and programs run to their end. */
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'

export const COMMAND = new URL('../../scripts/egress25', import.meta.url).pathname

/** Writes the files into a directory that goes with the test. */
export async function directory(
  test: Test,
  files: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'egress25-test-'))
  test.teardown(() => rm(root, { recursive: true, force: true, maxRetries: 9 }))
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

/** Ports that the kernel gives to no connection by itself (from 32768), so that what is free stays free until it is used. */
const PORTS = { first: 20_000, count: 12_000 }

/**
 * A port of 127.0.0.1 that nobody has, neither for TCP nor for UDP. It is this process' own until it ends: no other test that
 * asks for one gets it, also while nobody listens there.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count)
    if ((await isOurs(port)) && (await hasNobody(port, 'tcp')) && (await hasNobody(port, 'udp'))) return port
  }
}

/** Claims a port by an abstract socket (unix(7)), of which there is one by a name, and which goes with its process. */
function isOurs(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const claim = createServer().once('error', () => resolve(false))
    claim.listen(`\0egress25-test-port-${port}`, () => resolve(true)).unref()
  })
}

function hasNobody(port: number, protocol: 'tcp' | 'udp'): Promise<boolean> {
  return new Promise((resolve) => {
    const taken = () => resolve(false)
    const free = () => resolve(true)
    if (protocol === 'tcp') {
      const server = createServer().once('error', taken)
      server.listen(port, '127.0.0.1', () => server.close(free))
    } else {
      const socket = createSocket('udp4').once('error', taken)
      socket.bind(port, '127.0.0.1', () => socket.close(free))
    }
  })
}
