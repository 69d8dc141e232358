/**
 * What the page knows, kept up to date: events say at once what has changed, and then it is asked for; sums of attempts
 * are asked for every few seconds. A service that restarts or a cable that comes back is found again by itself.
 */
import type { Exemption, Incident, Machine, Page, Series, Status } from './answers.ts'
import { type Change, changeOf, EVENT_TYPES } from './changes.ts'
import { listen, type ServerEvent } from './event-stream.ts'
import { forgetToken, get, keepToken, UnauthenticatedError } from './service.ts'

/** What the chart shows. */
export interface Choice {
  /** null: all. */
  readonly policy: string | null
  /** Milliseconds. */
  readonly span: number
}

export interface View {
  readonly status: Status | null
  readonly incidents: readonly Incident[] | null
  readonly series: Series | null
  readonly machines: readonly Machine[] | null
  /** Those that end, the first to end first. */
  readonly ending: readonly Exemption[] | null
  readonly changes: readonly Change[]
  readonly choice: Choice
  /** When the service last said how it is; milliseconds since the epoch. */
  readonly heard: number | null
  /** What went wrong since, in a sentence. */
  readonly failure: string | null
  /** null: no token is asked for; else what to say about it. */
  readonly asksForToken: string | null
}

type Part = 'status' | 'incidents' | 'series' | 'machines' | 'ending'

/** Milliseconds between questions that no event announces. */
const EVERY: Readonly<Record<Part, number>> = {
  status: 5_000,
  incidents: 30_000,
  series: 60_000,
  machines: 60_000,
  ending: 600_000,
}
/** A ranking of machines costs the service more than a sum. */
const RANKING_GAP = 10_000
const MOST_INCIDENTS = 100
const MOST_CHANGES = 30
const MOST_MACHINES = 8
const DAY = 86_400_000
/** An exemption may cover 100,000 sources: pages are small, and not many are read. */
const EXEMPTION_PAGES = 20
const [FIRST_WAIT, LONGEST_WAIT] = [1_000, 8_000]
/** An event that never was: what is still kept of the past comes first. */
const FROM_THE_PAST = '0-0'

export class Live {
  #view: View
  #onChange: (view: View) => void = () => {}
  #stop = new AbortController()
  readonly #running = new Map<Part, 'once' | 'again'>()
  readonly #asked = new Map<Part, number>()
  /** There were attempts since machines were last asked for. */
  #rankingIsOld = false
  #lastEvent = FROM_THE_PAST

