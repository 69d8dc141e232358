/**
 * A run of the policy tests as JUnit XML, in the form that Jenkins, GitLab and GitHub's actions read: a suite for each
 * document, a case for each expectation.
 */
import { join } from 'node:path'
import xmlbuilder from 'xmlbuilder'
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostic.ts'
import type { ExpectationResult } from '../policy/policy-tests.ts'

export interface TestRun {
  /** As it was named on the command line: with it before them, the paths of files mean something to CI. */
  readonly directory: string
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly milliseconds: number
  /** What kept the directory from being read; then there are no results. */
  readonly errors: readonly Diagnostic[]
  readonly results: readonly TitledResult[]
}

export interface TitledResult extends ExpectationResult {
  /** What is expected of which packet, in one line. */
  readonly title: string
}

interface Case {
  readonly name: string
  readonly file: string
  readonly line: number
  /** null: it passed. */
  readonly fault: {
    readonly is: 'failure' | 'error'
    readonly type: string
    readonly message: string
    readonly text: string
  } | null
}

interface Suite {
  readonly name: string
  readonly cases: readonly Case[]
}

/** A directory of the wrong kind has mistakes in every line; CI shows the first of them, and how many there are. */
const MAX_ERRORS = 1_000

/** The whole document. Characters that XML cannot hold, whatever a file's name has in it, become U+FFFD. */
export function renderJunit({ directory, startedAt, milliseconds, errors, results }: TestRun): string {
  const suites = errors.length > 0 ? [suiteOfErrors(directory, errors)] : suitesOf(directory, results)
  const cases = suites.flatMap((suite) => suite.cases)
  // An expectation takes microseconds, less than a look at the clock: the run's time in equal parts is as true.
  const seconds = (part: number) => ((milliseconds / 1000 / (cases.length || 1)) * part).toFixed(6)
  const timestamp = new Date(startedAt).toISOString().slice(0, 'yyyy-mm-ddThh:mm:ss'.length)
  const root = xmlbuilder.create('testsuites', { version: '1.0', encoding: 'UTF-8' })
  root.att({ name: 'egress25 test', ...countsOf(cases), time: seconds(cases.length) })
  for (const suite of suites) {
    const element = root.ele('testsuite', {
      name: legal(suite.name),
      ...countsOf(suite.cases),
      skipped: 0,
      time: seconds(suite.cases.length),
      timestamp,
    })
    for (const { name, file, line, fault } of unambiguous(suite.cases)) {
      const one = element.ele('testcase', {
        // Up to the last dot it is what Jenkins calls a package.
        classname: legal(`egress25.${suite.name}`),
        name: legal(name),
        file: legal(file),
        line,
        time: seconds(1),
      })
      if (fault !== null) {
        one.ele(fault.is, { message: legal(fault.message), type: fault.type }, legal(fault.text))
      }
    }
  }
  return `${root.end({ pretty: true })}\n`
}

function suitesOf(directory: string, results: readonly TitledResult[]): Suite[] {
  const byDocument = Map.groupBy(results, ({ test }) => test)
  return [...byDocument].map(([name, ofDocument]) => ({
    name,
    cases: ofDocument.map(({ title, expectation: { origin, verdict }, passed, found }) => {
      const file = join(directory, origin.file)
      const text = `${file}:${origin.line}:${origin.column}: ${title}, but ${found.reason}`
      const message = `must be ${verdict}, but ${found.reason}`
      const fault = passed ? null : ({ is: 'failure', type: 'verdict', message, text } as const)
      return { name: title, file, line: origin.line, fault }
    }),
  }))
}

/** No document of kind test has the name: with errors, none of them is run. */
function suiteOfErrors(directory: string, errors: readonly Diagnostic[]): Suite {
  const cases = errors.slice(0, MAX_ERRORS).map((error): Case => {
    const { line, column, code, message } = error
    const file = join(directory, error.file)
    const text = formatDiagnostic({ ...error, file })
    return {
      name: `${error.file}:${line}:${column}: ${code}`,
      file,
      line,
      fault: { is: 'error', type: code, message, text },
    }
  })
  const more = errors.length - cases.length
  if (more > 0) {
    const message = `${more} more mistakes are not shown`
    cases.push({
      name: 'more',
      file: directory,
      line: 1,
      fault: { is: 'error', type: 'more', message, text: message },
    })
  }
  return { name: 'diagnostics', cases }
}

function countsOf(cases: readonly Case[]) {
  const count = (is: 'failure' | 'error') => cases.filter(({ fault }) => fault?.is === is).length
  return { tests: cases.length, failures: count('failure'), errors: count('error') }
}

/** GitLab takes cases of the same name for one. */
function unambiguous(cases: readonly Case[]): Case[] {
  const seen = new Map<string, number>()
  return cases.map((one) => {
    const times = (seen.get(one.name) ?? 0) + 1
    seen.set(one.name, times)
    return times === 1 ? one : { ...one, name: `${one.name} (${times})` }
  })
}

/** XML 1.0 §2.2: most control characters and lone surrogates can be written in no way at all, not even escaped. */
function legal(text: string): string {
  return text.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
}
