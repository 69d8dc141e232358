/** The page on the wall, in a real browser: what it shows of real packets, and that it keeps to its own promises. */
import { readFile, writeFile } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import t from 'tap'
import { browser, visit } from './browser.ts'
import { API, type Gateway, gateway, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>&lt;b&gt;'
const inAMonth = `${new Date(Date.now() + 20 * 86_400_000).toISOString().slice(0, 19)}Z`

const headline = (page: Page) => page.getByRole('heading', { level: 1 })
const region = (page: Page, name: RegExp) => page.getByRole('region', { name })
const sees = (page: Page, name: RegExp, text: string | RegExp) =>
  region(page, name).getByText(text).first().waitFor()

/** What the keyboard reaches, in its order. */
async function stops(page: Page): Promise<string[]> {
  await page.evaluate('document.activeElement?.blur()')
  const found: string[] = []
  for (;;) {
    await page.keyboard.press('Tab')
    const stop = await page.evaluate<string | null>(`(() => {
      const at = document.activeElement
      if (at === null || at === document.body) return null
      return at.labels?.[0]?.querySelector('span')?.textContent ?? at.textContent
    })()`)
    if (stop === null || stop === found[0] || found.length > 20) return found
    found.push(stop)
  }
}

async function attempts(g: Gateway, from: string, count: number): Promise<void> {
  const each = Array.from({ length: count }, (_, n) => ({ from, to: `203.0.113.${n + 1}`, port: 25 }))
  await g.client.connectAll(each, 1)
}

// Each has a gateway of its own, and waits a lot.
t.jobs = 2

t.test('the page', async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  const context = await browser(t, g)
  const { page, complaints } = await visit(context, `${API}/?span=1h`)

  t.test('says that all is well', async (t) => {
    await headline(page).getByText('All is well').waitFor()
    await sees(page, /incidents/, 'No machine misbehaves.')
    await sees(page, /^Attempts$/, 'None.')
    t.equal(await page.title(), 'gw-test · egress25')
  })

  t.test('shows real attempts and the incident, as they come', async () => {
    await attempts(g, '100.64.1.2', 60)
    await sees(page, /incidents/, '100.64.1.2')
    await sees(page, /incidents/, 'Spam bot')
    await sees(page, /^Attempts$/, /^60 attempts; most in one minute/)
    await sees(page, /^Most attempts/, '100.64.1.2')
    await headline(page).getByText('The gateway is well, 1 open incident').waitFor()
    await until('bars in the picture', async () => (await barPoints(page)) > 50)
    await page.getByRole('combobox', { name: 'Policy' }).selectOption('residential')
    await page.waitForURL(/policy=residential&span=1h/)
    await sees(page, /^Attempts$/, /^60 attempts/)
  })

  t.test('shows what others did to the rules, and that it was put right', async () => {
    await g.nft('flush', 'table', 'inet', 'egress25')
    await sees(page, /^Latest changes/, 'nft changed our rules')
    await sees(page, /^Latest changes/, 'Our rules are in force again')
    await region(page, /^The gateway is well/)
      .locator('.fact', { hasText: 'Drift' })
      .getByText('1', { exact: true })
      .waitFor()
  })

  t.test('shows the words of others as words', async (t) => {
    const { status } = await g.ask('PUT', '/v1/exemptions/hostile', {
      sources: ['100.64.9.9'],
      expires: inAMonth,
      description: HOSTILE,
      reason: HOSTILE,
    })
    t.equal(status, 201)
    await sees(page, /^Exemptions/, HOSTILE)
    t.equal(await page.locator('img, script:not([src])').count(), 0)
  })

  t.test('can be used with the keyboard alone', async (t) => {
    t.same(await stops(page), ['Policy', '1 hour'])
    await page.getByRole('radio', { name: '1 hour' }).focus()
    await page.keyboard.press('ArrowRight')
    await page.waitForURL(/span=24h/)
    t.equal(await page.getByRole('radio', { name: '24 hours' }).isChecked(), true)
  })

  t.test('fits a phone', async (t) => {
    await page.setViewportSize({ width: 390, height: 844 })
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
  })

  t.test('had no error, and did nothing that its content policy forbids', async (t) => t.same(complaints, []))

  t.test('says loudly that it is out of date, and goes on when the service is back', async (t) => {
    await g.stop(service)
    await page.getByRole('alert').getByText('Out of date').waitFor()
    await page.waitForFunction(`document.title.startsWith('Out of date')`)
    const again = await g.start()
    await page.getByRole('alert').getByText('Out of date').waitFor({ state: 'hidden' })
    await attempts(g, '100.64.1.3', 60)
    await sees(page, /incidents/, '100.64.1.3')
    t.equal(await g.stop(again), 0)
  })
})

t.test('a service that wants a token', async (t) => {
  const g = await gateway(t)
  const text = JSON.parse(await readFile(g.config, 'utf8'))
  await writeFile(g.config, JSON.stringify({ ...text, api: { ...text.api, loopback_role: 'none' } }))
  await g.start()
  const made = await g.egress25('token', 'create', 'wall', '--role', 'viewer', '--json')
  const { token } = JSON.parse(made.stdout) as { token: string }
  const context = await browser(t, g)
  const { page } = await visit(context, API)
  await page.getByLabel('Token').fill('e25_wrong')
  await page.keyboard.press('Enter')
  await page.getByText('the token is none of ours').waitFor()
  await page.getByLabel('Token').fill(token)
  await page.keyboard.press('Enter')
  await headline(page).getByText('All is well').waitFor()
  await page.reload()
  await headline(page).getByText('All is well').waitFor()
  t.notOk((await g.log()).includes(token))
})

/** How many points of the picture have the colour of bars, which the axes have not. */
function barPoints(page: Page): Promise<number> {
  return page.evaluate<number>(`(() => {
    const canvas = document.querySelector('canvas')
    const color = getComputedStyle(document.documentElement).getPropertyValue('--bar').trim()
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    let found = 0
    for (let at = 0; at < data.length; at += 4)
      if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) found++
    return found
  })()`)
}
