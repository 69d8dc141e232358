/** The page reads what the API answers: the types of both meet here, and nowhere else. Nothing of it runs. */
import type { Static, TSchema } from 'typebox'
import type { IncidentSchema } from '../api/routes/incidents.ts'
import type { MachineSchema } from '../api/routes/sources.ts'
import type { StatusSchema } from '../api/routes/status.ts'
import type { Incident, Machine, Status } from './page/answers.ts'

type Fits<Answer extends TSchema, Read> = Static<Answer> extends Read ? true : never

export const CONTRACT: readonly true[] = [
  true satisfies Fits<typeof StatusSchema, Status>,
  true satisfies Fits<typeof IncidentSchema, Incident>,
  true satisfies Fits<typeof MachineSchema, Machine>,
]
