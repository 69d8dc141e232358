/**
 * A message for Slack's incoming webhooks: blocks of plain text, in which nothing is a link, a mention or markup,
 * whatever a machine calls itself. Sizes are those that Slack takes.
 */
import { detailsOf } from './details.ts'
import type { Shape } from './http-request.ts'
import { shorten } from './shorten.ts'

export const slack: Shape = ({ text, body, severity }, { url }) => {
  const fields = detailsOf(body)
    .slice(0, 10)
    .map(({ label, value }) => plain(`${label}: ${value}`, 2_000))
  return {
    url,
    body: {
      // What notifications show; here Slack looks for its own markup.
      text: escaped(shorten(`${MARKS[severity]} ${text.subject}`, 3_000)),
      unfurl_links: false,
      unfurl_media: false,
      blocks: [
        { type: 'header', text: plain(`${MARKS[severity]} ${text.subject}`, 150) },
        { type: 'section', text: plain(text.lines.join('\n') || text.subject, 3_000) },
        ...(fields.length === 0 ? [] : [{ type: 'section', fields }]),
      ],
    },
  }
}

const MARKS = { info: '🔵', warning: '🟠', critical: '🔴' } as const

function plain(text: string, longest: number): object {
  return { type: 'plain_text', text: shorten(text, longest), emoji: false }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
