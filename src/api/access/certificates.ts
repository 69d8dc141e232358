/** Who the holder of a client certificate is. That it is signed by the right authority was checked by TLS. */
import type { X509Certificate } from 'node:crypto'
import type { ClientCertificate } from '../../config/api.ts'

/** The first entry of the configuration that names it. */
export function holderOf(
  certificate: Pick<X509Certificate, 'subject' | 'subjectAltName'>,
  clients: readonly ClientCertificate[],
): ClientCertificate | null {
  const names = namesOf(certificate)
  return clients.find((client) => names.has(client.certificate)) ?? null
}

/** Node writes a subject as one `KEY=VALUE` a line, and alternative names after commas, in quotes where they have some. */
function namesOf({
  subject,
  subjectAltName,
}: Pick<X509Certificate, 'subject' | 'subjectAltName'>): Set<string> {
  const commonNames = (subject ?? '').split('\n').filter((line) => line.startsWith('CN='))
  const alternative = [
    ...(subjectAltName ?? '').matchAll(/(DNS|URI|email):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)|[^,]*(?:, |$)/g),
  ].flatMap(([, type, value = '']) => (type === undefined ? [] : [`${type}:${unquoted(value)}`]))
  return new Set([...commonNames, ...alternative])
}

function unquoted(value: string): string {
  return value.startsWith('"') ? String(JSON.parse(value)) : value
}
