/** OpenPGP keys whose signatures count (gpg(1), RFC 9580), in a keyring of their own: nobody's own keys are asked. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ProcessError, type ProcessRunner } from '../kernel/process.ts'

export interface Keyring {
  /** For `GNUPGHOME`. */
  readonly home: string
  /** Of the primary keys, in capital hexadecimal digits. */
  readonly fingerprints: ReadonlySet<string>
}

/** It cannot be said whose signatures count; nothing was changed. */
export class SignersError extends Error {
  constructor(file: string, why: string) {
    super(`${file}, which says whose signatures count, is of no use: ${why}; nothing was changed`)
  }
}

/** Whose keys they are was decided by whoever wrote the file. No agent is started, and no server asked for keys. */
const SETTINGS = 'trust-model always\nno-autostart\nno-auto-key-retrieve\nno-auto-key-import\n'
/** Milliseconds. */
const TIMEOUT = 60_000

/**
 * Runs work with a keyring that has the keys of a file (as `gpg --export` writes them, armored or not) and no others, and
 * that is gone afterwards.
 * @throws SignersError when the file cannot be read, or has no key in it; or what the work throws
 */
export async function withKeyring<T>(
  run: ProcessRunner,
  file: string,
  work: (keyring: Keyring) => Promise<T>,
): Promise<T> {
  const home = await mkdtemp(join(tmpdir(), 'egress25-keys-'))
  try {
    await writeFile(join(home, 'gpg.conf'), SETTINGS)
    return await work({ home, fingerprints: await importKeys(run, file, home) })
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}

async function importKeys(run: ProcessRunner, file: string, home: string): Promise<Set<string>> {
  const argv = [
    'gpg',
    '--homedir',
    home,
    '--batch',
    '--no-tty',
    '--status-fd',
    '1',
    '--import',
    file,
  ] as const
  // What is wrong with one key (its owner's name is damaged, say) is no reason to pass over the others.
  const { stdout, stderr } = await run(argv, { timeout: TIMEOUT }).catch((error: Error) => {
    throw error instanceof ProcessError ? new SignersError(file, error.message) : error
  })
  const found = stdout.matchAll(/^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]{40,64})$/gm)
  const fingerprints = new Set([...found].map(([, fingerprint = '']) => fingerprint))
  if (fingerprints.size > 0) return fingerprints
  const said = /^gpg: (?:can't open .*?: )?(.*)$/m.exec(stderr.replace(/^gpg: (keybox|.* created).*\n/gm, ''))
  throw new SignersError(file, said?.[1]?.replace(/\.$/, '') ?? 'gpg finds no key in it')
}
