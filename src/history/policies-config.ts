/** Where the policies are, whether git remembers their changes, and from where they are pulled: as it is configured. */

export interface PoliciesConfig {
  readonly directory: string
  /** auto: where the directory is a git work tree; init: it becomes one. */
  readonly history: 'auto' | 'init' | 'off'
  /** What becomes of files that somebody edits: report, or apply when they are sound. */
  readonly byHand: 'report' | 'apply'
  readonly remote: RemoteConfig | null
}

export interface RemoteConfig {
  readonly url: string
  readonly branch: string
  /** Milliseconds between looks at the remote. */
  readonly poll: number
  readonly push: boolean
  /** A file as ssh-keygen(1) has it, where commits must be signed by somebody in it. */
  readonly allowedSigners: string | null
  /** A file of OpenPGP keys, as gpg(1) exports them: a signature of one of them does, too. */
  readonly allowedKeys: string | null
  readonly sshKey: string | null
  readonly knownHosts: string | null
  readonly credentialsFile: string | null
  readonly webhookSecretFile: string | null
}
