/** Tells systemd how the service is (sd_notify(3)), through systemd-notify(1): Node has no datagram socket for it. */
import { spawn } from 'node:child_process'

/** `READY=1`, `WATCHDOG=1`, `STOPPING=1`, `STATUS=…`. Does nothing where systemd does not ask for it. */
export function notifySystemd(...assignments: readonly string[]): void {
  if (process.env['NOTIFY_SOCKET'] === undefined) return
  // Its failure is systemd's to notice: the watchdog is there for it.
  spawn('systemd-notify', assignments, { stdio: 'ignore' }).on('error', () => {})
}

/** Milliseconds between signs of life, half of what systemd allows; null when it does not want any. */
export function watchdogInterval(): number | null {
  const microseconds = Number(process.env['WATCHDOG_USEC'])
  return Number.isInteger(microseconds) && microseconds > 0 ? microseconds / 2_000 : null
}
