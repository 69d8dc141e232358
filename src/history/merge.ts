/** Makes the changes of one revision somewhere else: forwards on top of another revision, or backwards. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ConflictError } from './history-error.ts'
import type { Blob, Repository } from './repository.ts'

/** What a file becomes. */
export interface MergedFile {
  readonly path: string
  readonly mode: string
  readonly content: Buffer | null
}

/**
 * What becomes of files when the way from one revision to another is gone in a third place.
 * @throws ConflictError when lines that it changes are other there
 */
export async function replay(
  repository: Repository,
  from: string | null,
  to: string,
  onto: ReadonlyMap<string, Blob>,
): Promise<MergedFile[]> {
  const merged: MergedFile[] = []
  const conflicts: string[] = []
  for (const { path, before, after } of await repository.differences(from, to)) {
    const there = onto.get(path) ?? null
    // It says so already.
    if (there?.id === after?.id) continue
    if (there?.id === before?.id) {
      const content = after === null ? null : await contentOf(repository, after)
      merged.push({ path, mode: (after ?? before)?.mode ?? '100644', content })
    } else if (there === null || before === null || after === null) conflicts.push(path)
    else {
      const content = await mergeLines(repository, there, before, after)
      if (content === null) conflicts.push(path)
      else if (repository.blobId(content) !== there.id) merged.push({ path, mode: there.mode, content })
    }
  }
  if (conflicts.length > 0) {
    const [first] = conflicts
    throw new ConflictError(`${first}: the same lines were changed since; nothing was changed`, conflicts)
  }
  return merged
}

async function contentOf(repository: Repository, { id }: Blob): Promise<Buffer> {
  return (await repository.contents([id])).get(id) ?? Buffer.alloc(0)
}

/** null: the same lines differ. */
async function mergeLines(
  repository: Repository,
  ours: Blob,
  base: Blob,
  theirs: Blob,
): Promise<Buffer | null> {
  const folder = await mkdtemp(join(tmpdir(), 'egress25-merge-'))
  try {
    const paths: string[] = []
    for (const blob of [ours, base, theirs]) {
      const path = join(folder, String(paths.length))
      await writeFile(path, await contentOf(repository, blob))
      paths.push(path)
    }
    const { code, stdout } = await repository.git.run(['merge-file', '-p', '-q', ...paths], {
      answers: Array.from({ length: 128 }, (_, index) => index),
      encoding: 'latin1',
    })
    return code === 0 ? Buffer.from(stdout, 'latin1') : null
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
