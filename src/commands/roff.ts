/** The few macros of man(7) that our pages need, with text that cannot be taken for one. */

export interface Section {
  readonly title: string
  readonly body: readonly Block[]
}

export type Block =
  | { readonly is: 'text'; readonly text: string }
  | { readonly is: 'heading'; readonly text: string }
  /** A term, and what it means; deeper ones stand further to the right. */
  | { readonly is: 'item'; readonly term: string; readonly text: string; readonly depth?: number }
  /** Lines as they are. */
  | { readonly is: 'listing'; readonly lines: readonly string[] }

export interface Page {
  readonly name: string
  readonly section: 1 | 5
  readonly description: string
  readonly sections: readonly Section[]
}

/** Of the text; the pages are made anew with each release. */
const DATE = '2026-11-26'

export function renderPage({ name, section, description, sections }: Page, version: string): string {
  return [
    `.TH ${name.toUpperCase()} ${section} ${DATE} "egress25 ${version}"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(description)}`,
    ...sections.flatMap(({ title, body }) => [
      `.SH ${escaped(title.toUpperCase())}`,
      ...body.flatMap((block, at) => renderBlock(block, at === 0)),
    ]),
    '',
  ].join('\n')
}

/** The first block of a section needs no macro for a paragraph. */
function renderBlock(block: Block, isFirst: boolean): string[] {
  const begin = isFirst ? [] : ['.PP']
  switch (block.is) {
    case 'text':
      return [...begin, ...paragraph(block.text)]
    case 'heading':
      return [`.SS ${escaped(block.text)}`]
    case 'item': {
      const depth = block.depth ?? 0
      return [
        ...Array<string>(depth).fill('.RS'),
        '.TP',
        `\\fB${escaped(block.term)}\\fR`,
        ...paragraph(block.text),
        ...Array<string>(depth).fill('.RE'),
      ]
    }
    case 'listing':
      return [...begin, '.nf', ...block.lines.map(guarded), '.fi']
  }
}

function paragraph(text: string): string[] {
  return text.split('\n').map((line) => guarded(line.trim()))
}

/** A line that begins with a dot or a quote would be a request. */
function guarded(line: string): string {
  const text = escaped(line)
  return /^[.']/.test(text) ? `\\&${text}` : text
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-')
}
