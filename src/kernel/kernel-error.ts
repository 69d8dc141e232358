/** The one kind of failure of the kernel layer. */
export type KernelFault = 'nft-missing' | 'nft-unusable' | 'not-permitted' | 'refused' | 'no-answer'

export class KernelError extends Error {
  readonly fault: KernelFault

  constructor(fault: KernelFault, message: string) {
    super(message)
    this.fault = fault
  }
}
