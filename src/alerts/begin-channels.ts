/** Gives channels what they may use once the service runs. */
import type { DatabaseSync } from 'node:sqlite'
import { ChannelMemory } from '../store/channel-memory.ts'
import type { Channel, Surroundings } from './channel.ts'

export interface BeginOptions {
  readonly database: DatabaseSync
  readonly attempts: Surroundings['attempts']
  readonly onFailed: (channel: string, error: Error) => void
}

export function beginChannels(
  channels: readonly Channel[],
  { database, attempts, onFailed }: BeginOptions,
): void {
  for (const channel of channels) {
    channel.begin?.({
      memory: new ChannelMemory(database, channel.name),
      attempts,
      onFailed: (error) => onFailed(channel.name, error),
    })
  }
}
