/** Which texts there are, and which variables each may use. docs/alerts.md explains them. */

/** null: text, which as a section says whether there is any. Else: a list, and the variables of its items. */
export interface Variables {
  readonly [name: string]: Variables | null
}

const named = <N extends string>(...names: N[]): { [name in N]: null } =>
  Object.fromEntries(names.map((name) => [name, null])) as { [name in N]: null }

const ANY = named('gateway', 'time', 'severity', 'contact')

const INCIDENT = {
  ...ANY,
  ...named('id', 'kind', 'machine', 'source', 'subscriber', 'policy', 'network', 'attempts', 'servers'),
  ...named('since', 'last_seen', 'lasted', 'fate', 'certainty', 'advice', 'occurrence', 'repeated', 'within'),
  ...named('misconfigured', 'observed', 'acknowledged', 'summary'),
}

const EXEMPTION = {
  ...ANY,
  ...named('name', 'expires', 'owner', 'ticket', 'reason', 'sources', 'more_sources'),
}

const DIGEST = {
  ...ANY,
  ...named('news', 'machines', 'any_machine', 'attempts', 'since', 'until', 'because', 'dropped'),
  kinds: named('kind', 'machines'),
  events: named('event', 'count'),
  networks: named('network', 'machines', 'first'),
  worst: named('machine', 'source', 'subscriber', 'kind', 'attempts', 'servers', 'since', 'summary'),
  others: named('subject'),
}

export const TEXT_VARIABLES = {
  opened: INCIDENT,
  updated: INCIDENT,
  reminder: INCIDENT,
  resolved: INCIDENT,
  notice: INCIDENT,
  notice_resolved: INCIDENT,
  digest: DIGEST,
  exemption_lapses: EXEMPTION,
  exemption_lapsed: EXEMPTION,
  exemption_revoked: EXEMPTION,
  table_contested: { ...ANY, ...named('program') },
  table_uncontested: { ...ANY, ...named('program') },
  preflight_appeared: { ...ANY, ...named('code', 'message') },
  preflight_gone: { ...ANY, ...named('code', 'message') },
  test: ANY,
} as const satisfies Record<string, Variables>

export type TextName = keyof typeof TEXT_VARIABLES

/** What a text is rendered with: exactly its variables. */
export type View<V extends Variables> = {
  readonly [name in keyof V]: V[name] extends Variables ? readonly View<V[name]>[] : string | boolean
}

/** Of words that have any. */
export const WORD_VARIABLES: Variables & Readonly<Record<string, Variables>> = {
  many_servers: named('count'),
  local_user: named('user', 'address'),
}
