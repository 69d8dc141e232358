/** From the configured channels to ones that can deliver. */
import { readFile } from 'node:fs/promises'
import { ConfigError } from '../config-error.ts'
import type { ChannelConfig } from './alerts-config.ts'
import type { Channel } from './channel.ts'
import { CHANNEL_TYPES } from './channel-types.ts'

/**
 * Secrets are read once, at start, while the service may still read them.
 * @throws ConfigError when one cannot be read
 */
export function openChannels(channels: readonly ChannelConfig[], gateway: string): Promise<Channel[]> {
  return Promise.all(channels.map((config) => openChannel(config, gateway)))
}

/** @throws ConfigError when it cannot be opened as it is configured */
export async function openChannel({ name, type, fields }: ChannelConfig, gateway: string): Promise<Channel> {
  const found = CHANNEL_TYPES.find((one) => one.type === type)
  if (found === undefined) throw new ConfigError(`there are no channels of the type ${type}`)
  return found.open({ ...fields, name }, { gateway, readSecret: (path) => readSecret(name, path) })
}

async function readSecret(name: string, path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new ConfigError(`cannot read the secret of channel ${name}: ${error.message}`)
  })
  return text.trim()
}
