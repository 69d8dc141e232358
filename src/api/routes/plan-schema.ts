/** What an apply would change, as it is answered. */
import { Type } from 'typebox'
import { Count, KindSchema, Name, nullable, object, oneOf, Text } from '../schemas.ts'

const Verdict = oneOf(['allow', 'block', 'redirect', 'observe', 'ungoverned'])
const AddedRemoved = object({ added: Count, removed: Count })

export const PlanSchema = object(
  {
    documents: Type.Array(
      object({
        change: oneOf(['added', 'changed', 'removed']),
        kind: KindSchema,
        name: Name,
        file: Text,
        line: Count,
        keys: Type.Array(Text),
        prefixes: nullable(AddedRemoved),
      }),
    ),
    verdicts: Type.Array(
      object({
        from: Verdict,
        to: Verdict,
        destination: nullable(Text),
        sources: Type.Array(Text, { description: 'the first of the prefixes' }),
        prefixes: Count,
        addresses: Type.String({ pattern: '^[0-9]+$', description: 'a number that may be beyond 2^53' }),
      }),
    ),
    destinations_omitted: Count,
    rules: object({
      how: oneOf(['unchanged', 'delta', 'replacement']),
      elements: AddedRemoved,
      chains: object({ added: Type.Array(Text), changed: Type.Array(Text), removed: Type.Array(Text) }),
      rules: AddedRemoved,
    }),
    traffic: nullable(
      Type.Array(
        object({ from: Verdict, to: Verdict, machines: Count, attempts: Count, worst: Type.Array(Text) }),
        { description: 'of the machines that tried port 25 in the last 24 hours' },
      ),
    ),
  },
  { title: 'Plan', description: 'what a change means: documents, verdicts, rules, machines' },
)
