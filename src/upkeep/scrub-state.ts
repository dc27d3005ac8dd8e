/**
 * What is kept of scrubs in the state directory: `scrub/<hash>.json`, the last one that came to its end, and `scrub/<hash>.progress.json`,
 * how far an unfinished one has come. `<hash>` is the first 16 hex digits of the SHA-256 of the store's name, a NUL and the prefix. Files
 * are replaced whole; one that is missing or torn means that nothing is known.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What is wrong with a file of a repository. */
export interface Finding {
  /** Below the repository's prefix. */
  readonly key: string;
  /**
   * `damaged`: the content is not what its name says. `empty`: an object without content. `unreadable`: the storage cannot give it.
   * `foreign`: no file of a repository. `missing`: it should be there.
   */
  readonly problem: 'damaged' | 'empty' | 'unreadable' | 'foreign' | 'missing';
  /** For a person. */
  readonly detail: string;
}

/** A scrub that came to its end: the shape of `scrub/<hash>.json`. */
export interface ScrubResult {
  readonly v: 1;
  /** The repository: the store's name in the config, and the prefix. */
  readonly store: string;
  readonly prefix: string;
  /** Begin and end, ISO 8601; a scrub that was taken up again began when it was first started. */
  readonly started: string;
  readonly finished: string;
  /** Whether contents were not read. */
  readonly quick: boolean;
  /** What was checked; foreign files are not in it. */
  readonly objects: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
}

/** How far a scrub has come: the shape of `scrub/<hash>.progress.json`. */
export interface ScrubProgress {
  readonly v: 1;
  readonly started: string;
  readonly quick: boolean;
  /** The parts of the repository that are done, such as `index/` and `data/3f/`, and what came of each. */
  readonly parts: Readonly<Record<string, PartResult>>;
}

/** What came of a part of a repository. */
export interface PartResult {
  readonly objects: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
}

/** The scrub files of one repository. */
export interface ScrubState {
  readProgress(): Promise<ScrubProgress | undefined>;
  writeProgress(progress: ScrubProgress): Promise<void>;
  /** The last one that came to its end. */
  readResult(): Promise<ScrubResult | undefined>;
  /** Keeps the result and forgets the progress. */
  finish(result: ScrubResult): Promise<void>;
}

/** @param state - the config's `state`; made when something is first written */
export function scrubState(
  state: string,
  { store, prefix }: { readonly store: string; readonly prefix: string },
): ScrubState {
  const directory = join(state, 'scrub');
  const hash = createHash('sha256').update(`${store}\0${prefix}`).digest('hex').slice(0, 16);
  const resultFile = join(directory, `${hash}.json`);
  const progressFile = join(directory, `${hash}.progress.json`);
  const replace = async (file: string, value: unknown): Promise<void> => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const temporary = `${file}.${randomUUID()}`;
    try {
      await writeFile(temporary, `${JSON.stringify(value)}\n`, { mode: 0o600 });
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  };
  return {
    readProgress: async () => {
      try {
        const progress = JSON.parse(await readFile(progressFile, 'utf8')) as ScrubProgress | { readonly v: unknown };
        return progress.v === 1 ? (progress as ScrubProgress) : undefined;
      } catch {
        return undefined;
      }
    },
    writeProgress: (progress) => replace(progressFile, progress),
    readResult: async () => {
      try {
        const result = JSON.parse(await readFile(resultFile, 'utf8')) as ScrubResult | { readonly v: unknown };
        return result.v === 1 ? (result as ScrubResult) : undefined;
      } catch {
        return undefined;
      }
    },
    finish: async (result) => {
      await replace(resultFile, result);
      await rm(progressFile, { force: true });
    },
  };
}
