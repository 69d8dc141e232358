/** What alerts need before the service starts: channels that can be opened, and texts without mistakes. */
import type { PreparedAlerts } from './alerts.ts'
import type { AlertingConfig, ChannelConfig } from './alerts-config.ts'
import { openChannels } from './open-channels.ts'
import { loadTexts } from './texts.ts'

/** @throws ConfigError with whatever is wrong, before anything was touched */
export async function prepareAlerts({
  gateway,
  channels: configs,
  alerting,
}: {
  readonly gateway: string
  readonly channels: readonly ChannelConfig[]
  readonly alerting: AlertingConfig
}): Promise<PreparedAlerts> {
  const { textDirectory, zone, contact, escalation, silences } = alerting
  const texts = await loadTexts(
    textDirectory,
    configs.map(({ handling }) => handling.language),
  )
  const channels = await openChannels(configs, gateway)
  return { configs, channels, texts, zone, contact, escalation, silences }
}
