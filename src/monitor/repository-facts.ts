/**
 * What the state directory has on repositories beside their ledgers: scrubs, trash, renewals of retention. A file is read again only when it
 * is another one, since there may be tens of thousands of them, and a scrub's may be long.
 */
import { lstat, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ClientConfig } from '../config/types.ts';
import { scrubState, type ScrubProgress, type ScrubResult } from '../maintenance/scrub-state.ts';
import { trashState } from '../maintenance/trash-state.ts';
import { extendedState } from '../retention/extended-state.ts';
import { repositoryFile } from '../state/state-file.ts';
import type { Knowledge } from './assess.ts';
import type { ClientStatus } from './client-status.ts';

/** How many findings of a scrub are told one by one. */
const FOUND_SHOWN = 20;
const DIRECTORIES = ['scrub', 'trash', 'extended'] as const;
type Directory = (typeof DIRECTORIES)[number];

/** What is known of one repository. */
type RepositoryFacts = Pick<Knowledge, 'scrub' | 'unfinishedScrub' | 'extended' | 'trash'>;

/** @param repository - by the name that all who share it have for it (`commonName`) */
type LookAt = (repository: ClientConfig['repository']) => Promise<RepositoryFacts>;

/** A file as it was read: what it is known by, and what was made of it. */
interface Kept {
  readonly version: string;
  readonly value: unknown;
}

/**
 * @returns a function that begins a look at repositories below a state directory. With `many`, it lists what is there first, and what is not
 * there then is looked for no more. It never rejects.
 */
export function createRepositoryFacts(): (state: string, many: boolean) => Promise<LookAt> {
  const kept = new Map<string, Kept>();

  return async (state, many) => {
    const names = new Map<Directory, ReadonlySet<string>>();
    if (many) {
      for (const directory of DIRECTORIES)
        names.set(directory, new Set(await readdir(join(state, directory)).catch(() => [])));
      for (const file of kept.keys())
        if (!DIRECTORIES.some((one) => file.startsWith(join(state, one, '/')) && names.get(one)?.has(basename(file))))
          kept.delete(file);
    }

    const readWhenNew = async <T>(
      directory: Directory,
      name: string,
      read: () => Promise<T | undefined>,
    ): Promise<T | undefined> => {
      if (many && names.get(directory)?.has(name) !== true) return undefined;
      const file = join(state, directory, name);
      const version = await versionOf(file);
      if (version === undefined) {
        kept.delete(file);
        return undefined;
      }
      const known = kept.get(file);
      if (known?.version !== version) {
        const value = await read();
        kept.set(file, { version, value });
        return value;
      }
      // Of one file it is always made in the same way.
      return known.value as T | undefined;
    };

    return async (repository) => {
      const name = basename(repositoryFile(state, 'scrub', repository));
      const scrubs = scrubState(state, repository);
      const [scrub, unfinishedScrub, trash, extended] = await Promise.all([
        readWhenNew('scrub', name, async () => resultOf(await scrubs.readResult())),
        readWhenNew('scrub', name.replace(/json$/, 'progress.json'), async () =>
          progressOf(await scrubs.readProgress()),
        ),
        readWhenNew('trash', name, async () => trashOf(await trashState(state, repository).read())),
        readWhenNew('extended', name, async () => extendedOf(await extendedState(state, repository).read())),
      ]);
      return { scrub, unfinishedScrub, trash, extended };
    };
  };
}

/** Files are replaced whole, each by another one. */
async function versionOf(file: string): Promise<string | undefined> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await lstat(file, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch {
    return undefined;
  }
}

function resultOf(result: ScrubResult | undefined): ClientStatus['scrub'] {
  return (
    result && {
      ...{ finished: new Date(result.finished), quick: result.quick, objects: result.objects },
      ...{ bytes: result.bytes, findings: result.findings.length + (result.unlisted ?? 0) },
      found: result.findings.slice(0, FOUND_SHOWN),
    }
  );
}

function progressOf(progress: ScrubProgress | undefined): ClientStatus['unfinishedScrub'] {
  if (progress === undefined) return undefined;
  const { started, quick, parts } = progress;
  const all = Object.values(parts);
  const sum = (of: (part: (typeof all)[number]) => number): number => all.reduce((total, part) => total + of(part), 0);
  return {
    ...{ started: new Date(started), quick },
    ...{ objects: sum(({ objects }) => objects), bytes: sum(({ bytes }) => bytes) },
    findings: sum(({ findings }) => findings.length),
  };
}

function extendedOf(extended: Awaited<ReturnType<ReturnType<typeof extendedState>['read']>>): ClientStatus['extended'] {
  return (
    extended && {
      ...{ at: new Date(extended.at), objects: extended.objects, renewed: extended.renewed, failed: extended.failed },
      ...{ complete: extended.complete, ...(extended.problem !== undefined && { problem: extended.problem }) },
    }
  );
}

function trashOf(trash: Awaited<ReturnType<ReturnType<typeof trashState>['read']>>): Knowledge['trash'] {
  return (
    trash && {
      ...{ at: Date.parse(trash.at), snapshots: trash.snapshots, objects: trash.objects, bytes: trash.bytes },
      oldest: trash.oldest === undefined ? undefined : Date.parse(trash.oldest),
    }
  );
}
