/** `egress25 manual PAGE`: the manual pages, from the command's own tree and the schemas, so that they say what is. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { ConfigError } from '../config-error.ts'
import { policyJsonSchema } from '../policy/json-schema.ts'
import { ROOT } from '../root.ts'
import { VERSION } from '../version.ts'
import { EXIT, type Exit, print } from './outcome.ts'
import { type Block, type Page, renderPage, type Section } from './roff.ts'

const PAGES: Readonly<Record<string, (program: Command) => Page | Promise<Page>>> = {
  'egress25.1': commandPage,
  'egress25.yaml.5': configurationPage,
  'egress25-policies.5': policyPage,
}

/** @throws ConfigError for a page that there is not */
export async function manual(name: string, program: Command): Promise<Exit> {
  const page = PAGES[name]
  if (page === undefined) throw new ConfigError(`${name} is none of ${Object.keys(PAGES).join(', ')}`)
  print(renderPage(await page(program), VERSION).trimEnd())
  return EXIT.done
}

const SEE_ALSO: Section = {
  title: 'See also',
  body: [{ is: 'text', text: 'egress25(1), egress25.yaml(5), egress25-policies(5), nft(8), tcpdump(8)' }],
}

function commandPage(program: Command): Page {
  return {
    name: 'egress25',
    section: 1,
    description: 'outbound port 25 egress firewall',
    sections: [
      {
        title: 'Synopsis',
        body: [{ is: 'text', text: 'egress25 [--config FILE] COMMAND [OPTIONS] [ARGUMENTS]' }],
      },
      { title: 'Description', body: [{ is: 'text', text: program.description() }] },
      { title: 'Options', body: program.options.map(optionBlock) },
      { title: 'Commands', body: leaves(program, []).flatMap(commandBlocks) },
      {
        title: 'Environment',
        body: [
          { is: 'item', term: 'EGRESS25_URL', text: 'a service elsewhere: https://gw1.example.net:7025' },
          { is: 'item', term: 'EGRESS25_TOKEN_FILE', text: 'the file with the token to show it' },
          {
            is: 'item',
            term: 'EGRESS25_CA_FILE',
            text: "authorities to trust, in PEM, in place of the system's",
          },
          { is: 'item', term: 'NO_COLOR', text: 'no colours on a terminal' },
        ],
      },
      {
        title: 'Exit status',
        body: [
          { is: 'item', term: '0', text: 'done' },
          {
            is: 'item',
            term: '1',
            text: 'the answer is no: mistakes in policies, failed tests, out of sync',
          },
          { is: 'item', term: '2', text: 'wrong usage or configuration' },
          { is: 'item', term: '3', text: 'the kernel refused' },
          { is: 'item', term: '4', text: 'the service cannot be reached' },
        ],
      },
      {
        title: 'Files',
        body: [
          { is: 'item', term: '/etc/egress25/egress25.yaml', text: 'the configuration of the gateway' },
          { is: 'item', term: '/etc/egress25/policies', text: 'the policy documents' },
          { is: 'item', term: '/var/lib/egress25/ruleset.nft', text: 'the rules for the next boot' },
        ],
      },
      SEE_ALSO,
    ],
  }
}

interface Leaf {
  readonly path: string
  readonly command: Command
}

/** Commands that do something, those inside others included. */
function leaves(command: Command, path: readonly string[]): Leaf[] {
  return command.commands.flatMap((one) => {
    const here = [...path, one.name()]
    const own = one.registeredArguments.length > 0 || one.commands.length === 0 || one.options.length > 0
    return [...(own ? [{ path: here.join(' '), command: one }] : []), ...leaves(one, here)]
  })
}

function commandBlocks({ path, command }: Leaf): Block[] {
  // As `--help` has it, in the letters of manual pages.
  const words = command
    .usage()
    .replace(/\[(options|command)\] ?/g, '')
    .replace(/<([^>]+)>|\[([^\]]+)\]/g, (_, must: string, may: string) =>
      must === undefined ? `[${may.toUpperCase()}]` : must.toUpperCase(),
    )
    .trim()
  return [
    { is: 'item', term: `${path} ${words}`.trimEnd(), text: command.description() },
    ...command.options.map((option) => ({ ...optionBlock(option), depth: 1 })),
  ]
}

function optionBlock({
  flags,
  description,
  defaultValue,
}: Command['options'][number]): Block & { is: 'item' } {
  const standard = defaultValue === undefined ? '' : ` (default: ${defaultValue})`
  return { is: 'item', term: flags, text: `${description}${standard}` }
}

/** The example that is installed explains itself. */
async function configurationPage(): Promise<Page> {
  const example = await readFile(join(ROOT, 'systemd/egress25.yaml'), 'utf8')
  return {
    name: 'egress25.yaml',
    section: 5,
    description: 'configuration of a gateway that runs egress25',
    sections: [
      {
        title: 'Description',
        body: [
          {
            is: 'text',
            text: 'One file for each machine, /etc/egress25/egress25.yaml, and never in the repository of the policies. Every setting has a default; unknown ones are refused. Secrets are in files that settings name.',
          },
        ],
      },
      { title: 'Settings', body: [{ is: 'listing', lines: example.trimEnd().split('\n') }] },
      SEE_ALSO,
    ],
  }
}

interface JsonSchema {
  readonly title?: string
  readonly description?: string
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly allOf?: readonly JsonSchema[]
  readonly then?: JsonSchema
}

function policyPage(): Page {
  const schema = policyJsonSchema() as JsonSchema
  const kinds = (schema.allOf ?? []).flatMap(({ then }) => (then === undefined ? [] : [then]))
  return {
    name: 'egress25-policies',
    section: 5,
    description: 'policy documents of egress25',
    sections: [
      {
        title: 'Description',
        body: [
          {
            is: 'text',
            text: 'A policy directory holds *.yaml files, read recursively. Each YAML document in them has a kind and a name. egress25 check finds mistakes, egress25 test runs the documents of the kind test.',
          },
        ],
      },
      ...kinds.map((kind) => ({
        title: kind.title ?? '',
        body: [{ is: 'text' as const, text: kind.description ?? '' }, ...fieldBlocks(kind, 0)],
      })),
      SEE_ALSO,
    ],
  }
}

function fieldBlocks({ properties = {}, required = [] }: JsonSchema, depth: number): Block[] {
  return Object.entries(properties).flatMap(([name, field]) => {
    const { description = '', items } = field
    const standard = field.default === undefined ? '' : ` Default: ${JSON.stringify(field.default)}.`
    const must = required.includes(name) ? ' Required.' : ''
    const inside = items?.properties === undefined ? field : items
    return [
      { is: 'item', term: name, text: `${description}.${must}${standard}`.replace(/^\./, ''), depth },
      ...fieldBlocks(inside, depth + 1),
    ] satisfies Block[]
  })
}
