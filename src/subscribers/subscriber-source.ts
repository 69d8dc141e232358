/** What names the machine behind an address, as it is configured. */

export const SUBSCRIBER_SOURCES = ['kea', 'isc-dhcp', 'dnsmasq', 'csv', 'radius', 'neighbours'] as const

export type SubscriberSource =
  | { readonly name: string; readonly type: 'neighbours' }
  | {
      readonly name: string
      readonly type: 'kea' | 'isc-dhcp' | 'dnsmasq' | 'csv' | 'radius'
      readonly file: string
    }
