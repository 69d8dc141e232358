/** `egress25 serve`: puts the parts together, and takes them apart again. The rules stay when it stops. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'
import { Alerts } from './alerts/alerts.ts'
import { alertsLog } from './alerts/log.ts'
import { networkOf } from './alerts/network-of.ts'
import { prepareAlerts } from './alerts/prepare.ts'
import { recentAttempts } from './alerts/recent-attempts.ts'
import { createMetrics, type Metrics } from './api/metrics.ts'
import { openApi } from './api/open-api.ts'
import { EXIT, type Exit } from './commands/outcome.ts'
import { readWebhookSecret } from './config/policies.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { AttemptHistory } from './control/attempt-history.ts'
import { Controller } from './control/controller.ts'
import { EventLog } from './control/event-log.ts'
import { EvidenceWatch } from './control/evidence-watch.ts'
import { identify } from './control/identify-sender.ts'
import { LapseWatch } from './control/lapse-watch.ts'
import { Monitor } from './control/monitor.ts'
import { openNames } from './control/names.ts'
import { News } from './control/news.ts'
import { openExemptions } from './control/open-exemptions.ts'
import { ConfirmationPendingError, HeldError } from './control/pending.ts'
import { PolicyError } from './control/policy-error.ts'
import { PolicyRepository } from './control/policy-repository.ts'
import { PreflightWatch } from './control/preflight-watch.ts'
import { openReporter } from './control/report.ts'
import { openHistory } from './history/open-history.ts'
import { removeLeftOvers } from './kernel/atomic-file.ts'
import { openConntrack } from './kernel/conntrack.ts'
import { Enforcer } from './kernel/enforcer.ts'
import { Generation } from './kernel/generation.ts'
import { openLocalUsers } from './kernel/local-users.ts'
import { keepLock, LockedError } from './kernel/lock.ts'
import { machineFiles } from './kernel/machine-files.ts'
import { openNft } from './kernel/nft.ts'
import { Preflight } from './kernel/preflight.ts'
import { runProcess } from './kernel/process.ts'
import { findUserIds } from './kernel/users.ts'
import { notifySystemd, watchdogInterval } from './notify.ts'
import { DirectoryError } from './policy/files.ts'
import { AttemptLog } from './store/attempts.ts'
import { BaselineStore } from './store/baselines.ts'
import { inTransaction, openDatabase, openRelaxed } from './store/database.ts'
import { EvidenceStore } from './store/evidence.ts'
import { HistoryJournal } from './store/history-journal.ts'
import { IncidentStore } from './store/incidents.ts'
import { LapseStore } from './store/lapses.ts'
import { openSubscribers } from './subscribers/open-subscribers.ts'
import { VERSION } from './version.ts'

const PRUNE_INTERVAL = 3_600_000
/** Milliseconds between attempts to keep for the next boot what could not be kept. */
const KEEP_INTERVAL = 10_000
const DATABASE = 'egress25.db'
const SERVICE_LOCK = 'service.lock'

/**
 * Runs until a signal ends it.
 * @throws ConfigError when it cannot start as configured, KernelError when the kernel will not have the rules
 */
