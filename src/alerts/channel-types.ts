/**
 * Every type of channel. Each loads what it needs when it is opened, and not before: commands that send nothing read this
 * as well.
 */
import type { ChannelType } from './channel.ts'
import { abuseReport } from './channels/abuse-report.ts'
import { alertmanager } from './channels/alertmanager.ts'
import { email } from './channels/email.ts'
import { exec } from './channels/exec.ts'
import { syslog } from './channels/syslog.ts'
import { webhook } from './channels/webhook.ts'

export const CHANNEL_TYPES: readonly ChannelType[] = [webhook, alertmanager, syslog, email, abuseReport, exec]
