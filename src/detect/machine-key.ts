/** What tells machines apart, and the users of one: no address is written so. */
export function machineKey(source: string, uid: number | null): string {
  return uid === null ? source : `${uid}@${source}`
}
