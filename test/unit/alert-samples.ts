/** Messages as they come out of the outbox, one of each kind, for tests of channels. */

import type { IncidentNews, Message } from '../../src/alerts/message.ts'
import type { IncidentBody } from '../../src/detect/incident-body.ts'

export const GATEWAY = 'gw1'
export const TIME = Date.parse('2026-11-26T01:02:03.456Z')

/** What a machine or its owner may be called by somebody who means harm. */
export const HOSTILE =
  'x"]\\|= <b>&amp;</b> [click](https://evil.example) <!channel> *bold*\r\nBcc: all@example.net\r\n.\r\n\u202e\u0000ü€😀'

export function incident(changes: Partial<IncidentBody> = {}): IncidentBody {
  return {
    id: '01kayv6yq2-100-64-1-2',
    kind: 'spam-bot',
    confidence: 'definite',
    state: 'open',
    source: '100.64.1.2',
    user: null,
    process: null,
    subscriber: null,
    policy: 'residential',
    verdict: 'block',
    first_seen: '2026-11-26T01:00:00.000Z',
    last_seen: '2026-11-26T01:02:03.000Z',
    attempts: 120,
    destinations: 40,
    top_destinations: [
      { destination: '203.0.113.9', attempts: 7 },
      { destination: '2001:db8::9', attempts: 5 },
    ],
    lost: 0,
    evidence: {
      rule: 'fan-out',
      window_seconds: 300,
      attempts: 120,
      connections: 118,
      destinations: 40,
      sources: 1,
      limits: { attempts: 30, destinations: 10 },
      usual: null,
    },
    interfaces: ['eth1'],
    hardware_addresses: ['02:00:5e:10:00:01'],
    reopened: 0,
    acknowledged: false,
    summary: '100.64.1.2 tried port 25 at 40 mail servers 120 times within 123 s; all were blocked.',
    ...changes,
  }
}

export function incidentMessage(
  event: IncidentNews['event'] = 'opened',
  changes: Partial<IncidentBody> = {},
  rest: Partial<Extract<Message, { about: 'incident' }>> = {},
): Extract<Message, { about: 'incident' }> {
  const about = incident({ state: event === 'resolved' ? 'resolved' : 'open', ...changes })
  const time = new Date(TIME).toISOString()
  return {
    about: 'incident',
    key: `${about.id}/${event}/${TIME}`,
    gateway: GATEWAY,
    time: TIME,
    severity: 'critical',
    text: { subject: `${about.source} is infected`, lines: [about.summary, '', 'Take it off the network.'] },
    notice: {
      subject: 'Your machine is infected',
      lines: ['A bot sends spam.', '', 'Mail on port 587 works.'],
    },
    body: {
      event,
      gateway: GATEWAY,
      time,
      severity: 'critical',
      incident: about,
      network: '100.64.0.0/10',
      occurrence: 1,
    },
    ...rest,
  }
}

function about<M extends Message>(
  kind: M['about'],
  body: Omit<M['body'], 'gateway' | 'time' | 'severity'>,
  subject: string,
): Message {
  const time = new Date(TIME).toISOString()
  return {
    about: kind,
    key: `${kind}/${TIME}`,
    gateway: GATEWAY,
    time: TIME,
    severity: 'warning',
    text: { subject, lines: [subject, '', 'What to do: look.'] },
    body: { ...body, gateway: GATEWAY, time, severity: 'warning' },
  } as unknown as Message
}

export const DIGEST = about<Extract<Message, { about: 'digest' }>>(
  'digest',
  {
    event: 'digest',
    digest: {
      because: ['group'],
      since: '2026-11-26T01:00:00.000Z',
      until: '2026-11-26T01:01:00.000Z',
      news: 5_000,
      machines: 5_000,
      attempts: 600_000,
      by_event: { opened: 5_000 },
      by_kind: { 'spam-bot': 4_990, scanner: 10 },
      by_network: [{ network: '100.64.0.0/10', machines: 5_000 }],
      worst: [incident({ attempts: 9_000 })],
      others: [],
      dropped: 0,
    },
  },
  '5,000 machines are infected',
)

export const OTHERS: readonly Message[] = [
  DIGEST,
  about<Extract<Message, { about: 'exemption' }>>(
    'exemption',
    {
      event: 'exemption-lapses',
      exemption: {
        name: 'acme-mail-server',
        expires: '2026-12-31T00:00:00.000Z',
        owner: 'noc@example.net',
        ticket: 'NOC-4711',
        reason: 'The customer runs a mail server of its own.',
        sources: ['100.64.12.7'],
        more_sources: 3,
      },
    },
    'the exemption acme-mail-server ends',
  ),
  about<Extract<Message, { about: 'drift' }>>(
    'drift',
    {
      event: 'table-contested',
      by: { pid: 4_711, program: 'nft', what: 'delete table', damage: 'everything' },
    },
    'somebody changes our table',
  ),
  about<Extract<Message, { about: 'preflight' }>>(
    'preflight',
    { event: 'preflight-appeared', preflight: { code: 'forwarding-off', message: 'nothing is forwarded' } },
    'the kernel forwards nothing',
  ),
  about<Extract<Message, { about: 'test' }>>('test', { event: 'test' }, 'a test'),
]

/** All of it, in somebody's words who means harm. */
export function hostileMessage(words = HOSTILE): Message {
  const subscriber = { name: words, account: words, contact: words, mac: words, port: words }
  return incidentMessage(
    'opened',
    { subscriber: { ...subscriber, source: 'kea', since: null } as unknown as null, policy: 'residential' },
    {
      text: { subject: words.slice(0, 200), lines: [words, '', words] },
      notice: { subject: words, lines: [words] },
    },
  )
}
