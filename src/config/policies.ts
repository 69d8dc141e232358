/** `policies`: where they are, whether git remembers their changes, and from where they are pulled. */
import { readFile } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import type { PoliciesConfig, RemoteConfig } from '../history/policies-config.ts'
import type { Problem } from '../policy/diagnostic.ts'
import { parseDuration, quote } from '../policy/formats.ts'

const text = (format: string, maxLength = 500) =>
  Type.Optional(Type.String({ format, minLength: 1, maxLength }))

export const PoliciesSchema = Type.Object(
  {
    directory: text('absolute-path'),
    history: Type.Optional(Type.Enum(['auto', 'init', 'off'])),
    by_hand: Type.Optional(Type.Enum(['report', 'apply'])),
    remote: text('git-remote', 1_000),
    branch: text('git-branch', 200),
    poll: text('duration'),
    push: Type.Optional(Type.Boolean()),
    require_signed_commits: Type.Optional(Type.Boolean()),
    allowed_signers: text('absolute-path'),
    allowed_keys: text('absolute-path'),
    ssh_key: text('plain-path'),
    known_hosts: text('plain-path'),
    credentials_file: text('plain-path'),
    webhook_secret_file: text('absolute-path'),
  },
  { additionalProperties: false },
)

const SCHEMES = ['https:', 'ssh:', 'git:', 'file:']

export const POLICIES_FORMATS = {
  'git-remote': (value: string) => {
    if (/^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^:\s]+$/.test(value) || /^\/[^\s]*$/.test(value)) return null
    const url = URL.canParse(value) ? new URL(value) : null
    if (url?.password) return bad('a password has no place here: use ssh_key or credentials_file')
    if (url !== null && SCHEMES.includes(url.protocol) && !/\s/.test(value)) return null
    return bad(`${quote(value)} is no remote: write https://…, ssh://…, git@HOST:PATH, git://… or /PATH`)
  },
  'git-branch': (value: string) =>
    /^[A-Za-z0-9][A-Za-z0-9._/-]*$/.test(value) && !/\.\.|\/\/|\.lock$|[/.]$/.test(value)
      ? null
      : bad(`${quote(value)} is no name of a branch`),
  // git hands these to a shell.
  'plain-path': (value: string) =>
    /^\/[A-Za-z0-9._/-]+$/.test(value)
      ? null
      : bad(`${quote(value)} must be an absolute path of letters, digits, and . _ - /`),
}

/** Keys that must, or must not, stand together. */
export function policiesProblems(written: Static<typeof PoliciesSchema>): Problem[] {
  const problems: Problem[] = []
  const needs = (key: keyof typeof written, other: keyof typeof written, why: string) => {
    if (written[key] !== undefined && written[key] !== false && written[other] === undefined)
      problems.push({ pointer: `/${key}`, code: 'missing-key', message: `${key} needs ${other}: ${why}` })
  }
  for (const key of ['branch', 'poll', 'push', 'require_signed_commits', 'webhook_secret_file'] as const)
    needs(key, 'remote', 'there is nothing to pull from')
  if (written.require_signed_commits === true && written.allowed_keys === undefined)
    needs('require_signed_commits', 'allowed_signers', 'it, or allowed_keys, says whose signatures count')
  if (written.remote !== undefined && written.history === 'off')
    problems.push({ pointer: '/history', code: 'bad-value', message: 'what is pulled needs a history' })
  return problems
}

export function buildPolicies(written: Static<typeof PoliciesSchema>): PoliciesConfig {
  const { remote, require_signed_commits: signed = false } = written
  return {
    directory: written.directory ?? '/etc/egress25/policies',
    history: (written.history as PoliciesConfig['history'] | undefined) ?? 'auto',
    byHand: written.by_hand === 'apply' ? 'apply' : 'report',
    remote:
      remote === undefined
        ? null
        : {
            url: remote,
            branch: written.branch ?? 'main',
            poll: parseDuration(written.poll ?? '1m') ?? 0,
            push: written.push ?? true,
            allowedSigners: signed ? (written.allowed_signers ?? null) : null,
            allowedKeys: signed ? (written.allowed_keys ?? null) : null,
            sshKey: written.ssh_key ?? null,
            knownHosts: written.known_hosts ?? null,
            credentialsFile: written.credentials_file ?? null,
            webhookSecretFile: written.webhook_secret_file ?? null,
          },
  }
}

/** The secret of the webhook, without the line's end. @throws Error when it cannot be read, or is empty */
export async function readWebhookSecret({ webhookSecretFile }: RemoteConfig): Promise<string | null> {
  if (webhookSecretFile === null) return null
  const secret = (await readFile(webhookSecretFile, 'utf8')).trim()
  if (secret === '') throw new Error(`${webhookSecretFile} is empty`)
  return secret
}

function bad(message: string) {
  return { code: 'bad-value', message } as const
}
