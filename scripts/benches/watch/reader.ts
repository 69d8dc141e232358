// What the service hears attempts with, alone: told of every packet, it prints how many it was told of once a second.
// Runs within a namespace: reader.ts GROUP
import { startEventSource } from '../../../src/watch/event-source.ts'

let told = 0
startEventSource({
  nflogGroup: Number(process.argv[2]),
  onAttempt: () => told++,
  onEnd: (reason) => {
    process.stderr.write(`${reason}\n`)
    process.exit(1)
  },
  onListening: () => process.stdout.write('listening\n'),
})
setInterval(() => process.stdout.write(`${told}\n`), 100)
