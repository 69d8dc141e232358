// One exemption more, and one less, while a million prefixes are in force; and what the service holds at rest.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openHttp } from '../lab/http.ts'
import { openLab } from '../lab/lab.ts'
import { egress25 } from './egress25.ts'
import { randomPrefixes, writeList } from './fixtures.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, median, ratios, summary } from './rounds.ts'

const ROUNDS = 41
const PREFIXES = 1_000_000
const API = 'http://127.0.0.1:7025'
/** The service gives memory back when nothing has happened for a while. */
const REST_MS = 10_000

export const change: Measurement = {
  name: 'change',
  title: 'One exemption among 1,000,000 prefixes',
  about:
    'An exemption for one host is put through REST, and removed again, while a list of 1,000,000 prefixes of 8 lengths ' +
    'is in force: from the request until it is in the kernel and would survive a power cut. Against one process of nft ' +
    'that adds an element to the same set, or deletes it: then nft waits for the kernel to let go of it.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const directory = join(folder, 'policies')
  const config = join(folder, 'egress25.yaml')
  progress('writing the policies')
  writeList(directory, randomPrefixes(PREFIXES))
  writeFileSync(
    config,
    `policies: { directory: ${directory} }\nstate: { directory: ${join(folder, 'state')} }\n`,
  )
  const lab = await openLab()
  try {
    const http = openHttp(lab, lab.gateway)
    const service = lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], { stdio: 'ignore' })
    await http.untilOk(`${API}/readyz`, 120_000)
    // The same table where no service watches it: there a strange element would be put right at once.
    const { stdout: script } = await lab.exec(lab.relays, [egress25, 'compile', directory])
    const loaded = await lab.exec(lab.relays, ['nft', '-f', '-'], { input: script, timeoutMs: 60_000 })
    if (loaded.code !== 0) throw new Error(loaded.stderr)
    progress(`${ROUNDS} rounds`)
    let count = 0
    const host = () => `100.${64 + (count >> 8)}.${count & 255}.7`
    const request = async (method: string, name: string, body?: unknown) => {
      const started = performance.now()
      const { status, text } = await http.ask(method, `${API}/v1/exemptions/${name}`, { body })
      if (status >= 300) throw new Error(`${method} ${name}: ${status} ${text}`)
      return (performance.now() - started) / 1000
    }
    const there: string[] = []
    const putOne = () => {
      const name = `one-${++count}`
      there.push(name)
      return request('PUT', name, { sources: [host()] })
    }
    const element = new Map<string, number>()
    const nft = async (verb: 'add' | 'delete') => {
      const number = (element.get(verb) ?? 0) + 1
      element.set(verb, number)
      const host = `{ 9.9.${number >> 8}.${number & 255} }`
      const argv = ['nft', verb, 'element', 'inet', 'egress25', 'exempt4-32', host]
      // A round that deletes may come before the one that adds.
      if (verb === 'delete') await lab.exec(lab.relays, argv.with(1, 'add'))
      const started = performance.now()
      const { code, stderr } = await lab.exec(lab.relays, argv)
      if (code !== 0) throw new Error(stderr)
      return (performance.now() - started) / 1000
    }
    const found = await alternate(ROUNDS, {
      put: putOne,
      nftAdd: () => nft('add'),
      async delete() {
        if (there.length === 0) await putOne()
        return request('DELETE', there.shift() ?? '')
      },
      nftDelete: () => nft('delete'),
    })
    await sleep(REST_MS)
    const resident = residentBytes(service.pid)
    const command = 'egress25 --config FILE serve'
    const milliseconds = (values: readonly number[]) => (median(values) * 1000).toFixed(1)
    const against = (
      what: string,
      ours: readonly number[],
      verb: string,
      nft: readonly number[],
    ): Figure => ({
      what,
      command,
      reference: `one nft process that ${verb} the same set`,
      ...summary(ratios(ours, nft)),
      unit: '×',
      detail: `${milliseconds(ours)} ms against ${milliseconds(nft)} ms`,
      goal: 3,
    })
    const put = 'PUT of an exemption, until it is durable and in the kernel'
    return [
      against(put, found.put, 'adds an element to', found.nftAdd),
      against('DELETE of an exemption, the same', found.delete, 'deletes an element from', found.nftDelete),
      {
        what: 'resident memory of the service at rest',
        command,
        reference: null,
        result: resident / 1e6,
        unit: 'MB',
        spread: null,
        detail: '',
        rounds: 1,
        goal: 300,
      },
    ]
  } finally {
    await lab.close()
  }
}

/** Of the service alone: socat and tcpdump are small. */
function residentBytes(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
}
