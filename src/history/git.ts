/**
 * Starts git(1) in one work tree: no shell, a time limit, and nothing of the surroundings but what is said here. No
 * configuration of the machine or a user, no prompts, and no program that the repository names (hooks, file monitors,
 * pagers, external diffs; filters: repository.ts) is run.
 */
import { dirname } from 'node:path'
import {
  ProcessError,
  type ProcessOptions,
  type ProcessResult,
  type ProcessRunner,
} from '../kernel/process.ts'
import { GitError } from './history-error.ts'

/** Milliseconds for what stays on this machine. */
const LOCAL_TIMEOUT = 60_000

/** What a repository's own configuration must not decide. */
const SETTINGS: Readonly<Record<string, string>> = {
  'core.hooksPath': '/dev/null',
  'core.fsmonitor': 'false',
  'core.pager': 'cat',
  'core.quotePath': 'false',
  'core.safecrlf': 'false',
  // What was acknowledged must survive a power cut before its journal is dropped.
  'core.fsync': 'all',
  'credential.helper': '',
  'diff.external': '',
  'fastimport.unpackLimit': '100000',
  'fetch.fsckObjects': 'true',
  'fetch.recurseSubmodules': 'false',
  'gc.auto': '0',
  'gpg.program': 'gpg',
  'gpg.ssh.program': 'ssh-keygen',
  // Whom a certificate is from is for lists of the machine to say.
  'gpg.x509.program': '/bin/false',
  'log.showSignature': 'false',
  'maintenance.auto': 'false',
  'push.followTags': 'false',
  'push.gpgSign': 'false',
  'submodule.recurse': 'false',
}

export interface GitOptions {
  readonly run: ProcessRunner
  readonly directory: string
  /** Beside the settings above. */
  readonly settings?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
}

export interface RunOptions extends Partial<Omit<ProcessOptions, 'env'>> {
  readonly env?: Readonly<Record<string, string>>
  readonly settings?: Readonly<Record<string, string>>
  /** Exit statuses that are an answer, beside 0. */
  readonly answers?: readonly number[]
}

export class Git {
  readonly #options: GitOptions

  constructor(options: GitOptions) {
    this.#options = options
  }

  get directory(): string {
    return this.#options.directory
  }

  /** The same with more settings. */
  with(settings: NonNullable<GitOptions['settings']>): Git {
    return new Git({ ...this.#options, settings: { ...this.#options.settings, ...settings } })
  }

  /** By which it is started, for what is asked of other programs. */
  get runner(): ProcessRunner {
    return this.#options.run
  }

  /** Standard output. @throws GitError with what git said */
  async read(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return (await this.run(args, options)).stdout
  }

  /** @throws GitError on an exit status that is no answer, with what git said */
  async run(args: readonly string[], options: RunOptions = {}): Promise<ProcessResult> {
    const { run, directory } = this.#options
    const { env, settings, answers = [], timeout = LOCAL_TIMEOUT, ...rest } = options
    try {
      const result = await run(['git', '-C', directory, ...args], {
        ...rest,
        timeout,
        env: { ...this.#environment(settings), ...env },
      })
      if (result.code === 0 || answers.includes(result.code)) return result
      throw new GitError(`git ${args[0]}: ${firstLines(result.stderr) || `exit status ${result.code}`}`)
    } catch (error) {
      if (error instanceof ProcessError) throw new GitError(error.message, { cause: error })
      throw error
    }
  }

  #environment(more: GitOptions['settings']): Record<string, string> {
    const { directory, settings, env } = this.#options
    const all = Object.entries({ ...SETTINGS, 'safe.directory': directory, ...settings, ...more })
    return {
      HOME: '/nonexistent',
      GNUPGHOME: '/nonexistent',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_ATTR_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
      GIT_ASKPASS: '/bin/false',
      SSH_ASKPASS: '/bin/false',
      GIT_OPTIONAL_LOCKS: '0',
      GIT_NO_REPLACE_OBJECTS: '1',
      GIT_LITERAL_PATHSPECS: '1',
      // A repository around the policy directory (etckeeper's in /etc) is somebody else's.
      GIT_CEILING_DIRECTORIES: dirname(directory),
      GIT_ALLOW_PROTOCOL: 'none',
      GIT_CONFIG_COUNT: String(all.length),
      ...Object.fromEntries(
        all.flatMap(([key, value], index) => [
          [`GIT_CONFIG_KEY_${index}`, key],
          [`GIT_CONFIG_VALUE_${index}`, value],
        ]),
      ),
      ...env,
    }
  }
}

/** What follows the cause, whatever that was; and what ssh draws around its warnings. */
const EMPTY_WORDS =
  /^(\s*|hint:.*|@.*|Please make sure you have the correct access rights|and the repository exists\.)$/

/** What git complains of, short and on one line. */
function firstLines(text: string): string {
  const [, lock] = /Unable to create '([^'\n]+\.lock)': File exists/.exec(text) ?? []
  if (lock !== undefined)
    return `${lock} is in the way: another git is at work, or one that was killed has left it; remove it when none runs`
  const lines = text.split(/\r?\n/).filter((line) => !EMPTY_WORDS.test(line))
  return lines.slice(-3).join('; ').slice(0, 500)
}
