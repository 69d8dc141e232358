/** Mails messages to people, through the submission port of a relay. */
import { hostname } from 'node:os'
import { Type } from 'typebox'
import { channelType, PermanentError } from '../channel.ts'
import { openOptionalSecret } from '../transport/secret.ts'
import { SUBMISSION_FIELDS, submissionFault } from '../transport/submission-fields.ts'

export const email = channelType({
  type: 'email',
  fields: {
    ...SUBMISSION_FIELDS,
    to: Type.Array(Type.String({ format: 'mail-address', minLength: 3, maxLength: 254 }), {
      minItems: 1,
      maxItems: 50,
    }),
  },
  fault: submissionFault,
  async open(config, means) {
    const { name, from, to, ca_file, password_file } = config
    const password = await openOptionalSecret(password_file, means)
    const ca = ca_file === undefined ? undefined : await means.readSecret(ca_file)
    // Only who mails loads what mails.
    const { submit } = await import('../transport/submission.ts')
    const { mailOf } = await import('../formats/mail.ts')
    return {
      name,
      type: 'email',
      async deliver(message, signal) {
        const bytes = await mailOf(message, { channel: name, from, to })
        const refused = await submit({ from, to, bytes }, { config, name: hostname(), ca, password }, signal)
        if (refused.length > 0)
          throw new PermanentError(`the relay took it, but not for ${refused.join(', ')}`)
      },
    }
  },
})
