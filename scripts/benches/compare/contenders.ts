// egress25 and what a user of Debian would take instead: the same job, each by its own means.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openHttp } from '../../lab/http.ts'
import { egress25 } from '../egress25.ts'
import { writeList } from '../fixtures.ts'
import type { Contender } from './contender.ts'
import { firewalld } from './firewalld.ts'
import { unpacked } from './unpacked.ts'

const API = 'http://127.0.0.1:7025'

const ours: Contender = {
  name: 'egress25',
  async open({ lab, folder, prefixes }) {
    const directory = join(folder, 'policies')
    const config = join(folder, 'egress25.yaml')
    writeList(directory, prefixes)
    writeFileSync(
      config,
      `policies: { directory: ${directory} }\nstate: { directory: ${join(folder, 'state')} }\n`,
    )
    return {
      first: (run) => run([egress25, '--config', config, 'apply']),
      async between() {
        lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], { stdio: 'ignore' })
        await openHttp(lab, lab.gateway).untilOk(`${API}/readyz`, 300_000)
      },
      oneMore(run, host) {
        const name = `one-${host.replaceAll('.', '-')}`
        const json = ['-H', 'content-type: application/json', '-d', JSON.stringify({ sources: [host] })]
        return run(['curl', '-sSf', '-X', 'PUT', `${API}/v1/exemptions/${name}`, ...json])
      },
    }
  },
}

const plainNft: Contender = {
  name: 'nft file, interval set',
  async open({ folder, prefixes }) {
    const file = join(folder, 'plain.nft')
    writeFileSync(
      file,
      `table inet plain {
  set exempt {
    type ipv4_addr
    flags interval
    elements = { ${prefixes.join(', ')} }
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    tcp dport 25 ip saddr @exempt accept
    tcp dport 25 reject with tcp reset
  }
}
`,
    )
    return {
      first: (run) => run(['nft', '-f', file]),
      oneMore: (run, host) => run(['nft', 'add', 'element', 'inet', 'plain', 'exempt', `{ ${host} }`]),
    }
  },
}

/** ferm knows no sets: a list of sources is a rule for each, and another source is all of them again. */
const ferm: Contender = {
  name: 'ferm',
  async open({ folder, prefixes }) {
    const program = join(unpacked('ferm'), 'usr/sbin/ferm')
    const file = join(folder, 'ferm.conf')
    const list = join(folder, 'exempt.ferm')
    const write = () => writeFileSync(list, `@def $EXEMPT = (\n${sources.join('\n')}\n);\n`)
    const sources = [...prefixes]
    write()
    writeFileSync(
      file,
      `@include '${list}';
domain ip table filter chain FORWARD proto tcp dport 25 {
  saddr $EXEMPT ACCEPT;
  REJECT reject-with tcp-reset;
}
`,
    )
    return {
      first: (run) => run(['perl', program, file]),
      oneMore(run, host) {
        sources.push(host)
        write()
        return run(['perl', program, file])
      },
    }
  },
}

export const contenders: readonly Contender[] = [ours, plainNft, firewalld, ferm]
