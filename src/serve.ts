/** `egress25 serve`: puts the parts together, and takes them apart again. The rules stay when it stops. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'
import { Dispatcher } from './alerts/dispatcher.ts'
import { openChannels } from './alerts/open-channels.ts'
import { createApp } from './api/app.ts'
import { listen } from './api/listen.ts'
import { createMetrics, type Metrics } from './api/metrics.ts'
import { EXIT, type Exit } from './commands/outcome.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { Controller } from './control/controller.ts'
import { lapseBody, lapseKey } from './control/lapse-body.ts'
import { LapseWatch } from './control/lapse-watch.ts'
import { Monitor } from './control/monitor.ts'
import { monitorLog } from './control/monitor-log.ts'
import { ConfirmationPendingError, HeldError } from './control/pending.ts'
import { PolicyError } from './control/policy-error.ts'
import { PreflightWatch } from './control/preflight-watch.ts'
import type { IncidentEvent } from './detect/incident.ts'
import { incidentBody } from './detect/incident-body.ts'
import { openConntrack } from './kernel/conntrack.ts'
import { Enforcer } from './kernel/enforcer.ts'
import { Generation } from './kernel/generation.ts'
import { machineFiles } from './kernel/machine-files.ts'
import { openNft } from './kernel/nft.ts'
import { Preflight } from './kernel/preflight.ts'
import { runProcess } from './kernel/process.ts'
import { findUserIds } from './kernel/users.ts'
import { notifySystemd, watchdogInterval } from './notify.ts'
import { DirectoryError } from './policy/files.ts'
import { inTransaction, openDatabase } from './store/database.ts'
import { IncidentStore } from './store/incidents.ts'
import { LapseStore } from './store/lapses.ts'
import { Outbox } from './store/outbox.ts'
import { VERSION } from './version.ts'

const PRUNE_INTERVAL = 3_600_000

/**
 * Runs until a signal ends it.
 * @throws ConfigError when it cannot start as configured, KernelError when the kernel will not have the rules
 */
export async function serve(configFile: string | null): Promise<Exit> {
  const config = await readConfig(configFile)
  const channels = await openChannels(config)
  await mkdir(config.stateDirectory, { recursive: true }).catch(unusable(config.stateDirectory))
  const log = pino({ name: 'egress25', base: { gateway: config.gateway } })

  const database = await open(config)
  const incidents = new IncidentStore(database)
  const outbox = new Outbox(database)
  const conntrack = openConntrack({
    run: runProcess,
    now: Date.now,
    onEnded: (connections) => log.info({ connections }, 'redirected connections were ended'),
    onFailed: (reason) => log.error({ reason }, 'redirected connections may go on as before'),
  })
  const generation = new Generation(runProcess, config.stateDirectory)
  const enforcer = new Enforcer(openNft(runProcess), config.stateDirectory, { conntrack, generation })
  const controller = new Controller({
    directory: config.policyDirectory,
    compile: config.compile,
    enforcer,
    staysOn: true,
    trial: {
      stateDirectory: config.stateDirectory,
      onTakenBack: ({ id, digest }, by) =>
        log.error(
          { id, digest, by },
          'an unconfirmed change was taken back; the rules from before are in force',
        ),
      onStuck: (pending, error) =>
        log.error(
          { id: pending?.id, reason: error.message },
          'an unconfirmed change cannot be taken back yet',
        ),
    },
    findUserIds: (names) => findUserIds(names, runProcess),
    now: Date.now,
  })
  const dispatcher = new Dispatcher({
    outbox,
    channels,
    onSent: (channel) => metrics.alertSent(channel, 'sent'),
    onFailed: (channel, error, retryIn) => {
      metrics.alertSent(channel, 'failed')
      log.warn(
        { channel, reason: error.message, retry_in_ms: retryIn },
        'alert not delivered, will try again',
      )
    },
  })
  /** All of the work or nothing of it. A full disk costs what could not be written, and not the watch over the rest. */
  const store = (work: () => void) => {
    try {
      inTransaction(database, work)
    } catch (error) {
      log.error(
        { reason: (error as Error).message },
        'the database cannot be written; incidents are in this log only',
      )
    }
  }
  /** The incident and its messages are written together: neither can be there without the other. */
  const onIncident = (event: IncidentEvent) => {
    const body = incidentBody(event.incident)
    log.warn({ event: event.event, incident: body }, `incident ${event.event}: ${body.summary}`)
    const message = JSON.stringify({
      event: event.event,
      gateway: config.gateway,
      time: new Date(event.time).toISOString(),
      incident: body,
    })
    store(() => {
      incidents.save(event.incident)
      for (const { name } of channels)
        outbox.add(name, `${event.incident.id}/${event.event}/${event.time}`, message)
    })
    dispatcher.wake()
  }
  const monitor = new Monitor({
    controller,
    enforcer,
    generation,
    nflogGroup: config.compile.nflogGroup,
    resumed: incidents.list({ state: 'open', limit: 100_000 }),
    onIncident,
    onProgress: (grown) =>
      store(() => {
        for (const incident of grown) incidents.save(incident)
      }),
    log: monitorLog(log),
  })
  const preflight = new PreflightWatch({
    preflight: new Preflight(machineFiles(), runProcess),
    gateway: config.compile,
    inForce: () => controller.inForce,
    onAppeared: (finding) => log.warn(finding, 'preflight warning'),
    onGone: (finding) => log.info(finding, 'preflight warning is gone'),
  })
  const lapses = new LapseWatch({
    inForce: () => controller.inForce,
    store: new LapseStore(database),
    leads: config.announce.map(({ milliseconds }) => milliseconds),
    now: Date.now,
    inTransaction: (work) => {
      inTransaction(database, work)
      dispatcher.wake()
    },
    leaveMessages: (lapse, now) => {
      const message = JSON.stringify(lapseBody(lapse, config.gateway, now))
      for (const { name } of channels) outbox.add(name, lapseKey(lapse), message)
    },
    onAnnounced: ({ exemption: { name, expires, origin, owner, ticket }, lead }) => {
      const exemption = { name, file: origin.file, line: origin.line, owner, ticket }
      log.warn(
        { exemption: { ...exemption, expires: new Date(expires).toISOString() } },
        lead === 0 ? 'an exemption has ended' : 'an exemption ends soon',
      )
    },
    onUnwritable: (error) =>
      log.error(
        { reason: error.message },
        'the database cannot be written; ends of exemptions are in this log only',
      ),
  })
  const metrics: Metrics = createMetrics(monitor, { preflight, lapses, leads: config.announce })
  const { promise: ready, resolve: setReady } = Promise.withResolvers<void>()
  const app = await createApp(
    {
      gateway: config.gateway,
      policyDirectory: config.policyDirectory,
      outsideInterfaces: config.compile.outsideInterfaces,
      version: VERSION,
      started: Date.now(),
      ready,
      controller,
      monitor,
      enforcer,
      incidents,
      outbox,
      preflight,
      metrics,
      onIncident,
    },
    log,
  )
  // The sockets first: a second instance fails here, before it has touched anything.
  const servers = await listen(app, config.listen)
  const stop = async () => {
    notifySystemd('STOPPING=1')
    monitor.stop()
    await generation.stop()
    preflight.stop()
    lapses.stop()
    dispatcher.stop()
    for (const server of servers) server.close()
    await app.close()
    for (const server of servers) server.closeAllConnections()
    database.close()
  }
  try {
    await applyAtStart(controller, enforcer, config, metrics, log)
    await monitor.start()
  } catch (error) {
    await stop()
    throw error
  }
  preflight.start()
  lapses.start()
  dispatcher.wake()
  setReady()
  notifySystemd('READY=1')
  log.info({ listen: config.listen, policies: config.policyDirectory }, 'egress25 is running')

  const alive = watchdogInterval()
  const heartbeat = alive === null ? null : setInterval(() => notifySystemd('WATCHDOG=1'), alive)
  const prune = () => {
    const forgotten = incidents.prune(Date.now() - config.retain)
    if (forgotten > 0) log.info({ forgotten }, 'incidents older than state.retain are forgotten')
    lapses.prune(Date.now() - config.retain)
  }
  prune()
  const pruning = setInterval(prune, PRUNE_INTERVAL)
  process.on('SIGHUP', () => void reapply(controller, metrics, log))
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name))
  })
  log.info({ signal }, 'stopping; the rules stay in force')
  if (heartbeat !== null) clearInterval(heartbeat)
  clearInterval(pruning)
  await stop()
  return EXIT.done
}

