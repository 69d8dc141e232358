/** What Prometheus and Grafana are given, held against a real service and by Prometheus' own tools. */
import { spawn } from 'node:child_process'
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { sendSignal } from '../../scripts/lab/process.ts'
import { type Gateway, gateway, PATIENCE, ROOT, until } from './gateway.ts'

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

interface Dashboard {
  readonly panels: readonly {
    readonly title: string
    readonly targets: readonly { readonly expr: string }[]
  }[]
}

const dashboard = async (): Promise<Dashboard> =>
  JSON.parse(await readFile(join(SHIPPED, 'grafana-dashboard.json'), 'utf8'))

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
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  await writeFile(g.config, JSON.stringify({ ...config, exemptions: { announce: ['3d'] } }))
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
    const { panels } = await dashboard()
    const rules = await readFile(join(SHIPPED, 'egress25.rules.yml'), 'utf8')
    let asked = 0
    for (const { title, targets } of panels) {
      for (const name of targets.flatMap(({ expr }) => namesIn(expr))) {
        t.ok(known.has(name), `${title}: ${name}`)
        asked++
      }
    }
    for (const name of namesIn(rules)) t.ok(known.has(name), name)
    t.ok(asked >= 10)
  })

  t.test('a Prometheus set up as the handbook says finds data for every panel', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'egress25-prometheus-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const page = await readFile(join(ROOT, 'docs/monitoring.md'), 'utf8')
    const example = /```yml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
    t.match(example, 'rule_files: [egress25.rules.yml]')
    await copyFile(join(SHIPPED, 'egress25.rules.yml'), join(folder, 'egress25.rules.yml'))
    await writeFile(
      join(folder, 'prometheus.yml'),
      `global: { scrape_interval: 1s, evaluation_interval: 1s }\n${example}`,
    )
    const base = 'http://127.0.0.1:9090'
    const prometheus = g.lab.spawn(
      g.lab.gateway,
      [
        'prometheus',
        `--config.file=${folder}/prometheus.yml`,
        `--storage.tsdb.path=${folder}/data`,
        `--web.listen-address=${new URL(base).host}`,
      ],
      { stdio: 'ignore' },
    )
    const ended = new Promise((resolve) => prometheus.once('exit', resolve))
    await g.http.untilOk(`${base}/-/ready`, PATIENCE)
    const ask = async (path: string) => {
      const { status, text } = await g.http.ask('GET', `${base}/api/v1/${path}`)
      return [status, JSON.parse(text)] as const
    }

    // A rate needs two of them.
    await until('two looks', async () => {
      const [, { data }] = await ask('query?query=count_over_time(egress25_alerts_total[1m])')
      return data.result[0]?.value[1] >= 2
    })
    const [, { data: gateways }] = await ask('label/instance/values?match[]=egress25_in_sync')
    t.same(gateways, ['127.0.0.1:7025'], 'what the variable of the dashboard offers')
    const { panels } = await dashboard()
    for (const { title, targets } of panels) {
      for (const { expr } of targets) {
        const query = expr
          .replaceAll('$gateway', '(127\\\\.0\\\\.0\\\\.1:7025)')
          .replaceAll('$__rate_interval', '1m')
        const [status, answer] = await ask(`query?query=${encodeURIComponent(query)}`)
        t.equal(status, 200, `${title}: ${answer.error}`)
        t.not(answer.data?.result.length, 0, `${title}: ${query}`)
      }
    }
    const [, { data }] = await ask('rules')
    const rules = data.groups.flatMap(
      (group: { rules: { name: string; health: string; lastError?: string }[] }) => group.rules,
    )
    t.ok(rules.length >= 10)
    for (const { name, health, lastError } of rules) {
      t.equal(health, 'ok', `${name}: ${lastError}`)
    }
    prometheus.kill('SIGTERM')
    await ended
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
