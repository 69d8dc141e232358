// Steps in which mail must arrive.
import { type Mail, sendMail } from '../lab/mail.ts'
import {
  explanationFaults,
  freshSubject,
  type Outcome,
  type Scene,
  type Step,
  verdictWord,
  type Way,
} from './step.ts'

interface Ends {
  /** Where the client is; default among the subscribers. */
  readonly client?: 'subscribers' | 'relays'
  /** Where the server is; default on the internet. */
  readonly server?: 'internet' | 'relays'
}

/** One message on port 25. */
export function delivers(way: Way, ends: Ends = {}): Step {
  return {
    ...way,
    port: 25,
    async play(scene) {
      const explanation = await scene.service.explain(way.from, way.to)
      const outcome = await send(scene, ends, { ...way, port: 25 })
      const faults = [...explanationFaults(explanation, 'allow'), ...outcome.faults]
      return { ...outcome, policy: verdictWord(explanation), faults }
    },
  }
}

/** One message with a password, encrypted, on a port that no policy may touch. */
export function submits(way: Way, port: 465 | 587): Step {
  const security = port === 465 ? 'tls' : 'starttls'
  return {
    ...way,
    port,
    async play(scene) {
      const mail = { ...way, port, security, login: scene.identity } as const
      return { ...(await send(scene, {}, mail)), policy: 'not port 25' }
    },
  }
}

async function send(
  scene: Scene,
  { client = 'subscribers', server = 'internet' }: Ends,
  letter: Omit<Mail, 'namespace' | 'subject'>,
): Promise<Omit<Outcome, 'policy'>> {
  const mail = { ...letter, subject: freshSubject(), namespace: scene.lab[client] }
  const sent = await sendMail(scene.lab, mail)
  const { messages } = await scene[server].received()
  const arrived = messages.find(({ subject }) => subject === mail.subject)
  const faults: string[] = []
  if (!sent.delivered) faults.push(`the client says: ${sent.answer}\n${sent.transcript}`)
  if (!arrived) faults.push('the message did not reach the server')
  else if (arrived.from !== mail.from) faults.push(`the server saw it come from ${arrived.from}`)
  else if (mail.login && !(arrived.encrypted && arrived.user === mail.login.user)) {
    faults.push('the server saw no encryption, or no password')
  }
  const manner = { none: '', starttls: ', STARTTLS, password', tls: ', TLS, password' }[
    mail.security ?? 'none'
  ]
  const happened = sent.delivered ? `delivered${manner}` : sent.answer
  const passed = sent.delivered ? 1 : 0
  return { happened, passed, refused: 1 - passed, faults }
}
