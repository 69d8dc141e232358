/** From the configured channels to ones that can send. */
import { readFile } from 'node:fs/promises'
import { type Config, ConfigError } from '../config.ts'
import type { Channel } from './dispatcher.ts'
import { postWebhook } from './webhook.ts'

/**
 * Secrets are read once, at start, while the service may still read them.
 * @throws ConfigError when one cannot be read
 */
export async function openChannels({ channels }: Pick<Config, 'channels'>): Promise<Channel[]> {
  return Promise.all(
    channels.map(async ({ name, url, secret_file }) => {
      const secret =
        secret_file === undefined
          ? null
          : (
              await readFile(secret_file, 'utf8').catch((error: Error) => {
                throw new ConfigError(`cannot read the secret of channel ${name}: ${error.message}`)
              })
            ).trim()
      return { name, send: (message) => postWebhook({ url, secret }, message) } satisfies Channel
    }),
  )
}