async function open({ stateDirectory }: Config) {
  const path = join(stateDirectory, 'egress25.db')
  try {
    return openDatabase(path)
  } catch (error) {
    throw new ConfigError(`cannot open ${path}: ${(error as Error).message}`)
  }
}

function unusable(path: string) {
  return (error: Error) => {
    throw new ConfigError(`cannot use the state directory ${path}: ${error.message}`)
  }
}

/** A mistake in the policies must not keep the gateway from being watched: what was good last stays in force. */
async function applyAtStart(
  controller: Controller,
  enforcer: Enforcer,
  { policyDirectory }: Config,
  metrics: Metrics,
  log: Logger,
): Promise<void> {
  try {
    const { applied, loaded } = await metrics.timeApply(() => controller.applyUnlessHeld())
    for (const diagnostic of loaded.diagnostics) log.warn({ diagnostic }, 'policy warning')
    if (applied.bootFileError !== null) {
      log.error({ reason: applied.bootFileError.message }, 'the rules would not survive a reboot')
    }
    log.info(
      { how: applied.how, digest: applied.digest, elements: applied.elements },
      'policies are in force',
    )
    const { pending, secondsLeft } = controller.trial
    if (pending !== null) {
      log.warn(
        { id: pending.id, seconds_left: secondsLeft },
        'a change from before waits for its confirmation',
      )
    }
  } catch (error) {
    if (!isOfThePolicies(error)) throw error
    logRefusal(log, error)
    const rules = await enforcer.restoreForBoot()
    log.error(
      { policies: policyDirectory, rules },
      'running on the last good rules until the policies are mended',
    )
  }
}

async function reapply(controller: Controller, metrics: Metrics, log: Logger): Promise<void> {
  try {
    const { applied } = await metrics.timeApply(() => controller.applyUnlessHeld())
    log.info({ how: applied.how, digest: applied.digest }, 'policies applied again')
  } catch (error) {
    logRefusal(log, error as Error)
  }
}

/** Faults that leave in force what is, and do not keep the service down. */
function isOfThePolicies(error: unknown): error is Error {
  return [PolicyError, DirectoryError, HeldError, ConfirmationPendingError].some(
    (kind) => error instanceof kind,
  )
}

function logRefusal(log: Logger, error: Error): void {
  if (error instanceof PolicyError) {
    for (const diagnostic of error.diagnostics) log.error({ diagnostic }, 'policy mistake')
    for (const { test, expectation, found } of error.failedTests) {
      log.error({ test, at: expectation.origin, found }, 'policy test failed')
    }
  }
  log.error({ reason: error.message }, 'policies not applied')
}
