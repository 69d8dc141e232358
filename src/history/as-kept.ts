/** Changes as git keeps them, where files of the work tree have other line ends than what is committed of them. */
import type { ChangedFile, ChangeRecord } from './change-record.ts'
import type { Repository } from './repository.ts'

/**
 * A file whose text is committed as it stood in the work tree goes on so; one that is committed otherwise (`eol=crlf`) is kept as
 * git would keep it.
 * @param parent what they are committed on top of, in this order
 */
export async function asKept(
  repository: Repository,
  parent: string | null,
  records: readonly ChangeRecord[],
): Promise<readonly ChangeRecord[]> {
  const paths = new Set(records.flatMap(({ files }) => files.filter(isForeign).map(({ path }) => path)))
  if (paths.size === 0) return records
  const committed = await repository.files(parent, [...paths])
  const kept = new Map<string, string>()
  for (const path of paths) {
    const before = firstOf(records, path)
    const id = committed.get(path)?.id
    if (id !== undefined && before !== null && id !== before) kept.set(path, id)
  }
  const made: ChangeRecord[] = []
  for (const record of records) {
    const files: ChangedFile[] = []
    for (const file of record.files) {
      const before = kept.get(file.path)
      if (before === undefined) {
        files.push(file)
        continue
      }
      const text = file.text === null ? null : await keptText(repository, file.path, file.text)
      files.push({ path: file.path, before, text })
      if (text !== null) kept.set(file.path, repository.blobId(text))
    }
    made.push({ ...record, files })
  }
  return made
}

/** Only line ends of Windows make a difference: what is changed here is written as it was read. */
function isForeign({ text, before }: ChangedFile): boolean {
  return before !== null && text?.includes('\r\n') === true
}

function firstOf(records: readonly ChangeRecord[], path: string): string | null {
  for (const { files } of records) for (const file of files) if (file.path === path) return file.before
  return null
}

async function keptText(repository: Repository, path: string, text: string): Promise<string> {
  const id = await repository.idKept(path, text, true)
  return (await repository.contents([id])).get(id)?.toString('utf8') ?? text
}
