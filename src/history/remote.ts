/** The repository that policies are pulled from, and pushed back to: only what goes over the network. */

import type { Git, RunOptions } from './git.ts'
import { GitError } from './history-error.ts'
import type { RemoteConfig } from './policies-config.ts'

/** Milliseconds for what goes over the network. */
const NETWORK_TIMEOUT = 120_000

export class Remote {
  readonly config: RemoteConfig
  readonly #git: Git

  constructor(git: Git, config: RemoteConfig) {
    this.#git = git
    this.config = config
  }

  /** Where the remote's branch is known as here. */
  get ref(): string {
    return `refs/remotes/egress25/${this.config.branch}`
  }

  /** The latest revision that was here and there at once. */
  get inStepRef(): string {
    return `refs/egress25/in-step/${this.config.branch}`
  }

  /** @throws GitError when the remote does not answer, or has no such branch */
  async fetch(): Promise<void> {
    const { url, branch } = this.config
    const spec = `+refs/heads/${branch}:${this.ref}`
    const args = [
      'fetch',
      '--quiet',
      '--no-tags',
      '--no-write-fetch-head',
      '--no-auto-maintenance',
      url,
      spec,
    ]
    await this.#git.read(args, this.#overTheNetwork())
  }

  /** False: the remote has moved on meanwhile. @throws GitError when it does not answer, or refuses */
  async push(commit: string, ref = `refs/heads/${this.config.branch}`): Promise<boolean> {
    const force = ref === `refs/heads/${this.config.branch}` ? '' : '+'
    const args = ['push', '--porcelain', '--no-verify', this.config.url, `${force}${commit}:${ref}`]
    const { code, stdout, stderr } = await this.#git.run(args, { ...this.#overTheNetwork(), answers: [1] })
    if (code === 0) return true
    const refusal = /^!\t[^\t]*\t(.*)$/m.exec(stdout)?.[1] ?? stderr.trim().split('\n').at(-1) ?? ''
    if (/fetch first|non-fast-forward|stale info|cannot lock ref/.test(refusal)) return false
    throw new GitError(`git push: ${refusal}`)
  }

  #overTheNetwork(): RunOptions {
    const { sshKey, knownHosts, credentialsFile } = this.config
    const ssh = [
      ...['ssh', '-F', '/dev/null', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=yes'],
      ...['-o', 'ConnectTimeout=15', '-o', 'ServerAliveInterval=15', '-o', 'ServerAliveCountMax=2'],
      ...(sshKey === null ? [] : ['-o', 'IdentitiesOnly=yes', '-i', sshKey]),
      ...(knownHosts === null ? [] : ['-o', `UserKnownHostsFile=${knownHosts}`]),
    ]
    return {
      timeout: NETWORK_TIMEOUT,
      env: { GIT_ALLOW_PROTOCOL: 'https:ssh:git:file', GIT_SSH_COMMAND: ssh.join(' ') },
      ...(credentialsFile === null
        ? {}
        : { settings: { 'credential.helper': `store --file=${credentialsFile}` } }),
    }
  }
}
