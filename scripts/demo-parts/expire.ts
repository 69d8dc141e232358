// An exemption that is granted while the demo runs and ends a few seconds later, in the middle of a message.
import { setTimeout as pause } from 'node:timers/promises'
import type { MailHost } from '../lab/mail.ts'
import type { Probe } from '../lab/probe.ts'
import { tenant } from './cast.ts'
import { explanationFaults, freshSubject, type Scene, type Step, type Way } from './step.ts'

const name = 'demo-tenant'
const lastsMs = 5_000
/** How much sooner or later than announced the end may come. */
const earlyMs = 250
const lateMs = 1_500

/** The exemption, granted through the API by the first step that needs it. */
export class BriefExemption {
  #expires: Promise<number> | undefined

  /** Grants the exemption before a step. */
  before(step: Step): Step {
    return {
      ...step,
      play: async (scene) => {
        await this.#grant(scene)
        return step.play(scene)
      },
    }
  }

  /** A message on port 25 that is longer than the time that is left. */
  cuts(way: Way): Step {
    return {
      ...way,
      port: 25,
      play: async (scene) => {
        const expires = await this.#grant(scene)
        const explanation = await scene.service.explain(way.from, way.to)
        const faults = explanationFaults(explanation, 'allow')
        const subject = freshSubject()
        const connection = await beginMessage(scene.client, way, subject)
        scene.say(
          `  ${way.who} (${way.from}) begins a long message; its exemption ends at ${clock(expires)} …`,
        )
        const cutAt = await writeUntilCut(scene.client, connection, expires + 2 * lateMs)
        const late = (cutAt ?? Number.POSITIVE_INFINITY) - expires
        if (late > lateMs) faults.push(`the connection was not cut within ${lateMs} ms of the end`)
        if (late < -earlyMs) faults.push(`the connection was cut ${-late} ms before its time`)
        faults.push(...(await laterBytes(scene.internet, way)))
        const { messages } = await scene.internet.received()
        if (messages.some((message) => message.subject === subject))
          faults.push('the message arrived in full')
        await scene.client.release(connection)
        const happened = cutAt === null ? 'never cut' : `cut in mid-message ${clock(cutAt, 2)}`
        const policy = `${explanation.verdict} until ${clock(expires)}`
        return { policy, happened, passed: cutAt === null ? 1 : 0, refused: 0, faults }
      },
    }
  }

  #grant({ service }: Scene): Promise<number> {
    this.#expires ??= (async () => {
      const expires = Math.ceil((Date.now() + lastsMs) / 1_000) * 1_000
      await service.exempt(name, [tenant.ipv4, tenant.ipv6], expires)
      return expires
    })()
    return this.#expires
  }
}

async function beginMessage(client: Probe, { from, to }: Way, subject: string): Promise<number> {
  const connection = await client.hold({ from, to, port: 25 })
  const dialogue = [
    ['', '220'],
    ['EHLO tenant.example.org', '250'],
    ['MAIL FROM:<sender@example.org>', '250'],
    ['RCPT TO:<somebody@example.com>', '250'],
    ['DATA', '354'],
  ] as const
  for (const [line, code] of dialogue) {
    const text = line === '' ? '' : `${line}\r\n`
    const { outcome, reply } = await client.converse(connection, { text, timeoutMs: 2_000 })
    if (!reply.startsWith(code))
      throw new Error(`after "${line}" the server says: ${outcome} ${reply.trim()}`)
  }
  await client.send(connection, { text: `Subject: ${subject}\r\n\r\n`, reply: false, timeoutMs: 10 })
  return connection
}

/** A line every 50 ms. Answers when the connection was cut (milliseconds since the epoch), null if it was not. */
async function writeUntilCut(client: Probe, connection: number, deadline: number): Promise<number | null> {
  while (Date.now() < deadline) {
    const text = 'It is a long letter, and it goes on.\r\n'
    const outcome = await client.send(connection, { text, reply: false, timeoutMs: 50 })
    if (outcome !== 'ok') return Date.now()
  }
  return null
}

/** What was under way at the cut has arrived by now, or never will: nothing may follow it. */
async function laterBytes(host: MailHost, way: Way): Promise<string[]> {
  const bytes = async () =>
    (await host.received()).connections.findLast(({ from }) => from === way.from)?.bytes ?? 0
  const before = await bytes()
  await pause(300)
  const more = (await bytes()) - before
  if (before === 0) return ['the server never saw the connection']
  return more > 0 ? [`${more} bytes reached the server after the cut`] : []
}

/** The time of day, with so many digits after the second. */
function clock(time: number, digits = 0): string {
  const date = new Date(time)
  const fraction = digits === 0 ? '' : `.${String(date.getMilliseconds()).padStart(3, '0').slice(0, digits)}`
  return `${date.toTimeString().slice(0, 8)}${fraction}`
}
