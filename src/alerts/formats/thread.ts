/** What a message goes on about: receivers that know of open and closed keep one matter under one name. */
import type { Message } from '../message.ts'

export interface Thread {
  /** The same for all messages on one matter of one gateway; printable ASCII without spaces, at most 200 characters. */
  readonly id: string
  /** `begins` and `goes-on` leave it open, `ends` closes it, and `once` is said and done. */
  readonly state: 'begins' | 'goes-on' | 'ends' | 'once'
}

export function threadOf(message: Message): Thread {
  const { gateway } = message
  switch (message.about) {
    case 'incident': {
      const { event, incident } = message.body
      const state = event === 'opened' ? 'begins' : event === 'resolved' ? 'ends' : 'goes-on'
      return { id: name(gateway, 'incident', incident.id), state }
    }
    case 'drift':
      return {
        id: name(gateway, 'table-contested'),
        state: message.body.event === 'table-contested' ? 'begins' : 'ends',
      }
    case 'preflight':
      return {
        id: name(gateway, 'preflight', message.body.preflight.code),
        state: message.body.event === 'preflight-appeared' ? 'begins' : 'ends',
      }
    case 'exemption':
      return { id: name(gateway, 'exemption', message.body.exemption.name), state: 'once' }
    case 'digest':
    case 'test':
      return { id: name(gateway, message.about, message.key), state: 'once' }
    default:
      return message satisfies never
  }
}

function name(...parts: readonly string[]): string {
  return parts
    .map((part) => part.replace(/[^\x21-\x7e]/g, '_').slice(0, 90))
    .join('/')
    .slice(0, 200)
}
