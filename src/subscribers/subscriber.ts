/** Who or what is behind an address, and what sources say of it. Pure. */
import type { Prefix } from '../policy/prefix.ts'
import { findUnseen } from '../policy/unseen.ts'

/** What a source knows of somebody; empty: it does not say. */
export interface Identity {
  /** The machine's or the person's name: a host name, or what a list calls them. */
  readonly name: string
  /** What the operator's books call them: a user name, a customer's number. */
  readonly account: string
  /** Whom to write to. */
  readonly contact: string
  /** In the form 02:00:5e:10:00:01. */
  readonly mac: string
  /** Where they are plugged in: an access port, a circuit. */
  readonly port: string
  /** The network access server that keeps their session; when it restarts, its sessions are over. */
  readonly server: string
}

export type IdentityField = keyof Identity
export const IDENTITY_FIELDS = ['name', 'account', 'contact', 'mac', 'port', 'server'] as const
export const NOBODY: Identity = { name: '', account: '', contact: '', mac: '', port: '', server: '' }

/** TCP source ports, both ends included; all of them unless a deterministic NAT shares the address. */
export interface Ports {
  readonly from: number
  readonly to: number
}
export const ALL_PORTS: Ports = { from: 0, to: 65_535 }

/** What one record of a source says. Times are in whole seconds since the epoch. */
export type Observation =
  | {
      readonly what: 'held'
      readonly prefix: Prefix
      readonly ports: Ports
      readonly identity: Identity
      /** null: the source does not say; it is known to be so since it was first read. */
      readonly since: number | null
      /** Not part of it; null: no end is known. */
      readonly until: number | null
      /** When the source wrote so: the later word counts. null: when it is read. */
      readonly told: number | null
    }
  /** Nobody has it any more. `at` null: from when this is read on. */
  | { readonly what: 'released'; readonly prefix: Prefix; readonly at: number | null }
  /** All sessions of a network access server ended (RFC 2866 §5.1, Accounting-On and -Off). */
  | { readonly what: 'server-restarted'; readonly server: string; readonly at: number }

/** A record that cannot be used, in a sentence. */
export interface Fault {
  readonly what: 'fault'
  readonly message: string
}

/** Reads one file, line by line, as far as it has been written. Pure: it remembers unfinished records, and that is all. */
export interface LineParser {
  /** Takes the next line, without its end; answers what is whole with it. */
  line(text: string): readonly (Observation | Fault)[]
}

export function fault(message: string): readonly Fault[] {
  return [{ what: 'fault', message }]
}

/** Somebody behind an address at a time, as clients see it. */
export interface Subscriber {
  readonly name: string | null
  readonly account: string | null
  readonly contact: string | null
  readonly mac: string | null
  readonly port: string | null
  /** The name of the source that named them; where several did, the first in the order of the configuration. */
  readonly source: string
  /** RFC 3339: since when they have the address; null: from before the source tells. */
  readonly since: string | null
}

/** Characters of one field; clients choose their host names, and may choose badly. */
const MAX_FIELD = 200

/** Somebody else's words, made fit to be shown: bounded, one line, nothing that is not seen. */
export function cleanText(text: string): string {
  let clean = text.trim().slice(0, MAX_FIELD).toWellFormed()
  for (let found = /[\t\r\n]/.exec(clean) ?? findUnseen(clean); found !== null; ) {
    clean = `${clean.slice(0, found.index)}?${clean.slice(found.index + 1)}`
    found = /[\t\r\n]/.exec(clean) ?? findUnseen(clean)
  }
  return clean
}

/** A hardware address of six bytes in any of the usual spellings, as `02:00:5e:10:00:01`; empty when it is none. */
export function parseMac(text: string): string {
  const hex = text.replace(/[:.-]/g, '').toLowerCase()
  return /^[0-9a-f]{12}$/.test(hex) && text.length <= 17 ? (hex.match(/../g) ?? []).join(':') : ''
}

/** The hardware address in a DHCP unique identifier, given as hexadecimal (RFC 8415 §11.2 and §11.4); else empty. */
export function macOfDuid(text: string): string {
  const hex = text.replaceAll(':', '').toLowerCase()
  const [, address = ''] = /^(?:00010001[0-9a-f]{8}|00030001)([0-9a-f]{12})$/.exec(hex) ?? []
  return parseMac(address)
}
