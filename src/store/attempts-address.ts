/** Addresses as bytes in the order of the network, so that the addresses of a prefix stand in one range. */
import { addressBits, format4, format6, type Prefix } from '../policy/prefix.ts'

/** The first address of the prefix: 4 or 16 bytes. */
export function addressBytes(prefix: Prefix): Uint8Array {
  return prefix.family === 4 ? bytes4(prefix.address) : bytes6(prefix.address)
}

/** The first and the last address of a prefix. */
export function prefixRange(prefix: Prefix): { readonly first: Uint8Array; readonly last: Uint8Array } {
  const hosts = addressBits(prefix.family) - prefix.length
  const last =
    prefix.family === 4
      ? bytes4(prefix.address + 2 ** hosts - 1)
      : bytes6(prefix.address | ((1n << BigInt(hosts)) - 1n))
  return { first: addressBytes(prefix), last }
}

/** The canonical text of such bytes. */
export function addressText(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length === 4) return format4(view.getUint32(0))
  return format6((view.getBigUint64(0) << 64n) | view.getBigUint64(8))
}

function bytes4(address: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, address)
  return bytes
}

function bytes6(address: bigint): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, address >> 64n)
  view.setBigUint64(8, address & 0xffff_ffff_ffff_ffffn)
  return bytes
}
