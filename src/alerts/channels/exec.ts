/** Runs an operator's program for each message: the JSON of a webhook on its standard input. */
import { Type } from 'typebox'
import { channelType, PermanentError, RetryableError } from '../channel.ts'
import { runConfined } from '../transport/confined-program.ts'

/** sysexits(3), EX_TEMPFAIL. */
const TRY_AGAIN = 75
/** setpriv(1), as a shell, when the program cannot be run, or is not there: that gets mended. */
const NOT_RUN = [126, 127]

export const exec = channelType({
  type: 'exec',
  fields: {
    command: Type.Array(Type.String({ format: 'text', minLength: 1, maxLength: 4_000 }), {
      minItems: 1,
      maxItems: 64,
    }),
  },
  fault({ command }) {
    return command[0]?.startsWith('/') ? null : 'command begins with the absolute path of a program'
  },
  async open({ name, command }) {
    return {
      name,
      type: 'exec',
      async deliver({ body, key }, signal) {
        const { status, signalled, said, late } = await runConfined({
          command,
          input: `${JSON.stringify(body)}\n`,
          environment: { EGRESS25_CHANNEL: name, EGRESS25_KEY: key, EGRESS25_EVENT: body.event },
          signal,
        })
        if (status === 0) return
        const tail = said === '' ? '' : `: ${said}`
        if (late) throw new RetryableError(`the program did not end in time${tail}`)
        if (status === null) throw new RetryableError(`the program was ended by ${signalled}${tail}`)
        const message = `the program ended with status ${status}${tail}`
        throw status === TRY_AGAIN || NOT_RUN.includes(status)
          ? new RetryableError(message)
          : new PermanentError(message)
      },
    }
  },
})
