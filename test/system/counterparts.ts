/**
 * Programs that alerts are sent to, as they are in the world: Postfix, rsyslog and Alertmanager. Each runs in a mount and
 * process namespace of its own, in the small system that scripts/lib/counterparts unpacks, with its files in a folder of
 * the test, and on ports of 127.0.0.1 that were free: nothing of the machine is touched, and nothing outlives the test.
 */
import { execFileSync } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { mustRun, start, stop } from '../../scripts/lab/process.ts'
import { freePort } from '../unit/support.ts'

const ROOT = execFileSync(new URL('../../scripts/lib/counterparts', import.meta.url).pathname, {
  encoding: 'utf8',
  timeout: 300_000,
}).trim()

/** What the certificates are for, beside 127.0.0.1. */
export const SERVER_NAME = 'relay.example.net'
const MAILBOX_ID = 65_532

/** $1: the system's root, $2: the test's folder, which becomes /mnt; then the program. */
const ENTER = `set -e
root=$1 folder=$2
shift 2
mount --bind "$folder" "$root/mnt"
for place in run tmp var/spool; do mount -t tmpfs -o mode=1777 none "$root/$place"; done
mount --rbind /dev "$root/dev"
mount -t proc none "$root/proc"
# The shell stays as process 1: Postfix forgets that it should die with its parent, but not with its namespace.
chroot "$root" "$@"
exit`

export interface Counterpart {
  /** All that belongs to it; readable for the test. */
  readonly folder: string
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>
  /** Starts it again, with the same files and ports. */
  restart(): Promise<void>
  /** What it has printed so far. */
  printed(): string
}

/** A folder that goes with the test, with a certificate that is its own authority: cert.pem and key.pem. */
export async function makeFolder(test: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'egress25-counterpart-'))
  test.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 9 }))
  // Servers read some of it after they have given up being root.
  await chmod(folder, 0o755)
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  await mustRun([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${SERVER_NAME}`],
    ...['-addext', `subjectAltName=DNS:${SERVER_NAME},IP:127.0.0.1`],
  ])
  return folder
}

/** Waits until the condition gives something; what it throws is not yet. */
export async function eventually<T>(
  what: string,
  condition: () => Promise<T> | T,
  within = 60_000,
): Promise<NonNullable<T>> {
  const end = Date.now() + within
  let last: unknown = null
  while (Date.now() < end) {
    try {
      const found = await condition()
      if (found) return found as NonNullable<T>
      last = found
    } catch (error) {
      last = error
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not within ${within / 1_000} s: ${what} (${last})`)
}

async function run(
  test: Test,
  folder: string,
  program: readonly string[],
  ports: readonly number[],
): Promise<Counterpart> {
  let printed = ''
  const begin = async () => {
    const inside = [
      'unshare',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      ENTER,
      'sh',
      ROOT,
      folder,
    ]
    const child = start([...inside, ...program], { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        printed += chunk
      })
    }
    await eventually(`${program[0]} listens: ${printed}`, async () => {
      if (child.exitCode !== null) throw new Error(`it ended: ${printed}`)
      for (const port of ports) await reach(port)
      return true
    })
    return child
  }
  let child = await begin()
  const kill = async () => {
    await stop(child, 0)
    // Its processes end a little later than the one that holds them together.
    const away = (port: number) =>
      reach(port).then(
        () => false,
        (error) => error.code === 'ECONNREFUSED',
      )
    await eventually(`${program[0]} is gone`, async () => (await Promise.all(ports.map(away))).every(Boolean))
  }
  test.teardown(kill)
  return {
    folder,
    kill,
    restart: async () => {
      child = await begin()
    },
    printed: () => printed,
  }
}

function reach(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}

export interface Relay extends Counterpart {
  readonly ports: { readonly submission: number; readonly submissions: number }
  readonly login: { readonly username: string; readonly password: string }
  /** Where each message is delivered as a file. */
  readonly maildir: string
  /** What it logs. */
  readonly log: string
}

