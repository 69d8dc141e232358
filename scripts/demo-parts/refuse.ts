// Steps in which nothing may get through, and every client must learn so at once.
import { type MailHost, type Sent, sendMail } from '../lab/mail.ts'
import { exchangers, type Family, infected } from './cast.ts'
import { explanationFaults, freshSubject, type Step, verdictWord, type Way } from './step.ts'

/** Messages to one mail server on port 25, one after the other. */
export function isRefused(way: Way, times = 1): Step {
  return {
    ...way,
    port: 25,
    async play({ lab, service, internet }) {
      const explanation = await service.explain(way.from, way.to)
      const before = await connections(internet, way)
      const tries: Sent[] = []
      for (let n = 0; n < times; n++) {
        const mail = { ...way, port: 25, subject: freshSubject(), namespace: lab.subscribers }
        tries.push(await sendMail(lab, mail))
      }
      const passed = tries.filter((sent) => sent.delivered).length
      const reached = (await connections(internet, way)) - before
      const faults = [...explanationFaults(explanation, 'block'), ...tries.flatMap(faultsOf)]
      if (reached > 0) faults.push(`${reached} connections reached the server`)
      const often = times === 1 ? '' : `${times} times `
      const happened = passed > 0 ? `${passed} of ${times} delivered` : `${often}refused at once`
      return { policy: verdictWord(explanation), happened, passed, refused: times - passed, faults }
    },
  }
}

function faultsOf({ delivered, answer, seconds }: Sent): string[] {
  if (delivered) return ['the message was delivered']
  if (!/refused/i.test(answer)) return [`the client was not refused, but says: ${answer}`]
  return seconds > 1 ? [`the refusal took ${seconds.toFixed(1)} s`] : []
}

/** A machine that tries forty mail exchangers, over IPv6 from several addresses of its network. */
export function spams(family: Family): Step {
  const targets = exchangers(family)
  const ipv6 = [1, 2, 3, 4].map((n) => infected.ipv6.replace(/::.*/, `::${n}`))
  const addresses = family === 'ipv4' ? [infected.ipv4] : ipv6
  const from = (n: number) => addresses[n % addresses.length] ?? ''
  return {
    who: infected.name,
    from: family === 'ipv4' ? infected.ipv4 : infected.ipv6.replace(/::.*/, '::/64'),
    to: `${targets.length} mail servers`,
    port: 25,
    async play({ client, service, internet }) {
      const explanation = await service.explain(from(0), targets[0] ?? '')
      const outcomes = await client.connectAll(targets.map((to, n) => ({ from: from(n), to, port: 25 })))
      const refused = outcomes.filter((outcome) => outcome === 'reset').length
      const { connections } = await internet.received()
      const reached = connections.filter((connection) => addresses.includes(connection.from)).length
      const faults = explanationFaults(explanation, 'block')
      if (refused < targets.length) faults.push(`not all were refused: ${outcomes.join(' ')}`)
      if (reached > 0) faults.push(`${reached} connections reached a server`)
      const happened = `${refused} times refused, ${reached} got through`
      return {
        policy: verdictWord(explanation),
        happened,
        passed: outcomes.length - refused,
        refused,
        faults,
      }
    },
  }
}

async function connections(host: MailHost, way: Way): Promise<number> {
  const { connections } = await host.received()
  return connections.filter(({ from, to, port }) => from === way.from && to === way.to && port === 25).length
}
