/**
 * What came of the last renewal of a repository's retention: `extended/<hash>.json` in the state directory, `<hash>` as in
 * `src/maintenance/scrub-state.ts`. Written by `serve` and by `restic-gateway extend`, so that each repository is gone through once a day.
 */
import { count, flag, isoTime, only, record, text, type Shape } from '../core/shape.ts';
import { readShape, replaceJson, repositoryFile } from '../state/state-file.ts';

/** The shape of the file. */
interface ExtendedSummary {
  readonly v: 1;
  /** The repository: the store's name in the config, and the prefix. */
  readonly store: string;
  readonly prefix: string;
  /** When it ended, ISO 8601. */
  readonly at: string;
  /** What was retained for less than this was renewed, in ms. */
  readonly whenUnderMs: number;
  readonly objects: number;
  readonly renewed: number;
  readonly failed: number;
  /** Whether all of the repository was gone through. */
  readonly complete: boolean;
  /** For a person: why it is not complete, or why the first of the objects failed. */
  readonly problem?: string;
}

/** The file of one repository. */
export interface ExtendedState {
  /** Undefined when nothing is known. */
  read(): Promise<ExtendedSummary | undefined>;
  /** @throws GatewayError `state-unavailable` */
  write(summary: Omit<ExtendedSummary, 'v' | 'store' | 'prefix'>): Promise<void>;
}

const MOST_BYTES = 32 * 1024;
const MOST_TEXT = 8192;
const SUMMARY: Shape<ExtendedSummary> = record(
  {
    ...{ v: only(1), store: text(MOST_TEXT), prefix: text(MOST_TEXT), at: isoTime, whenUnderMs: count },
    ...{ objects: count, renewed: count, failed: count, complete: flag },
  },
  { problem: text(MOST_TEXT) },
);

/** @param state - the config's `state`; made when something is first written */
export function extendedState(
  state: string,
  { store, prefix }: { readonly store: string; readonly prefix: string },
): ExtendedState {
  const file = repositoryFile(state, 'extended', { store, prefix });
  return {
    read: () => readShape(file, MOST_BYTES, SUMMARY),
    write: ({ problem, ...summary }) => {
      const told = problem === undefined ? {} : { problem: problem.slice(0, MOST_TEXT / 4) };
      return replaceJson(file, { v: 1, store, prefix, ...summary, ...told });
    },
  };
}