/** Postfix with a submission port (STARTTLS) and one with TLS from the start, both with login by SASL. */
export async function startPostfix(test: Test): Promise<Relay> {
  const folder = await makeFolder(test)
  const ports = { submission: await freePort(), submissions: await freePort() }
  const login = { username: `alerts@${SERVER_NAME}`, password: 'open sesame' }
  await mkdir(join(folder, 'postfix/sasl'), { recursive: true })
  await mkdir(join(folder, 'mail'))
  await chown(join(folder, 'mail'), MAILBOX_ID, MAILBOX_ID)
  const files = {
    'postfix/main.cf': `compatibility_level = 3.6
myhostname = ${SERVER_NAME}
mydestination =
inet_protocols = ipv4
maillog_file_prefixes = /mnt
maillog_file = /mnt/maillog
queue_directory = /var/spool/postfix
data_directory = /var/spool/data
smtpd_tls_cert_file = /mnt/cert.pem
smtpd_tls_key_file = /mnt/key.pem
smtpd_tls_auth_only = yes
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
recipient_delimiter = +
disable_dns_lookups = yes
cyrus_sasl_config_path = /mnt/postfix/sasl
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_unlisted_recipient
virtual_mailbox_domains = example.net, example.org
virtual_mailbox_base = /mnt/mail
virtual_mailbox_maps = inline:{ noc@example.org=all/, abuse@example.org=all/, anna@example.net=all/ }
virtual_uid_maps = static:${MAILBOX_ID}
virtual_gid_maps = static:${MAILBOX_ID}
alias_maps =
alias_database =
`,
    'postfix/master.cf': `127.0.0.1:${ports.submission} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes
127.0.0.1:${ports.submissions} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`,
    'postfix/sasl/smtpd.conf':
      'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: /mnt/sasldb2\n',
    'start.sh': `set -e
printf %s '${login.password}' | saslpasswd2 -p -c -f /mnt/sasldb2 -u ${SERVER_NAME} alerts
chown postfix /mnt/sasldb2
cd /var/spool
mkdir -m 755 postfix data
chown postfix data
cd postfix
mkdir pid incoming active deferred bounce defer corrupt flush hold maildrop private public saved trace
chown postfix incoming active deferred bounce defer corrupt flush hold maildrop private public saved trace
exec /usr/lib/postfix/sbin/master -c /mnt/postfix -s
`,
  }
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  const program = ['/bin/sh', '/mnt/start.sh']
  const counterpart = await run(test, folder, program, [ports.submission, ports.submissions])
  return { ...counterpart, ports, login, maildir: join(folder, 'mail/all/new'), log: join(folder, 'maillog') }
}

export interface LogServer extends Counterpart {
  readonly ports: { readonly udp: number; readonly tcp: number; readonly tls: number }
  /** A JSON object a line, as rsyslog has parsed each message. */
  readonly messages: string
}

/** rsyslog, which takes messages over UDP, TCP and TLS, and takes them apart. */
export async function startRsyslog(test: Test): Promise<LogServer> {
  const folder = await makeFolder(test)
  const ports = { udp: await freePort(), tcp: await freePort(), tls: await freePort() }
  const properties = {
    ...{
      facility: 'syslogfacility-text',
      severity: 'syslogseverity-text',
      host: 'hostname',
      app: 'app-name',
    },
    ...{ process: 'procid', id: 'msgid', data: '$!rfc5424-sd', text: 'msg', input: 'inputname' },
  }
  await writeFile(
    join(folder, 'rsyslog.conf'),
    `global(workDirectory="/tmp" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="/mnt/cert.pem"
  defaultNetstreamDriverCertFile="/mnt/cert.pem" defaultNetstreamDriverKeyFile="/mnt/key.pem")
module(load="imudp")
module(load="imtcp")
module(load="mmpstrucdata")
template(name="json" type="list" option.jsonf="on") {
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
${Object.entries(properties)
  .map(([name, property]) => `  property(outname="${name}" name="${property}" format="jsonf")\n`)
  .join('')}}
ruleset(name="keep") {
  action(type="mmpstrucdata")
  action(type="omfile" file="/mnt/messages" template="json")
}
input(type="imudp" address="127.0.0.1" port="${ports.udp}" name="udp" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="${ports.tcp}" name="tcp" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="${ports.tls}" name="tls" ruleset="keep" streamDriver.name="ossl"
  streamDriver.mode="1" streamDriver.authMode="anon")
`,
  )
  const program = ['/usr/sbin/rsyslogd', '-n', '-i', 'NONE', '-f', '/mnt/rsyslog.conf']
  const counterpart = await run(test, folder, program, [ports.tcp, ports.tls])
  return { ...counterpart, ports, messages: join(folder, 'messages') }
}

export interface AlertServer extends Counterpart {
  readonly url: string
}

/** Alertmanager, which groups by kind and tells nobody. */
export async function startAlertmanager(test: Test): Promise<AlertServer> {
  const folder = await makeFolder(test)
  const port = await freePort()
  await writeFile(
    join(folder, 'alertmanager.yml'),
    'route: { receiver: nobody, group_by: [alertname, kind], group_wait: 1s }\nreceivers: [{ name: nobody }]\n',
  )
  const program = [
    ...[
      '/usr/bin/prometheus-alertmanager',
      '--config.file=/mnt/alertmanager.yml',
      '--storage.path=/tmp/data',
    ],
    ...[`--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address='],
  ]
  const counterpart = await run(test, folder, program, [port])
  return { ...counterpart, url: `http://127.0.0.1:${port}` }
}
