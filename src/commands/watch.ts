/** `egress25 watch`: what happens now. On a terminal a view that renews itself, in a pipe a line for each event. */
import { callService, type Heard, listenToService } from '../client/client.ts'
import type { Listen } from '../config/config.ts'
import { readConfig } from '../config/config.ts'
import type { Common } from './ask.ts'
import { EXIT, type Exit, print } from './outcome.ts'
import { renderWatch, type WatchState } from './watch-view.ts'

const SECONDS = 120
const LATEST = 50
/** Milliseconds between two looks at what is not told as an event. */
const LOOK = 1_000
const MOST_INCIDENTS = 100

/** Until somebody ends it. @throws UnreachableError when no service answers at the start */
export async function watch({ config, json }: Common): Promise<Exit> {
  const { listen } = await readConfig(config)
  await callService(listen, 'GET', '/v1/status')
  const over = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => over.abort())
  // Whoever read the pipe has had enough.
  process.stdout.on('error', () => over.abort())
  if (json || process.stdout.isTTY !== true) await printEvents(listen, json, over.signal)
  else await showScreen(listen, over)
  return EXIT.done
}

async function printEvents(listen: readonly Listen[], json: boolean, over: AbortSignal): Promise<void> {
  const show = ({ type, data }: Heard) =>
    print(
      json
        ? JSON.stringify({ type, ...data })
        : `${data['time'] ?? ''} ${type} ${JSON.stringify({ ...data, time: undefined })}`,
    )
  await listenToService(listen, '/v1/events', show, over)
}

async function showScreen(listen: readonly Listen[], over: AbortController): Promise<void> {
  const view = new View(listen)
  const draw = () => {
    const { columns = 80, rows = 24 } = process.stdout
    const lines = renderWatch(view.state, { columns, rows }, Date.now())
    process.stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\r\n')}`)
  }
  const { stdin, stdout } = process
  const onKey = (key: Buffer) => {
    // In raw mode Ctrl-C is a key like others.
    if (['q', 'Q', '\x03', '\x04'].includes(key.toString())) over.abort()
  }
  // The alternate screen, without a cursor; the terminal gets back what it showed before, however this ends.
  const restore = () => stdout.write('\x1b[?25h\x1b[?1049l')
  process.once('exit', restore)
  stdout.write('\x1b[?1049h\x1b[?25l\x1b[2J')
  if (stdin.isTTY) stdin.setRawMode(true).on('data', onKey).resume()
  stdout.on('resize', draw)
  const listening = listenAgain(listen, (event) => view.hear(event), over.signal)
  try {
    while (!over.signal.aborted) {
      await view.look()
      draw()
      await pause(LOOK, over.signal)
    }
  } finally {
    if (stdin.isTTY) stdin.setRawMode(false).off('data', onKey).pause()
    stdout.off('resize', draw)
    process.off('exit', restore)
    restore()
    await listening
  }
}

/** A service that restarts is listened to again. */
async function listenAgain(
  listen: readonly Listen[],
  hear: (event: Heard) => void,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    await listenToService(listen, '/v1/events?types=attempt', hear, over).catch(() => {})
    await pause(LOOK, over)
  }
}

function pause(milliseconds: number, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      over.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, milliseconds)
    over.addEventListener('abort', done)
    if (over.aborted) done()
  })
}

interface Status {
  readonly gateway: string
  readonly in_sync: boolean
  readonly preflight: readonly unknown[]
  readonly attempts: { readonly total: number }
  readonly events: { readonly listening: boolean; readonly lost: number }
}

/** What is known, kept up to date. */
class View {
  readonly #listen: readonly Listen[]
  state: WatchState = {
    gateway: '',
    inSync: false,
    listening: false,
    total: 0,
    lost: 0,
    warnings: 0,
    perSecond: [],
    sources: [],
    incidents: [],
    recent: [],
    trouble: 'not asked yet',
  }

  constructor(listen: readonly Listen[]) {
    this.#listen = listen
  }

  hear({ type, data }: Heard): void {
    if (type !== 'attempt') return
    const attempt = data as unknown as WatchState['recent'][number]
    this.state = { ...this.state, recent: [attempt, ...this.state.recent].slice(0, LATEST) }
  }

  async look(): Promise<void> {
    try {
      const { state } = this
      const [status, sources, incidents] = await Promise.all([
        this.#get<Status>('/v1/status'),
        this.#get<{ items: WatchState['sources'] }>('/v1/sources?limit=20'),
        this.#get<{ items: WatchState['incidents'] }>(`/v1/incidents?state=open&limit=${MOST_INCIDENTS}`),
      ])
      const { total } = status.attempts
      const grown = state.trouble === null ? Math.max(0, total - state.total) : 0
      this.state = {
        ...state,
        gateway: status.gateway,
        inSync: status.in_sync,
        listening: status.events.listening,
        total,
        lost: status.events.lost,
        warnings: status.preflight.length,
        perSecond: [...state.perSecond, grown].slice(-SECONDS),
        sources: sources.items,
        incidents: incidents.items,
        trouble: null,
      }
    } catch (error) {
      this.state = { ...this.state, trouble: (error as Error).message }
    }
  }

  async #get<Body>(path: string): Promise<Body> {
    const { status, body } = await callService(this.#listen, 'GET', path)
    if (status !== 200)
      throw new Error((body as { detail?: string })?.detail ?? `the service answered ${status}`)
    return body as Body
  }
}
