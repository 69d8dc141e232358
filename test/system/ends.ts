/** Ends that are near, for tests that wait for them, on machines of which nobody knows how busy they are. */

/** Seconds: an idle machine has done in less all that comes before an end. */
const SOONEST = 2

/**
 * Does what must be done before a time, with the time near; where it is over meanwhile, with another one twice as far away,
 * and so on. The end is a whole second, in milliseconds since the epoch.
 * @throws what `work` throws while the end has not come
 */
export async function beforeItsEnd<T>(
  work: (end: number) => Promise<T>,
): Promise<{ readonly end: number; readonly done: T }> {
  for (let seconds = SOONEST; ; seconds *= 2) {
    const end = (Math.ceil(Date.now() / 1_000) + seconds) * 1_000
    const isOver = () => Date.now() >= end
    try {
      const done = await work(end)
      if (!isOver()) return { end, done }
    } catch (error) {
      if (!isOver()) throw error
    }
  }
}

/** Resolves when it is so late, and a little later: a timer of the kernel's may fire a tick after its time. */
export async function untilItEnds(end: number, later = 50): Promise<void> {
  while (Date.now() < end + later)
    await new Promise((resolve) => setTimeout(resolve, end + later - Date.now()))
}
