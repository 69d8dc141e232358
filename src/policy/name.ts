/** What documents are called. */

/** A regular expression of the whole name, without its anchors. */
export const NAME_PATTERN = '[a-z0-9][a-z0-9-]{0,47}'

export const NAME = new RegExp(`^${NAME_PATTERN}$`)
