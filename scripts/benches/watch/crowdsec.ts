// CrowdSec, which reads the lines of the kernel's log: with the parser of its hub, a scenario for port 25, and its own API
// on a port of its own namespace.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { unpacked } from '../compare/unpacked.ts'
import { startUlogd } from './ulogd.ts'
import { LIMITS, load, onLines, pidOf, plainRules, until, type Watcher } from './watcher.ts'

const GROUP = 26
const METRICS = 'http://127.0.0.1:6060/metrics'

/** A bucket that runs over at as many attempts as are too many, and within that time leaks as many again. */
const SCENARIO = {
  type: 'leaky',
  name: 'bench/port-25',
  description: 'many attempts to port 25',
  filter: "evt.Meta.log_type == 'iptables_drop' && evt.Meta.service == 'tcp'",
  groupby: 'evt.Meta.source_ip',
  capacity: LIMITS.attempts - 1,
  leakspeed: `${LIMITS.seconds / LIMITS.attempts}s`,
  blackhole: `${LIMITS.seconds}s`,
  labels: { service: 'tcp', type: 'scan', remediation: true },
}

/** From its hub, as Debian ships it. */
const PARSERS = {
  's00-raw': 'syslog-logs.yaml',
  's01-parse': 'iptables-logs.yaml',
  's02-enrich': 'dateparse-enrich.yaml',
}

export const crowdsec: Watcher = {
  name: 'CrowdSec',
  async start(lab, folder) {
    const root = unpacked('crowdsec')
    await load(lab, plainRules(GROUP))
    const { pid: ulogd, file } = await startUlogd(lab, folder, GROUP, 'log')
    const [config, data, hub] = ['crowdsec', 'data', 'hub'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    for (const path of [
      data,
      hub,
      ...['scenarios', 'postoverflows', 'plugins'].map((one) => join(config, one)),
    ]) {
      mkdirSync(path, { recursive: true })
    }
    const shipped = join(root, 'usr/share/crowdsec/hub')
    cpSync(join(shipped, '.index.json'), join(hub, '.index.json'))
    for (const [stage, parser] of Object.entries(PARSERS)) {
      cpSync(join(shipped, 'parsers', stage, 'crowdsecurity', parser), join(config, 'parsers', stage, parser))
    }
    for (const name of ['patterns', 'profiles.yaml', 'simulation.yaml']) {
      cpSync(join(root, 'etc/crowdsec', name), join(config, name), { recursive: true })
    }
    // JSON is YAML.
    const write = (name: string, value: unknown) => writeFileSync(join(config, name), JSON.stringify(value))
    write('scenarios/port-25.yaml', SCENARIO)
    write('acquis.yaml', { filenames: [file], labels: { type: 'syslog' } })
    writeFileSync(join(config, 'credentials.yaml'), '')
    write('config.yaml', settings(folder, config, data, hub))
    const program = (name: string) => [join(root, 'usr/bin', name), '-c', join(config, 'config.yaml')]
    const machine = ['machines', 'add', 'bench', '-a', '-f', join(config, 'credentials.yaml')]
    const added = await lab.exec(lab.gateway, [...program('cscli'), ...machine])
    if (added.code !== 0) throw new Error(`cscli: ${added.stderr}`)
    const child = lab.spawn(lab.gateway, program('crowdsec'), { stdio: ['ignore', 'pipe', 'pipe'] })
    const found = new Map<string, number>()
    onLines(child, (line) => {
      const source = /Ip (\S+) performed /.exec(line)?.[1]
      if (source !== undefined && !found.has(source)) found.set(source, performance.now())
    })
    const metrics = async () => {
      const { code, stdout } = await lab.exec(lab.gateway, ['curl', '-s', METRICS])
      return code === 0 ? stdout : null
    }
    await until('CrowdSec', metrics)
    return {
      processes: { CrowdSec: pidOf(child), ulogd2: ulogd },
      found,
      async told() {
        const poured = /^cs_bucket_poured_total\{[^}]*\} (\S+)$/m.exec((await metrics()) ?? '')?.[1]
        return Number(poured ?? 0)
      },
    }
  },
}

function settings(folder: string, config: string, data: string, hub: string) {
  return {
    common: { daemonize: false, log_media: 'stdout', log_level: 'info', working_dir: folder },
    config_paths: {
      config_dir: config,
      data_dir: data,
      simulation_path: join(config, 'simulation.yaml'),
      hub_dir: hub,
      index_path: join(hub, '.index.json'),
      notification_dir: join(config, 'notifications'),
      plugin_dir: join(config, 'plugins'),
    },
    crowdsec_service: { acquisition_path: join(config, 'acquis.yaml'), parser_routines: 1 },
    db_config: { log_level: 'info', type: 'sqlite', use_wal: true, db_path: join(data, 'crowdsec.db') },
    api: {
      client: { insecure_skip_verify: false, credentials_path: join(config, 'credentials.yaml') },
      server: {
        log_level: 'info',
        listen_uri: '127.0.0.1:8080',
        profiles_path: join(config, 'profiles.yaml'),
      },
    },
    prometheus: { enabled: true, level: 'full', listen_addr: '127.0.0.1', listen_port: 6060 },
  }
}
