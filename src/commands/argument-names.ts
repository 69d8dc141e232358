/** What the service calls a parameter, as whoever typed it knows it. */

/** Where the one is not just the other. */
const NAMES: Readonly<Record<string, string>> = {
  channels: '--channel',
  expires_in: '--expires',
  kinds: '--kind',
  name: 'NAME',
  networks: '--network',
  policies: '--policy',
}

/** `--state` for `/querystring/state`, `ID` for `/params/id`, and for a pointer into a body its first part. */
export function argumentAt(pointer: string): string {
  const [, place = '', key = ''] = pointer.split('/')
  if (place === 'params') return key.toUpperCase()
  const name = place === 'querystring' ? key : place
  return NAMES[name] ?? `--${name.replaceAll('_', '-')}`
}
