/** The section `subscribers:`: what names the machine behind an address. */
import { type Static, Type } from 'typebox'
import type { Problem } from '../policy/diagnostic.ts'
import { SUBSCRIBER_SOURCES, type SubscriberSource } from '../subscribers/subscriber-source.ts'

export const SubscribersSchema = Type.Array(
  Type.Object(
    {
      name: Type.String({ format: 'name', minLength: 1, maxLength: 48 }),
      type: Type.Enum([...SUBSCRIBER_SOURCES]),
      file: Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 })),
    },
    { additionalProperties: false },
  ),
  { maxItems: 32 },
)

type Written = Static<typeof SubscribersSchema>

/** What the schema cannot say. */
export function subscriberProblems(written: Written): Problem[] {
  const names = new Set<string>()
  return written.flatMap(({ name, type, file }, index): Problem[] => {
    const pointer = `/${index}`
    const problems: Problem[] = []
    if (names.has(name)) {
      problems.push({ pointer, code: 'duplicate-name', message: `two sources are called ${name}` })
    }
    names.add(name)
    if (type === 'neighbours') {
      if (file !== undefined) {
        problems.push({
          pointer,
          code: 'unknown-key',
          message: 'the neighbour table is in the kernel, and no file',
        })
      }
    } else if (file === undefined) {
      problems.push({
        pointer,
        code: 'missing-key',
        message: `the key file is missing: a ${type} source reads one`,
      })
    } else if (file.includes('*') && type !== 'radius') {
      problems.push({
        pointer: `${pointer}/file`,
        code: 'bad-path',
        message: 'only a radius source may have a * in its file',
      })
    }
    return problems
  })
}

export function buildSubscribers(written: Written): SubscriberSource[] {
  return written.map(
    ({ name, type, file = '' }): SubscriberSource =>
      type === 'neighbours'
        ? { name, type }
        : { name, type: type as Exclude<SubscriberSource['type'], 'neighbours'>, file },
  )
}