export async function serve(configFile: string | null): Promise<Exit> {
  const config = await readConfig(configFile)
  const preparedAlerts = await prepareAlerts(config)
  await mkdir(config.stateDirectory, { recursive: true }).catch(unusable(config.stateDirectory))
  await keepLock(join(config.stateDirectory, SERVICE_LOCK)).catch(inUse(config.stateDirectory))
  const log = pino({ name: 'egress25', base: { gateway: config.gateway } })

  const database = await open(config)
  const incidents = new IncidentStore(database)
  const relaxed = openRelaxed(join(config.stateDirectory, DATABASE))
  const conntrack = openConntrack({
    run: runProcess,
    now: Date.now,
    onEnded: (connections) => log.info({ connections }, 'redirected connections were ended'),
    onFailed: (reason) => log.error({ reason }, 'redirected connections may go on as before'),
  })
  const journal = new HistoryJournal(database)
  const webhookSecret = await secretOf(config)
  const opened = await openHistory({
    config: config.policies,
    gateway: config.gateway,
    run: runProcess,
    journal,
    now: Date.now,
    onCommitted: (commits) => {
      for (const { id, record } of commits) news.committed(id, record)
      repository.committed()
    },
    onFailed: (error) => news.historyFailed(error),
  }).catch(unusableHistory)
  const generation = new Generation(runProcess, config.stateDirectory)
  const enforcer = new Enforcer(openNft(runProcess), config.stateDirectory, { conntrack, generation })
  const controller = new Controller({
    directory: config.policyDirectory,
    compile: config.compile,
    enforcer,
    staysOn: true,
    trial: {
      stateDirectory: config.stateDirectory,
      onTakenBack: (pending, by) => news.takenBack(pending, by),
      onStuck: (pending, error) => news.stuck(pending, error),
    },
    findUserIds: (names) => findUserIds(names, runProcess),
    now: Date.now,
    keeper: opened.history ?? undefined,
    onApplied: (inForce, by) => {
      news.applied(inForce, by)
      exemptions.applied(inForce, by)
    },
    onBootFile: (error) => news.bootFile(error),
  })
  const alerts = new Alerts({
    ...preparedAlerts,
    gateway: config.gateway,
    database,
    relaxed,
    incidents,
    networkOf: (source) => networkOf(controller.inForce?.model ?? null, source),
    attempts: (source, limit) => recentAttempts(history.log, source, limit),
    now: Date.now,
    random: Math.random,
    log: alertsLog(log, () => metrics),
  })
  const users = openLocalUsers(runProcess, Date.now)
  const subscribers = openSubscribers({
    sources: config.subscribers,
    retain: config.retainSubscribers,
    run: runProcess,
    now: Date.now,
    onFault: (source, fault) => log.warn({ source, fault }, 'a record of a subscriber cannot be used'),
    onFailed: (source, reason) =>
      log.error({ source, reason }, 'subscribers cannot be read; they may be out of date'),
    onRead: (source, entries) => log.info({ source, entries }, 'subscribers were read'),
  })
  const events = new EventLog({ now: Date.now })
  const news = new News({
    gateway: config.gateway,
    log,
    events,
    database,
    incidents,
    users,
    identify: (attempt) => identify(attempt, subscribers, users),
    alerts,
  })
  const history = new AttemptHistory({
    log: new AttemptLog({
      path: join(config.stateDirectory, 'attempts.db'),
      retain: config.retain,
      retainDetail: config.retainDetail,
      onFailed: ({ message }) =>
        log.error({ reason: message }, 'attempts cannot be remembered for a while; they are still counted'),
      onRecovered: (lost) => log.warn({ lost }, 'attempts are remembered again'),
      onSetAside: ({ message }, where) =>
        log.error({ reason: message, where }, 'the memory of attempts was set aside, and begins anew'),
    }),
    controller,
    readSet: (set) => enforcer.countSources(set),
    forget: (set, addresses) => enforcer.forgetSources(set, addresses),
    maxSources: 4 * config.compile.trackedSources,
    now: Date.now,
    onTally: (tallies) => monitor.take(tallies),
    onUnreadable: ({ message }) => log.error({ reason: message }, 'counters of machines could not be read'),
  })
  const baselines = new BaselineStore(database, ({ message }) =>
    log.error({ reason: message }, 'what exempt hosts usually do cannot be kept'),
  )
  const monitor = new Monitor({
    controller,
    enforcer,
    generation,
    nflogGroup: config.compile.nflogGroup,
    resumed: incidents.unfinished(),
    baselines,
    onIncident: (event, attempt) => {
      news.incident(event, attempt)
      exemptions.incident(event)
    },
    onProgress: (grown) =>
      news.store(() => {
        for (const incident of grown) incidents.save(incident)
      }),
    history,
    log: news,
  })
  const exemptions = openExemptions({
    config: config.exemptions,
    database,
    controller,
    openIncidents: () => monitor.detector.open(),
    resumed: incidents.list({ state: 'open', limit: 100_000 }),
    news,
    log,
  })
  const evidence = new EvidenceStore(database)
  const evidenceWatch = new EvidenceWatch({
    controller,
    readSet: (set) => enforcer.countSources(set),
    store: evidence,
    inTransaction: (work) => news.store(work),
    now: Date.now,
    onFailed: ({ message }) => log.error({ reason: message }, 'evidence for the report could not be read'),
  })
  const { resolver } = config.report
  const reporter = openReporter({
    controller,
    log: history.log,
    watch: evidenceWatch,
    evidence,
    incidents,
    subscribers,
    resolver: resolver === null ? null : { server: resolver, lookUp: openNames(resolver) },
    now: Date.now,
  })
  const repository = new PolicyRepository({
    opened,
    config: config.policies,
    controller,
    journal,
    gateway: config.gateway,
    webhookSecret,
    news,
  })
  const preflight = new PreflightWatch({
    preflight: new Preflight(machineFiles(), runProcess),
    gateway: config.compile,
    inForce: () => controller.inForce,
    onAppeared: (finding) => news.preflightAppeared(finding),
    onGone: (finding) => news.preflightGone(finding),
    onLooked: (findings) => news.preflightLooked(findings),
  })
  const lapses = new LapseWatch({
    inForce: () => controller.inForce,
    store: new LapseStore(database),
    leads: config.exemptions.announce.map(({ milliseconds }) => milliseconds),
    now: Date.now,
    inTransaction: (work) => {
      inTransaction(database, work)
      alerts.wake()
    },
    leaveMessages: (lapse, now) => news.leaveLapse(lapse, now),
    onAnnounced: (lapse) => news.lapse(lapse),
    onUnwritable: (error) =>
      log.error(
        { reason: error.message },
        'the database cannot be written; ends of exemptions are in this log only',
      ),
  })
  const metrics: Metrics = createMetrics(monitor, {
    controller,
    preflight,
    lapses,
    leads: config.exemptions.announce,
    alerts,
    repository,
  })
  const { promise: ready, resolve: setReady } = Promise.withResolvers<void>()
  // The sockets first: a second instance fails here, before it has touched anything.
  const api = await openApi(
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
      history,
      retain: config.retain,
      users,
      reporter,
      subscribers,
      alerts,
      preflight,
      metrics,
      events,
      requests: exemptions.requests,
      repository,
      policies: config.policies,
      fourEyes: config.exemptions.fourEyes,
      expiring: config.exemptions.announce[0]?.milliseconds ?? 0,
      onIncident: (event) => news.incident(event),
    },
    {
      config: config.api,
      addresses: config.listen,
      stateDirectory: config.stateDirectory,
      retain: config.retain,
      log,
    },
  )
  const stop = async () => {
    notifySystemd('STOPPING=1')
    monitor.stop()
    await generation.stop()
    await evidenceWatch.stop()
    await subscribers.stop()
    preflight.stop()
    lapses.stop()
    await api.stop()
    await repository.stop()
    await controller.settled()
    await history.stop()
    await alerts.stop()
    relaxed.close()
    database.close()
  }
  for (const folder of [config.policyDirectory, config.stateDirectory]) await removeLeftOvers(folder)
  try {
    void subscribers.start()
    await applyAtStart(controller, enforcer, config, metrics, log)
    await monitor.start()
  } catch (error) {
    await stop()
    throw error
  }
  repository.start()
  preflight.start()
  evidenceWatch.start()
  lapses.start()
  alerts.start()
  setReady()
  notifySystemd('READY=1')
  log.info({ listen: config.listen, policies: config.policyDirectory }, 'egress25 is running')

  const alive = watchdogInterval()
  const heartbeat = alive === null ? null : setInterval(() => notifySystemd('WATCHDOG=1'), alive)
  const prune = () => {
    const forgotten = incidents.prune(Date.now() - config.retain)
    if (forgotten > 0) log.info({ forgotten }, 'incidents older than state.retain are forgotten')
    lapses.prune(Date.now() - config.retain)
    baselines.prune(Date.now() - config.retain)
    exemptions.prune(Date.now() - config.retain)
    evidence.prune(Date.now() - config.retain, Date.now())
    incidents.forgetSubscribers(Date.now() - config.retainSubscribers)
    alerts.prune(Date.now() - config.retain)
  }
  prune()
  const ticking = setInterval(() => {
    events.tick()
    news.tick()
    alerts.tick(() => monitor.detector.open())
  }, 1_000)
  const pruning = setInterval(prune, PRUNE_INTERVAL)
  const keeping = setInterval(() => void controller.keepForBoot(), KEEP_INTERVAL)
  process.on('SIGHUP', () => {
    api.reload().catch((error) => log.error({ reason: error.message }, 'certificates not read again'))
    void reapply(controller, metrics, log)
  })
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name))
  })
  log.info({ signal }, 'stopping; the rules stay in force')
  if (heartbeat !== null) clearInterval(heartbeat)
  clearInterval(pruning)
  clearInterval(keeping)
  clearInterval(ticking)
  await stop()
  return EXIT.done
}

async function open({ stateDirectory }: Config) {
  const path = join(stateDirectory, DATABASE)
  try {
    return openDatabase(path)
  } catch (error) {
    throw new ConfigError(`cannot open ${path}: ${(error as Error).message}`)
  }
}

/** Two would heal each other's rules, and send every alert twice. */
function inUse(path: string) {
  return (error: Error) => {
    if (!(error instanceof LockedError)) throw error
    throw new ConfigError(`${error.holder} runs with the state directory ${path}; give this one another`)
  }
}

function unusableHistory(error: Error): never {
  throw new ConfigError(`cannot use the history of the policies: ${error.message}`)
}

async function secretOf({ policies: { remote } }: Config): Promise<string | null> {
  if (remote === null) return null
  return readWebhookSecret(remote).catch((error: Error) => {
    throw new ConfigError(`cannot read the secret of the webhook: ${error.message}`)
  })
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
    const documents = (await controller.resume()) === null ? 'unknown' : 'known'
    log.error(
      { policies: policyDirectory, rules, documents },
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
