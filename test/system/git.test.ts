/** Policies in git with the real service and kernel: whatever kills it, what was acknowledged is in the history once. */
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { run } from '../../scripts/lab/process.ts'
import { gateway, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

interface Page {
  readonly items: readonly { readonly name: string }[]
  readonly next: string | null
}

t.test('killed while exemptions come in', async (t) => {
  const g = await gateway(t)
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  config.policies.history = 'init'
  config.api.loopback_role = 'admin'
  await writeFile(g.config, JSON.stringify(config))
  const policies = config.policies.directory
  const git = async (...args: string[]) =>
    (await run(['git', '-c', `safe.directory=${policies}`, '-C', policies, ...args])).stdout.trim()
  const acknowledged: string[] = []
  let number = 0
  for (let round = 0; round < 4; round++) {
    const service = await g.start()
    let killed = false
    const clients = Array.from({ length: 4 }, async () => {
      while (!killed) {
        const name = `e${++number}`
        const body = { sources: [`100.64.${number >> 8}.${number & 255}`], reason: 'because' }
        const answer = await g
          .ask('PUT', `/v1/exemptions/${name}`, body, { 'egress25-reason': `Nr ${name}` })
          .catch(() => null)
        // A machine under load kills early, and little is acknowledged then.
        if (answer?.status === 201) acknowledged.push(name)
        else if (answer !== null && !killed) t.fail(answer.text)
      }
    })
    await sleep(Math.random() * 6000 + 1500)
    killed = true
    const ended = g.stop(service, 'SIGKILL')
    await Promise.all([ended, ...clients])
  }
  const service = await g.start()
  await until(
    'the queue',
    async () => {
      const { repository } = (await g.get('/v1/status')) as unknown as {
        repository: { waiting: number; failure: string | null }
      }
      return repository.waiting === 0 && repository.failure === null
    },
    60_000,
  )
  const subjects = (await git('log', '--format=%s')).split('\n')
  t.ok(acknowledged.length > 2, `${acknowledged.length} acknowledged of ${number}`)
  for (const name of acknowledged)
    t.equal(subjects.filter((one) => one === `exemption ${name}: added`).length, 1, name)
  t.equal(await git('status', '--porcelain'), '')
  const listed: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const page: Page = (await g.get(
      `/v1/exemptions?limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`,
    )) as unknown as Page
    listed.push(...page.items.map(({ name }) => name))
    cursor = page.next
  }
  t.same(
    acknowledged.filter((name) => !listed.includes(name)),
    [],
  )
  t.comment(`${acknowledged.length} acknowledged, ${subjects.length} commits, ${listed.length} listed`)
  const explained = await g.get(
    `/v1/explain?source=100.64.${Number(acknowledged[0]?.slice(1)) >> 8}.${Number(acknowledged[0]?.slice(1)) & 255}&destination=203.0.113.9`,
  )
  t.match(explained, { verdict: 'allow' })
  t.equal(await g.stop(service), 0)
})
