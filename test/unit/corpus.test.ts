/** The detector over a small labelled corpus: a floor under what docs/detection.md reports. */
import t from 'tap'
import { corpus } from '../../scripts/corpus-parts/generate.ts'
import { judgeCorpus, kindScores, scores } from '../../scripts/corpus-parts/judged.ts'
import { CLASSES } from '../../scripts/corpus-parts/types.ts'

const OPTIONS = { seed: 7, half: 'report', hosts: 6, start: Date.UTC(2026, 8, 7), blocked: true } as const

t.test('precision and recall do not fall', async (t) => {
  const all = scores(judgeCorpus(OPTIONS))
  t.same(
    all.map(({ label, hosts }) => [label, hosts]),
    CLASSES.map((label) => [label, 6]),
  )
  for (const { kind, precision, recall } of kindScores(all)) {
    t.ok(precision >= 0.8, `${kind}: precision ${precision}`)
    t.ok(recall >= 0.8, `${kind}: recall ${recall}`)
  }
  for (const { label, called } of all) {
    if (/client|printer|newsletter/.test(label)) t.equal(called.get('spam-bot') ?? 0, 0, `${label} is no bot`)
  }
})

t.test('the same seed gives the same corpus, in the order of time, and the halves differ', async (t) => {
  const text = (half: 'train' | 'report') =>
    [...corpus({ ...OPTIONS, half, hosts: 1 })].map(({ connections, ...host }) => ({
      ...host,
      connections: [...connections].slice(0, 50),
    }))
  t.same(text('report'), text('report'))
  t.notSame(text('report'), text('train'))
  for (const { label, connections } of text('train')) {
    const times = connections.map(({ time }) => time)
    t.same(
      times,
      [...times].sort((a, b) => a - b),
      label,
    )
  }
})
