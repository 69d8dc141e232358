/** Whether commits are signed by somebody whose word counts (ssh signatures, ssh-keygen(1) ALLOWED SIGNERS). */
import { type Repository, records } from './repository.ts'

/** A revision is not signed by anybody in the list of signers; nothing was changed. */
export class UnsignedError extends Error {
  readonly revision: string

  constructor(revision: string) {
    super(`revision ${revision.slice(0, 12)} is not signed by an allowed signer; nothing was changed`)
    this.revision = revision
  }
}

/**
 * Every commit that the one has and the other does not must be signed.
 * @throws UnsignedError for the latest that is not, or GitError
 */
export async function mustBeSigned(
  { git }: Repository,
  { from, to, allowedSigners }: { from: string | null; to: string; allowedSigners: string },
): Promise<void> {
  const settings = { 'gpg.ssh.allowedSignersFile': allowedSigners, 'gpg.minTrustLevel': 'fully' }
  // %G?: G is a good signature of somebody known; U, of a key in nobody's name, is not.
  const text = await git.read(['log', '-z', '--format=%H %G?', to, ...(from === null ? [] : [`^${from}`])], {
    settings,
    timeout: 300_000,
  })
  for (const line of [...records(text), text.split('\0').at(-1) ?? '']) {
    const [id = '', verdict = ''] = line.split(' ')
    if (id !== '' && verdict !== 'G') throw new UnsignedError(id)
  }
}
