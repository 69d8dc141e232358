/** Metrics of the policies in git, and of the remote that they come from. */
import type { Gauge, Registry } from 'prom-client'
import type { PolicyRepository } from '../../control/repository/policy-repository.ts'
import { SYNC_STATES } from '../../control/repository/sync.ts'
import { gaugesOf } from './gauges.ts'

/** Those of the remote have a series only where there is one. */
export function createHistoryMetrics(
  registry: Registry,
  repository: Pick<PolicyRepository, 'measured'>,
): void {
  type Measured = PolicyRepository['measured']
  const measured = gaugesOf(registry)
  const gauge = (name: string, help: string, value: (found: Measured) => number) =>
    measured(name, help, [], (one) => one.set(value(repository.measured)))
  gauge('egress25_history_waiting', 'changes in force that are not committed yet', ({ waiting }) => waiting)
  gauge('egress25_history_ok', '0 while changes cannot be committed', ({ failed }) => (failed ? 0 : 1))
  gauge('egress25_policies_edited', '1 while files were edited by hand and are not in force', ({ edited }) =>
    edited === 'in-force' ? 0 : 1,
  )

  const ofRemote = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (gauge: Gauge<L>, remote: NonNullable<Measured['remote']>) => void,
  ) =>
    measured(name, help, labelNames, (gauge) => {
      const { remote } = repository.measured
      if (remote !== null) collect(gauge, remote)
    })
  ofRemote(
    'egress25_pull_state',
    'how this gateway and its remote stand to each other: 1 for one of the states',
    ['state'],
    (states, { state }) => {
      for (const one of SYNC_STATES) states.set({ state: one }, one === state ? 1 : 0)
    },
  )
  ofRemote(
    'egress25_pull_last_success_timestamp_seconds',
    'when this gateway last was in step with its remote; 0: not since its start',
    ['branch'],
    (time, { branch, inStepAt }) => time.set({ branch }, (inStepAt ?? 0) / 1_000),
  )
  ofRemote('egress25_push_waiting', 'commits that the remote does not have', ['branch'], (ahead, remote) =>
    ahead.set({ branch: remote.branch }, remote.ahead),
  )
}
