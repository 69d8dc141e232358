/** The golden cases, by text and by real packets: what is compiled, what is decided, and what the kernel does. */
import t from 'tap'
import { caseNames, readCase } from '../golden/cases.ts'
import { openField } from '../golden/field.ts'
import { replay } from '../golden/replay.ts'

const NOW = Date.now()

const field = await openField()
t.teardown(() => field.close())

const names = await caseNames()
t.ok(names.length >= 12, `${names.length} golden cases`)

for (const name of names) {
  t.test(name, async (t) => {
    const golden = await readCase(name, NOW)
    for (const { what, found, wanted } of await replay(field, golden, NOW)) t.strictSame(found, wanted, what)
    const later = await readCase(name, NOW + 86_400_000)
    t.equal(later.compiled?.text, golden.compiled?.text, 'it compiles to the same whenever it is compiled')
  })
}
