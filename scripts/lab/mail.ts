// Real mail servers and a real mail client inside the lab.
import { join } from 'node:path'
import type { Lab } from './lab.ts'
import type { MailHandlers, MailServers, Received } from './mail-worker.ts'
import { mustRun } from './process.ts'

export type { Received } from './mail-worker.ts'

export interface MailHost {
  /** Everything that has reached the servers so far. */
  received(): Promise<Received>
}

export interface Identity {
  readonly certificate: string
  readonly key: string
  readonly user: string
  readonly password: string
}

/** Makes a self-signed certificate in `directory`, good for a day, and an account. */
export async function makeIdentity(directory: string): Promise<Identity> {
  const certificate = join(directory, 'mail.crt')
  const key = join(directory, 'mail.key')
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  const names = ['-subj', '/CN=mail.example.net', '-addext', 'subjectAltName=DNS:mail.example.net']
  await mustRun(
    [
      'openssl',
      'req',
      '-x509',
      ...curve,
      '-nodes',
      '-days',
      '1',
      ...names,
      '-keyout',
      key,
      '-out',
      certificate,
    ],
    {},
  )
  return { certificate, key, user: 'alice', password: 'correct-horse' }
}

/** Opens mail servers on every address of a namespace. */
export async function openMailHost(
  lab: Lab,
  namespace: string,
  services: MailServers['services'],
  identity: Identity,
): Promise<MailHost> {
  const worker = lab.worker<MailHandlers>(namespace, new URL('mail-worker.ts', import.meta.url))
  await worker.call('open', { services, ...identity })
  return { received: () => worker.call('received') }
}

export interface Mail {
  readonly namespace: string
  readonly from: string
  readonly to: string
  readonly port: number
  /** Which tells the message from all others. */
  readonly subject: string
  /** Its text; by default a line. */
  readonly body?: string
  readonly security?: 'none' | 'starttls' | 'tls'
  readonly login?: { readonly user: string; readonly password: string }
  /** Seconds to wait for the other side at each step; by default 10. */
  readonly patience?: number
}

export interface Sent {
  readonly delivered: boolean
  readonly seconds: number
  /** What the client says became of it, in one line. */
  readonly answer: string
  /** The whole conversation. */
  readonly transcript: string
}

/** Sends one message with swaks, which is what a person would try it with. Fails when it takes longer than a minute. */
export async function sendMail(lab: Lab, mail: Mail): Promise<Sent> {
  const started = performance.now()
  const { code, stdout, stderr } = await lab.exec(mail.namespace, swaks(mail), { timeoutMs: 60_000 })
  const transcript = stdout + stderr
  return {
    delivered: code === 0,
    seconds: (performance.now() - started) / 1_000,
    answer: lastWord(transcript, code),
    transcript,
  }
}

/** The command line that sends a message; also for people to copy. */
export function swaks(mail: Mail): string[] {
  const secure = { none: [], starttls: ['--tls'], tls: ['--tls-on-connect'] }[mail.security ?? 'none']
  const login = mail.login
    ? ['--auth', 'PLAIN', '--auth-user', mail.login.user, '--auth-password', mail.login.password]
    : []
  const body = mail.body === undefined ? [] : ['--body', mail.body]
  return [
    ...['swaks', '--server', mail.to, '--port', String(mail.port), '--local-interface', mail.from],
    ...['--helo', 'client.example.org', '--from', 'sender@example.org', '--to', 'somebody@example.com'],
    ...[
      '--header',
      `Subject: ${mail.subject}`,
      '--timeout',
      `${mail.patience ?? 10}`,
      ...body,
      ...secure,
      ...login,
    ],
  ]
}

function lastWord(transcript: string, code: number): string {
  const lines = transcript.split('\n').map((line) => line.trim())
  const complaint = lines.findLast((line) => line.startsWith('***'))
  const replies = lines.filter((line) => /^<~? *[- ~*]*\d{3} /.test(line) || /^<\S* +\d{3} /.test(line))
  const reply = replies.findLast((line) => !/ 221 /.test(line))
  if (code === 0) return reply?.replace(/^<\S* +/, '') ?? 'delivered'
  return complaint?.replace(/^\*+ */, '') ?? `exit status ${code}`
}
