/** Mail for people: plain text and HTML, with the headers that keep one matter together and machines from answering. */
import { createHash } from 'node:crypto'
import MimeNode from 'nodemailer/lib/mime-node'
import type { Message, Text } from '../message.ts'
import { detailsOf } from './details.ts'
import { threadOf } from './thread.ts'

export interface Envelope {
  /** The channel that it goes through: what several of them tell of one message are several mails. */
  readonly channel: string
  readonly from: string
  readonly to: readonly string[]
}

/** The mail as it goes over the wire; the same message always makes the same headers. */
export function mailOf(message: Message, envelope: Envelope): Promise<Buffer> {
  const { text, severity, body } = message
  const root = new MimeNode('multipart/alternative', SAFE)
  root.setHeader({
    ...commonHeaders(message, envelope),
    Subject: text.subject,
    ...(severity === 'critical' ? { Importance: 'high' } : {}),
  })
  const facts = detailsOf(body)
  const table = facts.map(({ label, value }) => `${`${label}:`.padEnd(20)}${value}`)
  root.createChild('text/plain; charset=utf-8').setContent([...text.lines, '', ...table, ''].join('\r\n'))
  root.createChild('text/html; charset=utf-8').setContent(htmlOf(text, facts))
  return root.build()
}

/** Nothing in a message makes the composer read a file or fetch a URL. */
export const SAFE = { disableFileAccess: true, disableUrlAccess: true } as const

/** Of every mail that a machine writes about a matter. */
export function commonHeaders(
  message: Message,
  { channel, from, to }: Envelope,
): Record<string, string | string[]> {
  const { gateway, severity, time, key, body } = message
  const domain = from.slice(from.lastIndexOf('@') + 1)
  const thread = threadOf(message)
  const root = messageId(`${channel} ${thread.id}`, domain)
  // What comes back is opened again, and two mails must not have one identity.
  const isFirst =
    message.about === 'incident' && body.event === 'opened' && message.body.incident.reopened === 0
  return {
    From: `egress25 <${from}>`,
    To: [...to],
    Date: mailDate(time),
    'Message-ID': isFirst ? root : messageId(`${channel} ${key}`, domain),
    ...(isFirst || thread.state === 'once' ? {} : { 'In-Reply-To': root, References: root }),
    // RFC 3834 §5; and Exchange, which does not read it.
    'Auto-Submitted': 'auto-generated',
    'X-Auto-Response-Suppress': 'All',
    'List-Id': `<${gateway.toLowerCase().replace(/[^a-z0-9-]+/g, '-')}.egress25.${domain}>`,
    'X-Egress25-Event': body.event,
    'X-Egress25-Severity': severity,
  }
}

/** RFC 5322 §3.3. */
export function mailDate(time: number): string {
  return new Date(time).toUTCString().replace('GMT', '+0000')
}

function messageId(of: string, domain: string): string {
  return `<${createHash('sha256').update(of).digest('hex').slice(0, 32)}@${domain}>`
}

function htmlOf(text: Text, facts: ReturnType<typeof detailsOf>): string {
  const paragraphs = text.lines
    .join('\n')
    .split(/\n\n+/)
    .map((paragraph) => `<p>${escapeHtml(paragraph).replaceAll('\n', '<br>\n')}</p>`)
  const rows = facts.map(
    ({ label, value }) =>
      `<tr><th align="left">${escapeHtml(label)}</th><td style="padding-left:1em">${escapeHtml(value)}</td></tr>`,
  )
  return [
    '<!DOCTYPE html>',
    `<html><head><meta charset="utf-8"><title>${escapeHtml(text.subject)}</title></head>`,
    '<body style="font-family:sans-serif">',
    `<h2>${escapeHtml(text.subject)}</h2>`,
    ...paragraphs,
    `<table>${rows.join('\n')}</table>`,
    '</body></html>',
    '',
  ].join('\r\n')
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
