/** `egress25 serve`: puts the parts together, and takes them apart again. The rules stay when it stops. */
import { join } from 'node:path'
import { Alerts } from './alerts/alerts.ts'
import { alertsLog } from './alerts/log.ts'
import { networkOf } from './alerts/network-of.ts'
import { prepareAlerts } from './alerts/prepare.ts'
import { recentAttempts } from './alerts/recent-attempts.ts'
import { createMetrics, type Metrics } from './api/metrics/metrics.ts'
import { openApi } from './api/open-api.ts'
import { addRoutes } from './api/route.ts'
import { EXIT, type Exit } from './commands/outcome.ts'
import { type Config, readConfig } from './config/config.ts'
import { readWebhookSecret } from './config/policies.ts'
import { ConfigError } from './config-error.ts'
import { Controller } from './control/controller.ts'
import { EventLog } from './control/event-log.ts'
import { LapseWatch } from './control/exemptions/lapse-watch.ts'
import { openExemptions } from './control/exemptions/open-exemptions.ts'
import { openNames } from './control/names.ts'
import { News } from './control/news.ts'
import { PreflightWatch } from './control/preflight-watch.ts'
import { openReporter } from './control/report.ts'
import { PolicyRepository } from './control/repository/policy-repository.ts'
import { AttemptHistory } from './control/watching/attempt-history.ts'
import { EvidenceWatch } from './control/watching/evidence-watch.ts'
import { identify } from './control/watching/identify-sender.ts'
import { Monitor } from './control/watching/monitor.ts'
import { bundlePage } from './dashboard/bundle.ts'
import { dashboardRoutes } from './dashboard/routes.ts'
import type { IncidentEvent } from './detect/incident.ts'
import { openHistory } from './history/open-history.ts'
import { removeLeftOvers } from './kernel/atomic-file.ts'
import { openConntrack } from './kernel/conntrack.ts'
import { Enforcer } from './kernel/enforcer.ts'
import { Generation } from './kernel/generation.ts'
import { openLocalUsers } from './kernel/local-users.ts'
import { machineFiles } from './kernel/machine-files.ts'
import { openNft } from './kernel/nft.ts'
import { Preflight } from './kernel/preflight.ts'
import { keepReady } from './kernel/ready-process.ts'
import { runByShells } from './kernel/resident-shell.ts'
import { findUserIds } from './kernel/users.ts'
import { notifySystemd } from './notify.ts'
import { applyAtStart, reapply } from './service/apply-policies.ts'
import { openLog } from './service/log.ts'
import { openState } from './service/state.ts'
import { StorageWatch } from './service/storage-watch.ts'
import { startUpkeep } from './service/upkeep.ts'
import { AttemptLog } from './store/attempts.ts'
import { BaselineStore } from './store/baselines.ts'
import { inTransaction } from './store/database.ts'
import { EvidenceStore } from './store/evidence.ts'
import { HistoryJournal } from './store/history-journal.ts'
import { IncidentStore } from './store/incidents.ts'
import { LapseStore } from './store/lapses.ts'
import { openSubscribers } from './subscribers/open-subscribers.ts'
import { VERSION } from './version.ts'
import type { Attempt } from './watch/attempt.ts'

/**
 * Runs until a signal ends it.
 * @throws ConfigError when it cannot start as configured, KernelError when the kernel will not have the rules
 */
export async function serve(configFile: string | null): Promise<Exit> {
  const config = await readConfig(configFile)
  const preparedAlerts = await prepareAlerts(config)
  const { database, relaxed } = await openState(config)
  const { log, output } = openLog(config.gateway)

  const run = runByShells()
  const incidents = new IncidentStore(database)
  const conntrack = openConntrack({
    run,
    now: Date.now,
    onEnded: (connections) => log.info({ connections }, 'redirected connections were ended'),
    onFailed: (reason) => log.error({ reason }, 'redirected connections may go on as before'),
  })
  const journal = new HistoryJournal(database)
  const webhookSecret = await secretOf(config)
  const opened = await openHistory({
    config: config.policies,
    gateway: config.gateway,
    run,
    journal,
    now: Date.now,
    onCommitted: (commits) => {
      for (const { id, record } of commits) news.committed(id, record)
      repository.committed()
    },
    onFailed: (error) => news.historyFailed(error),
  }).catch(unusableHistory)
  const generation = new Generation(run, config.stateDirectory)
  const enforcer = new Enforcer(openNft(keepReady(run)), config.stateDirectory, { conntrack, generation })
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
    findUserIds: (names) => findUserIds(names, run),
    now: Date.now,
    keeper: opened.history ?? undefined,
    onApplied: (inForce, by) => news.applied(inForce, by),
    onMade: (inForce, by, isWhole) => exemptions.made(inForce, by, isWhole),
    onBootFile: (error) => news.bootFile(error),
  })
  const alerts = new Alerts({
    ...preparedAlerts,
    gateway: config.gateway,
    database,
    relaxed,
    incidents,
    networkOf: (source) => networkOf(controller.inForce?.model ?? null, source),
    attempts: (source, limit, uid) => recentAttempts(history.log, source, limit, uid),
    now: Date.now,
    random: Math.random,
    log: alertsLog(log, () => metrics),
  })
  const users = openLocalUsers(run, Date.now)
  const subscribers = openSubscribers({
    sources: config.subscribers,
    retain: config.retainSubscribers,
    run,
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
  // What is to be done about it is written down first: an incident that is kept is one that was acted on.
  const onIncident = (event: IncidentEvent, attempt: Attempt | null = null) => {
    exemptions.incident(event)
    news.incident(event, attempt)
  }
  const monitor = new Monitor({
    controller,
    enforcer,
    generation,
    nflogGroup: config.compile.nflogGroup,
    resumed: incidents.unfinished(),
    baselines,
    users,
    onIncident,
    onProgress: (grown) => news.progress(grown),
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
    inTransaction: (work) => inTransaction(database, work),
    now: Date.now,
    onFailed: ({ message }) =>
      log.error({ reason: message }, 'evidence for the report could not be read or kept'),
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
  const { stateDirectory } = config
  const storage = new StorageWatch({ stateDirectory, log: output, onChanged: () => void preflight.look() })
  const machine = new Preflight(machineFiles(), run)
  const preflight = new PreflightWatch({
    preflight: { look: async (situation) => [...storage.findings, ...(await machine.look(situation))] },
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
    requests: exemptions.requests,
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
      onIncident,
    },
    {
      config: config.api,
      addPage: (app) => addRoutes(app, dashboardRoutes, bundlePage),
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
    storage.stop()
    preflight.stop()
    lapses.stop()
    await api.stop()
    await repository.stop()
    await controller.settled()
    await history.stop()
    news.tick()
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
  storage.start()
  preflight.start()
  evidenceWatch.start()
  lapses.start()
  alerts.start()
  setReady()
  notifySystemd('READY=1')
  log.info({ listen: config.listen, policies: config.policyDirectory }, 'egress25 is running')

  const upkeep = startUpkeep(config, {
    ...{ incidents, lapses, baselines, exemptions, evidence, alerts, events, news, monitor, controller, log },
  })
  process.on('SIGHUP', () => {
    api.reload().catch((error) => log.error({ reason: error.message }, 'certificates not read again'))
    void reapply(controller, metrics, log)
  })
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name))
  })
  log.info({ signal }, 'stopping; the rules stay in force')
  upkeep.stop()
  await stop()
  return EXIT.done
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
