/**
 * Random cases are the same in each run, so that whoever changes something learns of that and of nothing else; with another
 * SEED in the environment they are others.
 */
import fc from 'fast-check'

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env['SEED'] ?? 25) })
