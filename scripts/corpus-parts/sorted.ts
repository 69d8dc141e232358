/** How well the report sorts the hosts of the corpus, had they been observed and not blocked. */
import { SENDER_GROUPS, type SenderEvidence, type SenderGroup } from '../../src/report/evidence.ts'
import { sortSender } from '../../src/report/sort-sender.ts'
import { evidenceOf } from './evidence.ts'
import { corpus } from './generate.ts'
import { CLASSES, type CorpusOptions, type HostClass } from './types.ts'

/** What each class is. A mail server that was broken into is one, and spams: a person has to look. */
export const GROUP_OF: Readonly<Record<HostClass, SenderGroup>> = {
  'bursty-bot': 'bot',
  'slow-bot': 'bot',
  'few-target-bot': 'bot',
  'rotating-bot': 'bot',
  scanner: 'bot',
  'mail-client': 'misconfigured-client',
  printer: 'misconfigured-client',
  // It carries no mail, and is no bot: nobody can tell from its packets what it is for.
  'monitoring-probe': 'cannot-tell',
  'mail-server': 'mail-server',
  'newsletter-host': 'mail-server',
  'broken-in-host': 'cannot-tell',
  'small-mail-server': 'mail-server',
  // A mail server and an infected machine behind one address: exempting it exempts both.
  'office-with-bot': 'cannot-tell',
  'web-server-bot': 'bot',
  'refused-bot': 'bot',
  program: 'misconfigured-client',
  'tried-once': 'cannot-tell',
}

export interface Observed {
  readonly label: HostClass
  readonly evidence: SenderEvidence
}

/** All hosts of the corpus, as they are known after they were observed. */
export function* observed(options: Omit<CorpusOptions, 'blocked'>): Generator<Observed> {
  for (const host of corpus({ ...options, blocked: false })) {
    yield { label: host.label, evidence: evidenceOf(host) }
  }
}

export interface GroupScore {
  readonly group: SenderGroup
  /** Of the hosts that were sorted there, how many belong there; null: none was. */
  readonly precision: number | null
  /** Of the hosts that belong there, how many were sorted there. */
  readonly recall: number | null
}

export interface Sorting {
  /** How many of each class were sorted where. */
  readonly classes: ReadonlyMap<HostClass, ReadonlyMap<SenderGroup, number>>
  readonly groups: readonly GroupScore[]
}

/** With the names of a resolver, or as without one. */
export function sortObserved(all: Iterable<Observed>, withNames: boolean): Sorting {
  const classes = new Map(CLASSES.map((label) => [label, new Map<SenderGroup, number>()]))
  for (const { label, evidence } of all) {
    const { group } = sortSender(withNames ? evidence : { ...evidence, name: null })
    const counts = classes.get(label)
    counts?.set(group, (counts.get(group) ?? 0) + 1)
  }
  const count = (isIn: (label: HostClass, group: SenderGroup) => boolean) =>
    [...classes].reduce(
      (sum, [label, counts]) =>
        sum + [...counts].reduce((all, [group, many]) => all + (isIn(label, group) ? many : 0), 0),
      0,
    )
  const groups = SENDER_GROUPS.map((group): GroupScore => {
    const said = count((_, sorted) => sorted === group)
    const are = count((label) => GROUP_OF[label] === group)
    const right = count((label, sorted) => sorted === group && GROUP_OF[label] === group)
    return { group, precision: said === 0 ? null : right / said, recall: are === 0 ? null : right / are }
  })
  return { classes, groups }
}
