/**
 * An adaptive card for a Teams workflow ("When a Teams webhook request is received"). Text runs know no markup, so that
 * nothing in them becomes a link, whatever a machine calls itself.
 */
import { detailsOf } from './details.ts'
import type { Shape } from './http-request.ts'
import { shorten } from './shorten.ts'

export const teams: Shape = ({ text, body, severity }, { url }) => ({
  url,
  body: {
    type: 'message',
    attachments: [
      {
        contentType: 'application/vnd.microsoft.card.adaptive',
        contentUrl: null,
        content: {
          $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
          type: 'AdaptiveCard',
          version: '1.2',
          // What is read where no card can be shown.
          fallbackText: shorten(text.subject, 500),
          body: [
            paragraph([{ text: text.subject, weight: 'bolder', size: 'medium', color: COLOURS[severity] }]),
            ...text.lines.filter((line) => line !== '').map((line) => paragraph([{ text: line }])),
            ...detailsOf(body).map(({ label, value }) =>
              paragraph([{ text: `${label}: `, weight: 'bolder' }, { text: value }]),
            ),
          ],
        },
      },
    ],
  },
})

const COLOURS = { info: 'accent', warning: 'warning', critical: 'attention' } as const

/** The whole of a card may have 28 KB. */
const LONGEST_RUN = 1_000

interface Run {
  readonly text: string
  readonly weight?: 'bolder'
  readonly size?: 'medium'
  readonly color?: string
}

function paragraph(runs: readonly Run[]): object {
  return {
    type: 'RichTextBlock',
    inlines: runs.map((run) => ({ type: 'TextRun', ...run, text: shorten(run.text, LONGEST_RUN) })),
  }
}
