/** Server-sent events (HTML Standard §9.2) over fetch: EventSource can send no Authorization header. */
import { request } from './service.ts'

export interface ServerEvent {
  readonly id: string | null
  readonly type: string
  readonly data: string
}

/** The service gives a sign of life every 15 seconds; after so many milliseconds without one nobody is there. */
const SILENCE = 40_000

/** Reads lines that may arrive in any pieces. Pure. */
export class EventParser {
  #rest = ''
  #id: string | null = null
  #type = ''
  #data: string[] = []

  /** Takes the next piece of text; answers the events that are whole with it. */
  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = []
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0)
          events.push({ id: this.#id, type: this.#type || 'message', data: this.#data.join('\n') })
        this.#id = null
        this.#type = ''
        this.#data = []
        continue
      }
      const colon = line.indexOf(':')
      const field = colon === -1 ? line : line.slice(0, colon)
      const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
      if (field === 'id') this.#id = value
      else if (field === 'event') this.#type = value
      else if (field === 'data') this.#data.push(value)
    }
    return events
  }
}

/** Listens until the stream ends, fails or falls silent, or the signal says so. `after`: the id of the last event known. */
export async function listen(
  path: string,
  after: string,
  onEvent: (event: ServerEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const silence = new AbortController()
  const hush = () => silence.abort(new Error('the stream of events fell silent'))
  let timer = setTimeout(hush, SILENCE)
  try {
    const response = await request(
      path,
      { accept: 'text/event-stream', 'last-event-id': after },
      AbortSignal.any([signal, silence.signal]),
    )
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    if (reader === undefined) return
    const parser = new EventParser()
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(hush, SILENCE)
      for (const event of parser.push(value)) onEvent(event)
    }
  } finally {
    clearTimeout(timer)
  }
}
