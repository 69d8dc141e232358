/** Holds bodies of webhooks against the schema that is published, by a validator that is not ours. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { webhookJsonSchema } from '../../src/api/routes/webhook-body.ts'

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false })
ajv.addFormat(
  'date-time',
  (text) => /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text) && !Number.isNaN(Date.parse(text)),
)
/** In which a field that it does not name is a fault, too. */
const validate = ajv.compile(webhookJsonSchema({ closed: true }))

/** What is wrong with a body; null: it is as the schema says. */
export function bodyFault(body: string): string | null {
  return validate(JSON.parse(body)) ? null : `${ajv.errorsText(validate.errors)} in ${body.slice(0, 500)}`
}
