/** Where egress25 lies. This file and what `scripts/lib/build.ts` makes of it both lie one folder below that. */
import { dirname } from 'node:path'

/** The folder with `src`, `scripts` and `systemd`; absolute. */
export const ROOT = dirname(import.meta.dirname)
