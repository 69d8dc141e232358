/** Debian's Chromium on the gateway itself, as somebody there would look at the page. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'
import { type Gateway, PATIENCE } from './gateway.ts'

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export interface Visit {
  readonly page: Page
  /** What the browser complained of: violations of the policy for content, errors of scripts. */
  readonly complaints: string[]
}

/** A browser that is closed after the test, with nothing kept from any other. */
export async function browser(
  test: Test,
  { lab }: Pick<Gateway, 'lab'>,
  options: Parameters<typeof chromium.launchPersistentContext>[1] = {},
): Promise<BrowserContext> {
  const directory = await mkdtemp(join(tmpdir(), 'egress25-browser-'))
  test.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  // Only the gateway's own programs reach its loopback.
  const inside = join(directory, 'chromium')
  await writeFile(inside, `#!/bin/sh\nexec ip netns exec ${lab.gateway} /usr/bin/chromium "$@"\n`)
  await chmod(inside, 0o700)
  const context = await chromium.launchPersistentContext(join(directory, 'profile'), {
    executablePath: inside,
    args: FLAGS,
    headless: true,
    timeout: PATIENCE,
    ...options,
  })
  test.teardown(() => context.close())
  context.setDefaultTimeout(PATIENCE)
  return context
}

export async function visit(context: BrowserContext, url: string): Promise<Visit> {
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  await page.goto(url)
  return { page, complaints }
}
