/** Each kind of rule as nft spells it (nft(8), "STATEMENTS"). */
import { formatAddress } from '../../policy/prefix.ts'
import type { Limit, Rule } from '../ruleset.ts'
import { address, lookup, masked, USER } from './fields.ts'
import { mark, TOTALS_SET } from './names.ts'

/** A SYN without ACK, RST or FIN: the first packet of a connection (RFC 9293 §3.5). */
const FIRST = 'tcp flags & (fin | syn | rst | ack) == syn'

/** Something was said: the sender asks for it to be handed over at once (RFC 9293 §3.9.1.2), which only data need. */
const WITH_DATA = 'tcp flags & (syn | rst | psh) == psh'

/** The end of a connection that had been answered: who got no answer has nothing to close. */
const CLOSING = 'tcp flags & (syn | rst | fin) == fin'

/** Bytes of a logged packet that are kept: both IP headers with options, and all of TCP's. */
const SNAPLEN = 128

export function ruleText(rule: Rule): string {
  switch (rule.rule) {
    case 'port-25':
      return `th dport 25 goto ${rule.chain}`
    case 'tcp-only':
      return 'meta l4proto != tcp accept'
    case 'not-leaving-by':
      return `oifname != { ${rule.interfaces.map((name) => `"${name}"`).join(', ')} } accept`
    case 'not-routed-by':
      return `fib daddr oifname != { ${rule.interfaces.map((name) => `"${name}"`).join(', ')} } accept`
    case 'to-this-machine':
      return 'fib daddr type local accept'
    case 'send-to': {
      const family = rule.to.family === 4 ? 'ipv4' : 'ipv6'
      return `meta nfproto ${family} dnat ${rule.to.family === 4 ? 'ip' : 'ip6'} to ${formatAddress(rule.to)}`
    }
    case 'diverted':
      return `ct status dnat jump ${rule.chain}`
    case 'bound-for':
      return `${address(rule.to.family, 'daddr')} ${formatAddress(rule.to)} goto ${rule.chain}`
    case 'later-fragment':
      return rule.family === 4 ? 'ip frag-off & 0x1fff != 0 accept' : 'frag frag-off != 0 accept'
    case 'loopback':
      return 'oifname "lo" accept'
    case 'goto':
      return `goto ${rule.chain}`
    case 'users':
      return `meta skuid { ${rule.uids.join(', ')} } goto ${rule.chain}`
    case 'any-user':
      return `meta skuid 0-4294967294 goto ${rule.chain}`
    case 'in-set':
      return `${lookup(rule.key)} @${rule.table} goto ${rule.chain}`
    case 'by-map':
      return `${lookup(rule.key)} vmap @${rule.table}`
    case 'until':
      return `meta time >= ${rule.time} return`
    case 'not-first':
      // Not the opposite of FIRST: there are servers to which a SYN with a FIN opens a connection, too.
      return `tcp flags & (syn | ack) != syn goto ${rule.chain}`
    case 'below-rate': {
      const { set, family, rate, chain } = rule
      // The burst is the rate itself: "30/minute" lets 30 pass at once, then one every two seconds.
      const limit = `limit rate ${rate.count}/${rate.per} burst ${rate.count} packets`
      return `update @${set} { ${address(family, 'saddr')} ${limit} } goto ${chain}`
    }
    case 'first':
      return `${FIRST} jump ${rule.chain}`
    case 'count-first':
      return `${FIRST} ${countIn(rule.id)}`
    case 'count':
      return countIn(rule.id)
    case 'count-source':
      return `update @${rule.set} { ${masked(rule.family, 'saddr', rule.length)} counter }`
    case 'count-evidence': {
      const { what, set, family, length, notLeavingBy } = rule
      const names = notLeavingBy.map((name) => `"${name}"`).join(', ')
      const inwards = notLeavingBy.length === 0 ? '' : `oifname != { ${names} } `
      const flags = what === 'closed' ? CLOSING : WITH_DATA
      const who = masked(family, what === 'received' ? 'daddr' : 'saddr', length)
      return `${inwards}${flags} update @${set} { ${who} counter }`
    }
    case 'mute': {
      const { set, family, length, byUser, limit } = rule
      const who = `${masked(family, 'saddr', length)}${byUser ? USER : ''}`
      return `update @${set} { ${who} ${limitText(limit, 'over ')} } return`
    }
    case 'log': {
      const { family, overall, countedAs, prefix, group } = rule
      const below = `meta nfproto ipv${family} ${limitText(overall)}`
      return `${below} ${countIn(countedAs)} log prefix "${prefix}" group ${group} snaplen ${SNAPLEN} queue-threshold 1`
    }
    case 'verdict':
      return rule.verdict === 'reset' ? 'reject with tcp reset' : rule.verdict
    default:
      return rule satisfies never
  }
}

/**
 * Counts on one element of the set of totals. A set is asked for a packet's field, and there is none that says "this
 * rule": so any bits of the mark are cleared and the id put in their place, which is a constant, and always found.
 */
function countIn(id: number): string {
  return `meta mark & 0 ^ ${mark(id)} @${TOTALS_SET}`
}

function limitText({ perSecond, burst }: Limit, over: 'over ' | '' = ''): string {
  return `limit rate ${over}${perSecond}/second burst ${burst} packets`
}
