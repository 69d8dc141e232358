// All that happens in the demo, in order. Steps that stand together are played at the same time.
import {
  acme,
  exchanger,
  type Family,
  families,
  forgotten,
  laptop,
  type Machine,
  printer,
  provider,
  relay,
  tenant,
} from './cast.ts'
import { delivers, submits } from './deliver.ts'
import { BriefExemption } from './expire.ts'
import { isRefused, spams } from './refuse.ts'
import type { Step, Way } from './step.ts'

export function script(): Step[][] {
  const exemption = new BriefExemption()
  return [
    overBoth((family) => delivers(way(relay, exchanger, family), { client: 'relays' })),
    overBoth((family) => submits(way(laptop, provider, family), 587)),
    overBoth((family) => submits(way(laptop, provider, family), 465)),
    overBoth((family) => delivers(way(printer, relay, family), { server: 'relays' })),
    [delivers({ who: acme.name, from: acme.ipv4, to: exchanger.ipv4 })],
    [isRefused({ who: `${acme.name}, elsewhere`, from: acme.ipv4, to: provider.ipv4 })],
    [isRefused(way(forgotten, exchanger, 'ipv4'), 6)],
    overBoth(spams),
    overBoth((family) => isRefused(way(tenant, exchanger, family, 'not exempt yet'))),
    overBoth((family) => exemption.before(delivers(way(tenant, exchanger, family, 'exempt')))),
    overBoth((family) => exemption.cuts(way(tenant, exchanger, family, 'exempt'))),
    overBoth((family) => isRefused(way(tenant, exchanger, family, 'expired'))),
  ]
}

function overBoth(step: (family: Family) => Step): Step[] {
  return families.map(step)
}

function way(machine: Machine, to: Record<Family, string>, family: Family, state = ''): Way {
  const who = state === '' ? machine.name : `${machine.name}, ${state}`
  return { who, from: machine[family], to: to[family] }
}
