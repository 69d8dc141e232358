/** Why the history of the policies cannot be had, or a change of it not be made. */

/** `git` failed, or the repository is none that may be used. */
export class GitError extends Error {}

/** Files of the policy directory say something that nobody has committed; nothing was changed. */
export class EditedByHandError extends Error {
  readonly files: readonly string[]

  constructor(files: readonly string[]) {
    const some = files.slice(0, 5).join(', ') + (files.length > 5 ? `, and ${files.length - 5} more` : '')
    super(
      `${some}: edited by hand and not committed; commit or revert it and repeat this; nothing was changed`,
    )
    this.files = files
  }
}

/** A file cannot be changed through the API as it stands; nothing was changed. */
export class UnchangeableError extends Error {
  readonly files: readonly string[]

  constructor(file: string, why: string) {
    super(`${file} cannot be changed here: ${why}; nothing was changed`)
    this.files = [file]
  }
}

/** Two changes touch the same lines or documents, and nobody but a person can say what is meant. */
export class ConflictError extends Error {
  readonly files: readonly string[]

  constructor(message: string, files: readonly string[]) {
    super(message)
    this.files = files
  }
}

/** The remote's branch no longer has what was pulled from it, or pushed to it; nothing was changed. */
export class RewrittenError extends Error {
  /** @param known the revision that both sides had */
  constructor(branch: string, known: string) {
    super(
      `${branch} was rewritten at the remote: it no longer has revision ${known.slice(0, 12)}, which is here; bring it back there, or reset the work tree to what is there; nothing was changed`,
    )
  }
}

/** There is no history: the policy directory is no git work tree, or it must not be used. */
export class NoHistoryError extends Error {}

/** There is no such revision. */
export class NoRevisionError extends Error {}
