/**
 * Whether commits are signed by somebody whose word counts: with an ssh key (ssh-keygen(1), ALLOWED SIGNERS), or with an
 * OpenPGP key of a file of keys. X.509 is not looked at.
 */
import { access, constants } from 'node:fs/promises'
import { type Keyring, SignersError, withKeyring } from './openpgp-keys.ts'
import type { RemoteConfig } from './policies-config.ts'
import { type Repository, records } from './repository.ts'

/** Whose signatures count: files, at least one of them. */
export type Signers = Pick<RemoteConfig, 'allowedSigners' | 'allowedKeys'>

/** Why a signature does not count. */
export type SignatureFault = keyof typeof FAULTS

const FAULTS = {
  none: 'it has no signature',
  'not-listed': 'its signature is of a key that is not listed',
  'key-expired': 'its signature is of a key that has expired',
  'key-revoked': 'its signature is of a key that was revoked',
  expired: 'its signature has expired',
  bad: 'it is not what was signed',
} as const

/** `%G?` of git-log(1); G is a good signature, U one of a key in nobody's name, E one that cannot be checked. */
const VERDICTS: Readonly<Record<string, SignatureFault>> = {
  ...{ N: 'none', E: 'not-listed', U: 'not-listed', G: 'not-listed' },
  ...{ Y: 'key-expired', R: 'key-revoked', X: 'expired', B: 'bad' },
}

/** A revision is not signed by anybody whose signature counts; nothing was changed. */
export class UnsignedError extends Error {
  readonly revision: string
  readonly fault: SignatureFault

  constructor(revision: string, fault: SignatureFault) {
    super(
      `revision ${revision.slice(0, 12)} is not signed by an allowed signer: ${FAULTS[fault]}; nothing was changed`,
    )
    this.revision = revision
    this.fault = fault
  }
}

/**
 * Every commit that the one has and the other does not must be signed, those that were merged into it as well.
 * @throws UnsignedError for the latest that is not, SignersError, or GitError
 */
export async function mustBeSigned(
  repository: Repository,
  { from, to, signers }: { from: string | null; to: string; signers: Signers },
): Promise<void> {
  const { allowedSigners, allowedKeys } = signers
  if (allowedSigners !== null) {
    await access(allowedSigners, constants.R_OK).catch(({ code }: NodeJS.ErrnoException) => {
      throw new SignersError(allowedSigners, code === 'ENOENT' ? 'it is not there' : 'it cannot be read')
    })
  }
  const check = (keyring: Keyring | null) => checkAll(repository, { from, to, allowedSigners, keyring })
  await (allowedKeys === null ? check(null) : withKeyring(repository.git.runner, allowedKeys, check))
}

async function checkAll(
  { git }: Repository,
  {
    from,
    to,
    allowedSigners,
    keyring,
  }: { from: string | null; to: string; allowedSigners: string | null; keyring: Keyring | null },
): Promise<void> {
  const settings = {
    'gpg.ssh.allowedSignersFile': allowedSigners ?? '/dev/null',
    'gpg.minTrustLevel': 'fully',
  }
  const text = await git.read(
    ['log', '-z', '--format=%H %G? %GF %GP', to, ...(from === null ? [] : [`^${from}`])],
    { settings, timeout: 300_000, ...(keyring === null ? {} : { env: { GNUPGHOME: keyring.home } }) },
  )
  for (const line of [...records(text), text.split('\0').at(-1) ?? '']) {
    const [id = '', verdict = '', fingerprint = '', primary = ''] = line.split(' ')
    if (id === '') continue
    // gpg may have been told of more keys by a configuration of the machine.
    const counts = fingerprint.startsWith('SHA256:')
      ? allowedSigners !== null
      : keyring?.fingerprints.has(primary)
    if (verdict !== 'G' || counts !== true) throw new UnsignedError(id, VERDICTS[verdict] ?? 'not-listed')
  }
}
