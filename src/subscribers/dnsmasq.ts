/**
 * The lease file of dnsmasq (--dhcp-leasefile): `expiry MAC address name client-id`, a line for each lease that is, and
 * after a line `duid …` those of DHCPv6: `expiry IAID address name DUID`.
 */
import { parseAddress } from '../policy/prefix.ts'
import { ALL_PORTS, cleanText, fault, type LineParser, macOfDuid, NOBODY, parseMac } from './subscriber.ts'

export function dnsmasqParser(): LineParser {
  return {
    line(text) {
      if (text === '' || text.startsWith('duid ')) return []
      const [expiry = '', hardware = '', address = '', name = '', client = ''] = text.split(' ')
      const prefix = parseAddress(address)
      if (prefix === null || !/^\d{1,10}$/.test(expiry)) {
        return fault('a lease is a line such as "1795658400 02:00:5e:10:00:01 192.0.2.7 name *"')
      }
      const identity = {
        ...NOBODY,
        name: name === '*' ? '' : cleanText(name),
        mac: prefix.family === 4 ? parseMac(hardware) : macOfDuid(client),
      }
      const until = expiry === '0' ? null : Number(expiry)
      return [{ what: 'held', prefix, ports: ALL_PORTS, identity, since: null, until, told: null }]
    },
  }
}
