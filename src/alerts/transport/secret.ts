/** A secret that lives in a file, and may be exchanged while the service runs. */
import type { Means } from '../channel.ts'

/** Gives what the file holds now; what it held before, while it cannot be read. */
export type Secret = () => Promise<string>

/** @throws ConfigError when it cannot be read, or is empty */
export async function openSecret(path: string, { readSecret }: Pick<Means, 'readSecret'>): Promise<Secret> {
  let last = await readSecret(path)
  return async () => {
    // A rename in progress, or a credential that systemd has taken back, is no reason not to deliver.
    last = await readSecret(path).catch(() => last)
    return last
  }
}

/** Null where none is configured. */
export async function openOptionalSecret(
  path: string | undefined,
  means: Pick<Means, 'readSecret'>,
): Promise<Secret | null> {
  return path === undefined ? null : openSecret(path, means)
}

/** Somebody else's words without our secrets, which receivers like to repeat. */
export function redacted(text: string, secrets: readonly string[]): string {
  return secrets.reduce((rest, secret) => (secret === '' ? rest : rest.replaceAll(secret, '…')), text)
}
