/** `egress25 completion bash|zsh`: what the shell offers, from the command's own tree of subcommands and options. */
import type { Command } from 'commander'
import { ConfigError } from '../config-error.ts'
import { EXIT, type Exit, print } from './outcome.ts'

const SHELLS = ['bash', 'zsh'] as const

/** @throws ConfigError for another shell */
export function completion(shell: string, program: Command): Exit {
  if (shell === 'bash') print(bash(program))
  else if (shell === 'zsh') print(zsh(program))
  else throw new ConfigError(`${shell} is none of ${SHELLS.join(', ')}`)
  return EXIT.done
}

interface Node {
  /** `incidents show`; empty for the program itself. */
  readonly path: string
  readonly commands: readonly { readonly name: string; readonly description: string }[]
  readonly options: readonly {
    readonly flag: string
    readonly description: string
    readonly takesValue: boolean
  }[]
}

function nodesOf(command: Command, path: readonly string[] = []): Node[] {
  const commands = command.commands.map((one) => ({ name: one.name(), description: one.description() }))
  const options = command.options.flatMap(({ long, description, required, optional }) =>
    long === undefined || long === null
      ? []
      : [{ flag: long, description, takesValue: required || optional }],
  )
  return [
    { path: path.join(' '), commands, options: [...options, HELP] },
    ...command.commands.flatMap((one) => nodesOf(one, [...path, one.name()])),
  ]
}

const HELP = { flag: '--help', description: 'say how it is used', takesValue: false }

function bash(program: Command): string {
  const nodes = nodesOf(program)
  const cases = nodes.map(({ path, commands, options }) => {
    const words = [...commands.map(({ name }) => name), ...options.map(({ flag }) => flag)].join(' ')
    return `    '${path}') words='${words}' ;;`
  })
  return `# Completion of egress25 for bash.
_egress25() {
  local path='' word words='' last=\${COMP_WORDS[COMP_CWORD]} at
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    case "\${path:+$path }$word" in
    ${nodes.flatMap(({ path }) => (path === '' ? [] : [`'${path}'`])).join(' | ')})
      path="\${path:+$path }$word" ;;
    esac
  done
  case $path in
${cases.join('\n')}
  esac
  if [[ $last == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$last"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$last") $(compgen -f -- "$last"))
  fi
}
complete -o filenames -F _egress25 egress25`
}

function zsh(program: Command): string {
  const describe = ({ name, description }: { name: string; description: string }) =>
    quoted(`${name.replaceAll(':', '\\:')}:${description}`)
  const cases = nodesOf(program).map(({ path, commands, options }) => {
    const flags = options.map(({ flag, description }) => describe({ name: flag, description }))
    return `    ${quoted(path)})
      commands=(${commands.map(describe).join(' ')})
      options=(${flags.join(' ')}) ;;`
  })
  const paths = nodesOf(program).flatMap(({ path }) => (path === '' ? [] : [quoted(path)]))
  return `#compdef egress25
# Completion of egress25 for zsh.
_egress25() {
  local path_='' word at
  local -a commands options
  for ((at = 2; at < CURRENT; at++)); do
    word=\${words[at]}
    case "\${path_:+$path_ }$word" in
    (${paths.join('|')}) path_="\${path_:+$path_ }$word" ;;
    esac
  done
  case $path_ in
${cases.map((one) => one.replace(/^ {4}/, '    (')).join('\n')}
  esac
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe -o option options
  elif (( $#commands )); then
    _describe command commands
  else
    _files
  fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _egress25 "$@"; else compdef _egress25 egress25; fi`
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