  constructor(choice: Choice) {
    this.#view = {
      status: null,
      incidents: null,
      series: null,
      machines: null,
      ending: null,
      changes: [],
      choice,
      heard: null,
      failure: null,
      asksForToken: null,
    }
  }

  get view(): View {
    return this.#view
  }

  /** Tells of every change of what is known; answers how to stop. */
  start(onChange: (view: View) => void): () => void {
    this.#onChange = onChange
    this.#begin()
    return () => this.#stop.abort()
  }

  #begin(): void {
    this.#stop.abort()
    this.#stop = new AbortController()
    this.#running.clear()
    const { signal } = this.#stop
    this.refreshAll()
    const timer = setInterval(() => this.#refreshDue(), 1_000)
    signal.addEventListener('abort', () => clearInterval(timer))
    void this.#listen(signal)
  }

  refreshAll(): void {
    for (const part of Object.keys(EVERY) as Part[]) this.#refresh(part)
  }

  choose(choice: Choice): void {
    this.#set({ choice })
    this.#refresh('series')
  }

  useToken(token: string): void {
    keepToken(token)
    this.#set({ asksForToken: null, failure: null })
    this.#begin()
  }

  #set(some: Partial<View>): void {
    this.#view = { ...this.#view, ...some }
    this.#onChange(this.#view)
  }

  #refreshDue(): void {
    const now = Date.now()
    for (const part of Object.keys(EVERY) as Part[]) {
      const gap = part === 'machines' && this.#rankingIsOld ? RANKING_GAP : EVERY[part]
      if (now - (this.#asked.get(part) ?? 0) >= gap) this.#refresh(part)
    }
  }

  /** One question at a time for each part; what is asked for meanwhile is asked once more afterwards. */
  #refresh(part: Part): void {
    if (this.#running.has(part)) {
      this.#running.set(part, 'again')
      return
    }
    const { signal } = this.#stop
    this.#running.set(part, 'once')
    this.#asked.set(part, Date.now())
    if (part === 'machines') this.#rankingIsOld = false
    this.#ask(part, signal)
      .catch((error: Error) => this.#failed(error, signal))
      .finally(() => {
        if (signal.aborted) return
        const again = this.#running.get(part) === 'again'
        this.#running.delete(part)
        if (again) this.#refresh(part)
      })
  }

  async #ask(part: Part, signal: AbortSignal): Promise<void> {
    switch (part) {
      case 'status': {
        const status = await get<Status>('v1/status', signal)
        const before = this.#view.status
        this.#set({ status, heard: Date.now(), failure: null })
        if (before === null || before.attempts.total === status.attempts.total) return
        this.#refresh('series')
        this.#rankingIsOld = true
        return
      }
      case 'incidents': {
        const path = `v1/incidents?state=open&limit=${MOST_INCIDENTS}`
        return this.#set({ incidents: (await get<Page<Incident>>(path, signal)).items })
      }
      case 'series': {
        const { choice } = this.#view
        const to = Date.now()
        const query = new URLSearchParams({
          from: new Date(to - choice.span).toISOString(),
          to: new Date(to).toISOString(),
          ...(choice.policy === null ? {} : { policy: choice.policy }),
        })
        const series = await get<Series>(`v1/attempts/series?${query}`, signal)
        // Somebody may have chosen something else meanwhile.
        if (choice === this.#view.choice) this.#set({ series })
        return
      }
      case 'machines': {
        const path = `v1/sources?role=governed&limit=${MOST_MACHINES}`
        return this.#set({ machines: (await get<Page<Machine>>(path, signal)).items })
      }
      case 'ending':
        return this.#set({ ending: await endingExemptions(signal) })
      default:
        part satisfies never
    }
  }

  #failed(error: Error, signal: AbortSignal): void {
    if (signal.aborted) return
    if (!(error instanceof UnauthenticatedError)) {
      this.#set({ failure: sentenceOf(error) })
      return
    }
    // To go on asking would look like somebody who guesses.
    this.#stop.abort()
    forgetToken()
    this.#set({ asksForToken: error.message })
  }

  async #listen(signal: AbortSignal): Promise<void> {
    for (let wait = FIRST_WAIT; !signal.aborted; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      try {
        await listen(
          `v1/events?types=${EVENT_TYPES}`,
          this.#lastEvent,
          (event) => {
            wait = FIRST_WAIT
            this.#take(event)
          },
          signal,
        )
      } catch (error) {
        this.#failed(error as Error, signal)
      }
      await new Promise((resolve) => setTimeout(resolve, wait))
      if (!signal.aborted) this.#refresh('status')
    }
  }

  #take({ id, type, data }: ServerEvent): void {
    if (id !== null) this.#lastEvent = id
    if (type === 'gap') {
      this.refreshAll()
      return
    }
    this.#refresh('status')
    if (type === 'incident') this.#refresh('incidents')
    if (type === 'apply' || type === 'confirmation' || type.startsWith('exemption')) this.#refresh('ending')
    const change = changeOf(id ?? '', type, JSON.parse(data))
    if (change === null || this.#view.changes.some((known) => known.id === change.id)) return
    this.#set({ changes: [change, ...this.#view.changes].slice(0, MOST_CHANGES) })
  }
}

/** Those that end within 30 days. */
async function endingExemptions(signal: AbortSignal): Promise<readonly Exemption[]> {
  const found: Exemption[] = []
  const now = Date.now()
  let next: string | null = ''
  for (let pages = 0; next !== null && pages < EXEMPTION_PAGES; pages++) {
    const cursor: string = next === '' ? '' : `&cursor=${next}`
    const page: Page<Exemption> = await get(`v1/exemptions?limit=100${cursor}`, signal)
    for (const exemption of page.items) {
      const end = Date.parse(exemption.expires ?? '')
      if (end > now && end < now + 30 * DAY) found.push(exemption)
    }
    next = page.next
  }
  return found.sort((a, b) => Date.parse(a.expires ?? '') - Date.parse(b.expires ?? ''))
}

function sentenceOf(error: Error): string {
  if (error.name === 'TimeoutError') return 'The service does not answer in time.'
  // What fetch says differs from browser to browser.
  return error instanceof TypeError ? 'The service cannot be reached.' : error.message
}
