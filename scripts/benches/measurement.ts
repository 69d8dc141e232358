// What a measurement is, and what it brings home.

export interface Measurement {
  /** By which it is chosen: scripts/bench NAME. */
  readonly name: string
  readonly title: string
  /** How it is measured, for the reader of the page. */
  readonly about: string
  measure(bench: Bench): Promise<Figure[]>
}

/** What a measurement may use. */
export interface Bench {
  /** A folder on a disk, removed at the end. */
  readonly folder: string
  /** Says what is going on, to whoever waits. */
  progress(sentence: string): void
}

export interface Figure {
  readonly what: string
  /** With placeholders for folders, so that it is the same on each machine. */
  readonly command: string
  /** What it is held against in the same run; null: an absolute figure. */
  readonly reference: string | null
  readonly result: number
  readonly unit: '×' | 'MB' | 's' | 'ms' | '%' | '/s'
  /** First and third quartile over the rounds; null where the result is a peak. */
  readonly spread: { readonly from: number; readonly to: number } | null
  /** The absolute figures behind it, for orientation: `1.43 s against 3.60 s`. */
  readonly detail: string
  readonly rounds: number
  /** The result must not be above it; null: for information only. */
  readonly goal: number | null
  /** Where it stands among other programs, in a comparison of several; then there is no ratio and no goal. */
  readonly cell?: Cell
}

export interface Cell {
  readonly task: string
  readonly program: string
  readonly prefixes: number
  /** Over: ended at the limit, which is the result. Not reached: what comes before it did not end. */
  readonly outcome: 'done' | 'over' | 'failed' | 'not reached'
}
