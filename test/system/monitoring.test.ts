/** What Prometheus and Grafana are given, held against a real service and by Prometheus' own tools. */
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { sendSignal } from '../../scripts/lab/process.ts'
import { type Gateway, gateway, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const SHIPPED = join(ROOT, 'docs/monitoring')

/** promtool(1), fed with text. */
function promtool(args: readonly string[], input = ''): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('promtool', args, { cwd: SHIPPED })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += bytes))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
    child.stdin.end(input)
  })
}

/** Names of metrics in a text of Prometheus' exposition format, with those that a histogram stands for. */
function exposed(metrics: string): Set<string> {
  const found = new Set<string>()
  for (const [, name = '', type] of metrics.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    found.add(name)
    if (type === 'histogram') for (const end of ['_bucket', '_sum', '_count']) found.add(name + end)
  }
  return found
}

const namesIn = (query: string) =>
  [...query.matchAll(/\b(egress25_\w+|process_\w+|nodejs_\w+)/g)].map(([, name]) => name ?? '')

async function childrenOf(pid: number): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir('/proc')) {
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    if (Number(/^\d+ \(.*\) \w (\d+)/.exec(stat)?.[1]) === pid) found.push(entry)
  }
  return found
}

const scrape = async (g: Gateway) => (await g.ask('GET', '/metrics')).text

t.test('metrics', async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  t.equal(await g.client.connect({ from: '100.64.1.2', to: '203.0.113.9', port: 25 }), 'reset')
  const metrics = await until('the attempt', async () => {
    const text = await scrape(g)
    return /^egress25_attempts_total\{policy="residential",verdict="block"\} 1$/m.test(text) && text
  })
  const known = exposed(metrics)

  t.test('are as Prometheus likes them', async (t) => {
    const { code, output } = await promtool(['check', 'metrics'], metrics)
    t.equal(code, 0, output)
    t.equal(output, '')
    t.match(metrics, /^egress25_documents\{kind="policy"\} 1$/m)
    t.match(metrics, /^egress25_boot_file_ok 1$/m)
    t.match(metrics, /^egress25_build_info\{version="[\d.]+"\} 1$/m)
    t.match(metrics, /^egress25_last_apply_timestamp_seconds 1\d{9}/m)
  })

  t.test('a scrape starts no process', async (t) => {
    // It, and the shells that start programs for it.
    const pids = [service.pid, ...(await childrenOf(service.pid ?? 0))]
    const trace = spawn('strace', [
      '-f',
      '-qq',
      '-e',
      'trace=execve',
      ...pids.flatMap((pid) => ['-p', `${pid}`]),
    ])
    t.teardown(() => trace.kill())
    let seen = ''
    trace.stderr.on('data', (bytes) => (seen += bytes))
    const started = () =>
      [...seen.matchAll(/execve\("[^"]*\/(\w+)", .* = 0$/gm)].map(([, name]) => name ?? '')
    // The service asks nft for its counters each second by itself: that shows that the trace sees what is started.
    await until('the trace', async () => started().includes('nft'))
    const before = started().length
    const begun = performance.now()
    for (let i = 0; i < 300; i++) await scrape(g)
    const seconds = (performance.now() - begun) / 1_000
    const meanwhile = started().length - before
    t.ok(meanwhile <= 4 * (seconds + 2), `${meanwhile} programs in ${seconds} s of 300 scrapes`)
  })

  t.test('every query that is shipped asks for what there is', async (t) => {
    const dashboard = JSON.parse(await readFile(join(SHIPPED, 'grafana-dashboard.json'), 'utf8')) as {
      panels: { title: string; targets: { expr: string }[] }[]
    }
    const rules = await readFile(join(SHIPPED, 'egress25.rules.yml'), 'utf8')
    // A labelled counter has no series before it has counted.
    known.add('egress25_alerts_total')
    let asked = 0
    for (const { title, targets } of dashboard.panels) {
      for (const name of targets.flatMap(({ expr }) => namesIn(expr))) {
        t.ok(known.has(name), `${title}: ${name}`)
        asked++
      }
    }
    for (const name of namesIn(rules)) t.ok(known.has(name), name)
    t.ok(asked >= 10)
  })

  t.test('readiness', async (t) => {
    t.equal((await g.ask('GET', '/readyz')).status, 200)
    const answer = await until('no', async () => {
      // Again and again: it may be back before it was asked for.
      for (const pid of await childrenOf(service.pid ?? 0)) {
        const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
        if (line.startsWith('tcpdump\0')) sendSignal(Number(pid), 'SIGKILL')
      }
      const { status, text } = await g.ask('GET', '/readyz')
      return status === 503 && text
    })
    t.match(JSON.parse(answer), { ready: false, reasons: ['the event source is dead'] })
    await until('yes', async () => (await g.ask('GET', '/readyz')).status === 200)
  })
})

t.test('alert rules', async (t) => {
  const checked = await promtool(['check', 'rules', 'egress25.rules.yml'])
  t.equal(checked.code, 0, checked.output)
  const tested = await promtool(['test', 'rules', 'egress25.rules-test.yml'])
  t.equal(tested.code, 0, tested.output)
})
