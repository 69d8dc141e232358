/** A document of each kind, for readers of `/openapi.json`; sound beside the example policies. */
import type { Kind } from '../../policy/schema.ts'

interface Example {
  readonly name: string
  readonly body: Readonly<Record<string, unknown>>
}

export const DOCUMENT_EXAMPLES: Readonly<Record<Kind, Example>> = {
  policy: { name: 'guests', body: { networks: ['198.51.100.0/26'], mode: 'observe' } },
  relay: { name: 'newsletter', body: { addresses: ['192.0.2.26'] } },
  exemption: {
    name: 'printing-house',
    body: {
      sources: ['100.64.12.8'],
      expires: '2035-12-31T00:00:00Z',
      reason: 'The customer runs a mail server of its own.',
      owner: 'noc@example.net',
      ticket: 'NOC-4712',
    },
  },
  list: { name: 'shops', body: { prefixes: ['198.51.100.64/28'] } },
  test: {
    name: 'submission-passes',
    body: { expect: [{ from: '100.64.1.2', to: '203.0.113.9', port: 587, verdict: 'allow' }] },
  },
}
