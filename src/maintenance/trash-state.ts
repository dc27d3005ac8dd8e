/**
 * What a trash was last found to hold: `trash/<hash>.json` in the state directory, `<hash>` as in `scrub-state.ts`. Written by `serve` once
 * a day and by the commands on the trash, so that status, page and metrics need not list it.
 */
import { count, isoTime, only, record, text, type Shape } from '../core/shape.ts';
import { readShape, replaceJson, repositoryFile } from '../state/state-file.ts';
import type { TrashContents } from './trash.ts';

/** The shape of the file. */
interface TrashSummary {
  readonly v: 1;
  /** The repository: the store's name in the config, and the prefix. */
  readonly store: string;
  readonly prefix: string;
  /** When it was looked at, ISO 8601. */
  readonly at: string;
  readonly objects: number;
  readonly bytes: number;
  /** How many of the objects are snapshots. */
  readonly snapshots: number;
  /** The minute of the oldest and of the newest removal, ISO 8601, where there is any. */
  readonly oldest?: string;
  readonly newest?: string;
}

/** The file of one repository. */
export interface TrashState {
  /** Undefined when nothing is known. */
  read(): Promise<TrashSummary | undefined>;
  /**
   * @param keptMs - how long the trash keeps what was removed
   * @throws GatewayError `state-unavailable`
   */
  write(contents: TrashContents, now: Date, keptMs: number): Promise<void>;
}

const MOST_BYTES = 32 * 1024;
const SUMMARY: Shape<TrashSummary> = record(
  { v: only(1), store: text(8192), prefix: text(8192), at: isoTime, objects: count, bytes: count, snapshots: count },
  { oldest: isoTime, newest: isoTime },
);

/** @param state - the config's `state`; made when something is first written */
export function trashState(
  state: string,
  { store, prefix }: { readonly store: string; readonly prefix: string },
): TrashState {
  const file = repositoryFile(state, 'trash', { store, prefix });
  return {
    read: () => readShape(file, MOST_BYTES, SUMMARY),
    write: ({ sessions, objects, bytes, versions }, now, keptMs) => {
      const times = sessions
        // What no gateway has removed is never purged.
        .filter(({ session }) => session !== undefined)
        .flatMap(({ first, last }) => [first, last])
        // Versions that are older than that are kept by the storage, for as long as it pleases.
        .filter((time) => typeof versions === 'string' || now.getTime() - time.getTime() < keptMs)
        .map((time) => time.toISOString())
        .sort();
      const [oldest, newest] = [times[0], times.at(-1)];
      const summary: TrashSummary = {
        ...{ v: 1, store, prefix, at: now.toISOString(), objects, bytes },
        snapshots: sessions.reduce((sum, { snapshots }) => sum + snapshots, 0),
        ...(oldest !== undefined && { oldest }),
        ...(newest !== undefined && { newest }),
      };
      return replaceJson(file, summary);
    },
  };
}
