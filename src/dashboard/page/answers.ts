/** Of what the API answers, what the page reads. `src/dashboard/contract.ts` holds it against the API's schemas. */

export interface Status {
  readonly gateway: string
  readonly version: string
  readonly started: string
  readonly in_sync: boolean
  readonly drift: number
  readonly contested: boolean
  readonly ruleset: object | null
  readonly pending: { readonly deadline: string } | null
  readonly held: object | null
  readonly refused: object | null
  readonly warnings: readonly { readonly file: string; readonly line: number; readonly message: string }[]
  readonly preflight: readonly { readonly code: string; readonly message: string }[]
  readonly attempts: {
    readonly total: number
    readonly by_policy: readonly { readonly policy: string; readonly attempts: number }[]
  }
  readonly events: { readonly listening: boolean; readonly received: number; readonly lost: number }
  readonly incidents: { readonly open: Readonly<Record<string, number>> }
  readonly alerts: { readonly waiting: Readonly<Record<string, number>> }
  readonly subscribers: readonly { readonly name: string; readonly failure: string | null }[]
  readonly history: { readonly failure: string | null }
}

export interface Incident {
  readonly id: string
  readonly kind: string
  readonly confidence: string
  readonly source: string
  readonly user: { readonly uid: number; readonly name: string | null } | null
  readonly subscriber: {
    readonly name: string | null
    readonly account: string | null
    readonly mac: string | null
    readonly port: string | null
  } | null
  readonly first_seen: string
  readonly last_seen: string
  readonly attempts: number
  readonly acknowledged: boolean
  readonly summary: string
}

export interface Series {
  readonly step: 'minute' | 'hour' | 'day' | 'week'
  readonly from: string
  readonly to: string
  readonly points: readonly { readonly time: string; readonly attempts: number }[]
}

export interface Machine {
  readonly source: string
  readonly policy: string | null
  readonly attempts: number
  readonly last_seen: string
}

export interface Exemption {
  readonly name: string
  readonly sources: readonly string[]
  readonly expires?: string
  readonly owner?: string
  readonly ticket?: string
  readonly description?: string
  readonly reason?: string
}

export interface Page<Item> {
  readonly items: readonly Item[]
  readonly next: string | null
}
