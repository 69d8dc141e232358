/** What happened to the rules, from events, in words. Pure. */

export interface Change {
  readonly id: string
  readonly time: number
  readonly text: string
  readonly isTrouble: boolean
}

/** Events that the page wants. Attempts may be thousands a second, and only their sums are shown: those it asks for. */
export const EVENT_TYPES = 'incident,apply,confirmation,drift,exemption,exemption-request,preflight' as const

type Data = Readonly<Record<string, unknown>>

/** null: it is no change of the rules, or nothing that this page knows. */
export function changeOf(id: string, type: string, data: Data): Change | null {
  const told = describe(type, data)
  if (told === null) return null
  const time = Date.parse(text(data, 'time'))
  return { id, time: Number.isNaN(time) ? 0 : time, ...told }
}

function describe(type: string, data: Data): Pick<Change, 'text' | 'isTrouble'> | null {
  const said = (sentence: string, isTrouble = false) => ({ text: sentence, isTrouble })
  const event = text(data, 'event')
  switch (type) {
    case 'apply':
      return said(`${text(data, 'by') || 'Somebody'} changed the rules`)
    case 'confirmation':
      return said('A change was taken back: nobody confirmed it', true)
    case 'drift':
      return driftOf(event, data)
    case 'exemption':
      return exemptionOf(event, record(data, 'exemption'))
    case 'exemption-request':
      return said(`Exemption ${text(data, 'exemption')}: ${event}${byOf(text(data, 'by'))}`)
    case 'preflight':
      return event === 'gone'
        ? said(`No longer so: ${text(data, 'message')}`)
        : said(`Warning: ${text(data, 'message')}`, true)
    default:
      return null
  }
}

function driftOf(event: string, data: Data): Pick<Change, 'text' | 'isTrouble'> | null {
  const program = text(record(data, 'by'), 'program')
  switch (event) {
    case 'found':
      return { text: `${program || 'Somebody else'} changed our rules`, isTrouble: true }
    case 'healed':
      return { text: 'Our rules are in force again', isTrouble: false }
    case 'missed':
      return { text: 'The rules were written anew, to be sure', isTrouble: false }
    case 'table-contested':
      return { text: `${program || 'Another program'} changes our rules again and again`, isTrouble: true }
    case 'table-uncontested':
      return { text: 'Nobody changes our rules any more', isTrouble: false }
    default:
      return null
  }
}

function exemptionOf(event: string, exemption: Data): Pick<Change, 'text' | 'isTrouble'> {
  const name = text(exemption, 'name')
  switch (event) {
    case 'lapses':
      return { text: `The exemption ${name} ends soon`, isTrouble: false }
    case 'lapsed':
      return { text: `The exemption ${name} has ended`, isTrouble: false }
    case 'exemption-revoked':
      return { text: `The exemption ${name} was revoked: its host is infected`, isTrouble: true }
    default:
      return { text: `The exemption ${name}: ${event}`, isTrouble: false }
  }
}

const byOf = (name: string): string => (name === '' ? '' : ` by ${name}`)

function text(data: Data, key: string): string {
  const value = data[key]
  return typeof value === 'string' ? value : ''
}

function record(data: Data, key: string): Data {
  const value = data[key]
  return typeof value === 'object' && value !== null ? (value as Data) : {}
}
