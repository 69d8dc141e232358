/** Whether the nft of this machine will do: asked before it is first relied upon, so that what is wrong is one line. */
import { KernelError } from './kernel-error.ts'
import { ProcessError, type ProcessRunner } from './process.ts'

/** The oldest version that is tested: Debian 12 has it. */
const OLDEST = [1, 0, 6] as const
const TIMEOUT = 5_000

export interface NftFault {
  readonly code: 'nft-missing' | 'nft-too-old' | 'nft-unusable'
  /** One line that says what to do. */
  readonly message: string
}

/** What is wrong with the nft that a command would start; null when nothing is, or when it gave no answer in time. */
export async function findNftFault(run: ProcessRunner): Promise<NftFault | null> {
  try {
    const { code, stdout, stderr } = await run(['nft', '--version'], { timeout: TIMEOUT })
    const version = /^nftables v(\d+)\.(\d+)(?:\.(\d+))?/.exec(stdout)
    if (code !== 0 || version === null) return notNft(code, stdout, stderr)
    const parts = version.slice(1).map((part) => Number(part ?? 0))
    return isBefore(parts, OLDEST) ? tooOld(parts) : null
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error
    switch (error.fault) {
      case 'missing':
        return { code: 'nft-missing', message: `${error.message}: install the package nftables` }
      case 'signal':
        return {
          code: 'nft-unusable',
          message: `${error.message} when it was asked for its version: install the package nftables anew`,
        }
      case 'output':
        return notNft(0, '', '')
      case 'timeout':
        return null
      default:
        return error.fault satisfies never
    }
  }
}

/** @throws KernelError */
export async function requireNft(run: ProcessRunner): Promise<void> {
  const fault = await findNftFault(run)
  if (fault === null) return
  throw new KernelError(fault.code === 'nft-missing' ? 'nft-missing' : 'nft-unusable', fault.message)
}

/** How an nft came to its end, in one line. */
export function endOf({ fault, message }: ProcessError): string {
  // nft 1.0.6 reads the type of a set that nft 1.1.3 has declared by name, in whichever table, and is gone.
  if (fault !== 'signal' || !message.endsWith('SIGSEGV')) return message
  return (
    `${message}: a newer nft may have written a table that this one cannot read; ` +
    'upgrade the package nftables, or remove that table with the newer nft'
  )
}

function tooOld(version: readonly number[]): NftFault {
  return {
    code: 'nft-too-old',
    message: `nft is ${version.join('.')}; ${OLDEST.join('.')} is the oldest that is tested: upgrade the package nftables`,
  }
}

function notNft(status: number, stdout: string, stderr: string): NftFault {
  const said = (stdout.trim() || stderr.trim()).split('\n')[0]?.slice(0, 100) ?? ''
  return {
    code: 'nft-unusable',
    message:
      `nft does not say which version it is (status ${status}, ${said === '' ? 'without a word' : JSON.stringify(said)}): ` +
      'is it that of the package nftables, and the first in PATH?',
  }
}

function isBefore(version: readonly number[], oldest: readonly number[]): boolean {
  const at = oldest.findIndex((part, index) => part !== version[index])
  return at >= 0 && (version[at] ?? 0) < (oldest[at] ?? 0)
}
