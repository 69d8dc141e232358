/** The section `report:`: whom to ask for names. */
import { isIP } from 'node:net'
import { type Static, Type } from 'typebox'
import { type Fault, quote } from '../policy/formats.ts'

export const ReportSchema = Type.Object(
  { resolver: Type.Optional(Type.String({ format: 'resolver', minLength: 1, maxLength: 60 })) },
  { additionalProperties: false },
)

export interface ReportConfig {
  /** Address of a DNS resolver, `[ADDRESS]:PORT` for another port than 53; null: names are not looked up. */
  readonly resolver: string | null
}

export const REPORT_FORMATS = {
  resolver: (value: string): Fault | null => {
    const [, six, four, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(value) ?? []
    const address = six ?? four ?? value
    const isFine = isIP(address) > 0 && Number(port ?? 53) > 0 && Number(port ?? 53) < 65_536
    return isFine
      ? null
      : {
          code: 'bad-value',
          message: `${quote(value)} is not the address of a resolver: 127.0.0.1, 127.0.0.1:5353 or [::1]:5353`,
        }
  },
}

export function buildReport({ resolver }: Static<typeof ReportSchema>): ReportConfig {
  return { resolver: resolver ?? null }
}
