// Who plays in the demo, and where they live. Addresses are those set aside for documentation and tests.

/** One machine, with its two addresses. */
export interface Machine {
  readonly name: string
  readonly ipv4: string
  readonly ipv6: string
}

export const relay: Machine = { name: 'mail relay', ipv4: '192.0.2.25', ipv6: '2001:db8::25' }
export const laptop: Machine = { name: 'clean laptop', ipv4: '100.64.1.2', ipv6: '2001:db8:100:1::2' }
export const printer: Machine = { name: 'printer', ipv4: '10.20.3.9', ipv6: '2001:db8:200:3::9' }
export const tenant: Machine = {
  name: 'tenant',
  ipv4: '100.64.25.7',
  ipv6: '2001:db8:100:25::7',
}
export const forgotten: Machine = {
  name: 'forgotten script',
  ipv4: '100.64.30.4',
  ipv6: '2001:db8:100:30::4',
}
export const infected: Machine = { name: 'infected PC', ipv4: '100.64.66.6', ipv6: '2001:db8:100:66::6' }

/** The customer whose exemption is among the example policies: for 203.0.113.0/24, and over IPv4 only. */
export const acme = { name: 'acme', ipv4: '100.64.12.7' }

/** Somebody's mail server on the internet, and a provider's for its customers. */
export const exchanger = { ipv4: '203.0.113.25', ipv6: '2001:db8:ffff::25' }
export const provider = { ipv4: '198.51.100.58', ipv6: '2001:db8:fffe::58' }

export const families = ['ipv4', 'ipv6'] as const
export type Family = (typeof families)[number]

/** Forty mail exchangers in as many networks. */
export function exchangers(family: Family): string[] {
  return Array.from({ length: 40 }, (_, n) =>
    family === 'ipv4' ? `203.0.113.${100 + n}` : `2001:db8:ffff:${(100 + n).toString(16)}::25`,
  )
}

/** What lives behind the gateway's inner interface: what the example policies govern. */
export const subscriberPrefixes = ['100.64.0.0/10', '10.20.0.0/16', '2001:db8:100::/40', '2001:db8:200::/48']
