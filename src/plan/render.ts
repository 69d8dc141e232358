/** A plan for people: lines for a terminal, and Markdown for the discussion of a change. */
import type { PlanBody } from './plan-body.ts'

type DocumentChange = PlanBody['documents'][number]
type VerdictChange = PlanBody['verdicts'][number]

/** Prefixes shown of each change. */
const MAX_SHOWN = 12

const SIGNS = { added: '+', changed: '~', removed: '-' } as const

/** What each verdict means to somebody who does not know the words. */
const MEANING = {
  allow: 'allowed',
  block: 'blocked',
  redirect: 'redirected',
  observe: 'observed',
  ungoverned: 'ungoverned',
} as const

/** Lines of plain text. */
export function planLines(plan: PlanBody): string[] {
  if (isNothing(plan)) return ['nothing would change']
  const section = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)]
  return [
    ...section(
      'documents',
      plan.documents.map((change) => `${SIGNS[change.change]} ${describe(change)}`),
    ),
    ...section('verdicts on port 25, by source', verdictLines(plan)),
    ...section('rules', [ruleLine(plan)]),
    ...section('traffic', trafficLines(plan)),
  ]
}

/** A comment for a merge request. */
export function planMarkdown(plan: PlanBody): string {
  if (isNothing(plan)) return '### egress25 plan\n\nNothing would change.\n'
  const { verdicts } = plan
  const table = [
    '| sources | before | after | towards |',
    '|---|---|---|---|',
    ...verdicts.map(
      (change) =>
        `| ${list(change, '<br>', '`')} | ${MEANING[change.from]} | **${MEANING[change.to]}** | ${
          change.destination === null ? 'anywhere' : `\`${change.destination}\``
        } |`,
    ),
  ]
  return [
    '### egress25 plan',
    plan.documents.map((change) => `- ${change.change}: ${describe(change, '`')}`).join('\n'),
    verdicts.length === 0 ? 'No verdict changes.' : table.join('\n'),
    [omission(plan), ...trafficLines(plan)].filter((line) => line !== '').join('\n'),
    `In the kernel: ${ruleLine(plan)}.`,
  ]
    .filter((part) => part !== '')
    .join('\n\n')
    .concat('\n')
}

function isNothing({ documents, verdicts, rules }: PlanBody): boolean {
  return documents.length === 0 && verdicts.length === 0 && rules.how === 'unchanged'
}

function describe({ kind, name, file, line, keys, prefixes }: DocumentChange, mark = ''): string {
  const counts = prefixes === null ? [] : [`${prefixes.added} prefixes more, ${prefixes.removed} less`]
  const what = [...keys, ...counts].join(', ')
  return `${mark}${kind} ${name}${mark} (${file}:${line})${what === '' ? '' : `: ${what}`}`
}

function verdictLines(plan: PlanBody): string[] {
  const lines = plan.verdicts.map((change) => {
    const towards = change.destination === null ? '' : `to ${change.destination}: `
    return `${towards}${MEANING[change.from]} -> ${MEANING[change.to]}: ${list(change, ', ')}`
  })
  const omitted = omission(plan)
  return omitted === '' ? lines : [...lines, omitted]
}

function omission({ destinations_omitted: omitted }: PlanBody): string {
  return omitted === 0 ? '' : `${omitted} more destinations of changed documents were not compared`
}

function list({ sources, prefixes, addresses }: VerdictChange, separator: string, mark = ''): string {
  const shown = sources.slice(0, MAX_SHOWN).map((source) => `${mark}${source}${mark}`)
  const more = prefixes - shown.length
  if (more > 0) shown.push(`and ${more} more prefixes`)
  return `${shown.join(separator)} (${amount(BigInt(addresses))})`
}

/** A number of addresses; the large ones as a power of two, which is what people know of IPv6. */
function amount(addresses: bigint): string {
  if (addresses === 1n) return '1 address'
  if (addresses < 2n ** 33n) return `${addresses.toLocaleString('en')} addresses`
  return `about 2^${addresses.toString(2).length - 1} addresses`
}

function ruleLine({ rules: { how, elements, chains, rules } }: PlanBody): string {
  if (how === 'unchanged') return 'no rule and no element changes'
  const touched = chains.added.length + chains.changed.length + chains.removed.length
  const change =
    `${elements.added} elements added, ${elements.removed} removed; ` +
    `${rules.added} rules added, ${rules.removed} removed, in ${touched} chains`
  return how === 'replacement' ? `the whole table is replaced: ${change}` : change
}

function trafficLines({ traffic }: PlanBody): string[] {
  return (traffic ?? []).map(({ from, to, machines, attempts, worst }) => {
    const who = machines === 1 ? '1 machine' : `${machines} machines`
    const now = `now ${MEANING[from]}, would be ${MEANING[to]}`
    return `${who} that tried port 25 in the last 24 h (${attempts} attempts), ${now}: ${worst.join(', ')}${
      machines > worst.length ? ', …' : ''
    }`
  })
}
