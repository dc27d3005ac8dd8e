/**
 * What is kept of scrubs in the state directory: `scrub/<hash>.json`, the last one that came to its end, and `scrub/<hash>.progress.json`,
 * how far an unfinished one has come. `<hash>` is the first 16 hex digits of the SHA-256 of the store's name, a NUL and the prefix. Files
 * are replaced whole; one that is missing or torn means that nothing is known.
 */
import { rm } from 'node:fs/promises';
import { count, flag, isoTime, like, listOf, only, record, tableOf, text, type Shape } from '../core/shape.ts';
import { readShape, replaceJson, repositoryFile } from '../state/state-file.ts';

/** What is wrong with a file of a repository. */
export interface Finding {
  /** Below the repository's prefix. */
  readonly key: string;
  /**
   * `damaged`: the content is not what its name says. `empty`: an object without content. `unreadable`: the storage cannot give it.
   * `missing`: it should be there.
   */
  readonly problem: 'damaged' | 'empty' | 'unreadable' | 'missing';
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
  /** What lies in the repository's place and is not restic's, which does no harm: how many files and directories, and the first of their names. */
  readonly foreign: number;
  readonly foreignKeys: readonly string[];
  /** In the file alone: how many findings there were beyond those. */
  readonly unlisted?: number;
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

/** How many findings a result's file lists; whoever scrubs is shown all of them. */
const LISTED = 10_000;
/** Of 10,000 findings with long keys, and of 200,000 in the progress with keys as restic's. What is longer is none of ours, or begun anew. */
const MOST_BYTES = 64 * 1024 * 1024;

const FIGURES = {
  objects: count,
  bytes: count,
  findings: listOf(
    record({
      // As the storage has it, printable or not.
      key: text(8192),
      problem: only('damaged', 'empty', 'unreadable', 'missing'),
      detail: text(8192),
    }),
  ),
};
const RESULT: Shape<ScrubResult> = record(
  {
    v: only(1),
    store: text(8192),
    prefix: text(8192),
    started: isoTime,
    finished: isoTime,
    quick: flag,
    ...FIGURES,
    foreign: count,
    foreignKeys: listOf(text(8192)),
  },
  { unlisted: count },
);
const PART = like(/^(?:config|(?:index|keys|locks|snapshots)\/|data\/[0-9a-f]{2}\/)$/);
const PROGRESS: Shape<ScrubProgress> = record({
  v: only(1),
  started: isoTime,
  quick: flag,
  parts: tableOf(PART, record(FIGURES)),
});

/** @param state - the config's `state`; made when something is first written */
export function scrubState(state: string, repository: { readonly store: string; readonly prefix: string }): ScrubState {
  const resultFile = repositoryFile(state, 'scrub', repository);
  const progressFile = resultFile.replace(/json$/, 'progress.json');
  return {
    readProgress: () => readShape(progressFile, MOST_BYTES, PROGRESS),
    writeProgress: (progress) => replaceJson(progressFile, progress),
    readResult: () => readShape(resultFile, MOST_BYTES, RESULT),
    finish: async (result) => {
      const { findings } = result;
      const unlisted = findings.length - LISTED;
      await replaceJson(
        resultFile,
        unlisted > 0 ? { ...result, findings: findings.slice(0, LISTED), unlisted } : result,
      );
      await rm(progressFile, { force: true });
    },
  };
}
