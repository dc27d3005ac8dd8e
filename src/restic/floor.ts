/**
 * Looks up what the floor under removals depends on (`protect` in the config): when a snapshot came, and whether it is among the newest of
 * its uploader's. Both go by the store's own records, never by what a snapshot claims of itself, which nobody without the password can read.
 *
 * restic groups snapshots by host and path, which the gateway cannot see, so that the newest are counted for each client, and for its admin
 * apart. Who holds a client's key can so add no snapshot that displaces one of another client's or of the admin's.
 */
import { setMaxListeners } from 'node:events';
import type { ObjectName, ObjectRef } from '../core/object.ts';
import { NEWEST_KEPT, type SnapshotFacts } from '../core/policy.ts';
import type { Grant, Uploader } from '../core/principal.ts';
import type { CallOptions, ListedObject, ObjectStat, RepositoryStore } from '../ports/repository-store.ts';

/** For how long it counts without another look, in ms, that a snapshot is there: the admin may take it out of the repository beside a session. */
const SEEN_MS = 10_000;
/** For how long one that was among the newest is taken to be so still, in ms. */
const RANKED_MS = 60_000;
const LOOK_UPS = 16;
/** How many snapshots that could not be removed are remembered. */
const MOST_LEFT = 1000;

/** Look-ups of one session. */
export interface Floor {
  /** Undefined when there is no such snapshot. @throws GatewayError of the store, `client-gone`; then nothing is known */
  lookUp(name: ObjectName, options: CallOptions): Promise<SnapshotFacts | undefined>;
  /** Says how a removal ended. */
  settle(ref: ObjectRef, end: 'gone' | 'failed'): void;
  /** How many snapshots were to be removed, and were not. */
  readonly left: number;
}

/** A snapshot by the store's records. */
interface Arrival {
  readonly name: ObjectName;
  /** By the store's clock, in ms since 1970. */
  readonly modifiedMs: number;
}

/** The newest snapshots of each uploader; times are those of `performance.now()`. */
interface Ranking {
  readonly of: ReadonlyMap<string, readonly Arrival[]>;
  readonly madeMs: number;
  seenMs: number;
}

/** Makes the look-ups of one session. Nothing is looked up where the grant has no floor. */
export function createFloor(store: RepositoryStore, grant: Grant): Floor {
  let ranking: Ranking | undefined;
  let under: Promise<Ranking> | undefined;
  const left = new Set<ObjectName>();

  /** One at a time, for all requests that wait for one. */
  const rank = async (options: CallOptions): Promise<Ranking> => {
    for (;;) {
      const own = under === undefined;
      under ??= rankAll(store, options).finally(() => (under = undefined));
      try {
        return (ranking = await under);
      } catch (error) {
        // Only the request that began it may be gone.
        if (own || options.signal.aborted) throw error;
      }
    }
  };

  /** Whether all of them are there, or were a moment ago. */
  const areThere = async (known: Ranking, some: readonly Arrival[], options: CallOptions): Promise<boolean> => {
    const now = performance.now();
    if (now - known.seenMs < SEEN_MS) return true;
    const stats = await Promise.all(some.map(({ name }) => store.stat({ type: 'snapshots', name }, options)));
    if (stats.includes(undefined)) return false;
    known.seenMs = now;
    return true;
  };

  const isNewest = async (name: ObjectName, stat: ObjectStat, options: CallOptions): Promise<boolean> => {
    const group = groupOf(stat.uploader);
    const arrival = { name, modifiedMs: stat.modified.getTime() };
    const newerIn = ({ of }: Ranking): readonly Arrival[] =>
      (of.get(group) ?? []).filter((each) => each.name !== name && isNewer(each, arrival));
    if (ranking !== undefined) {
      const known = ranking;
      const newer = newerIn(known);
      if (newer.length === NEWEST_KEPT) {
        if (await areThere(known, newer, options)) return false;
      } else if (
        performance.now() - known.madeMs < RANKED_MS &&
        known.of.get(group)?.some((each) => each.name === name)
      )
        return true;
    }
    return newerIn(await rank(options)).length < NEWEST_KEPT;
  };

  return {
    lookUp: async (name, options) => {
      const stat = await store.stat({ type: 'snapshots', name }, options);
      if (stat === undefined) return undefined;
      const { ageMs } = stat;
      const { protectMs } = grant;
      // The newest are looked for only where the age does not decide.
      const old = protectMs !== undefined && ageMs >= protectMs;
      const newest = old ? await isNewest(name, stat, options) : undefined;
      return { arrived: new Date(Date.now() - ageMs), ageMs, newest };
    },
    settle: (ref, end) => {
      if (ref.type !== 'snapshots') return;
      // Once there are so many, not all of them are known.
      if (left.size === MOST_LEFT) return;
      if (end === 'failed') left.add(ref.name);
      else left.delete(ref.name);
    },
    get left() {
      return left.size;
    },
  };
}

/** Looks at every snapshot. Keeps as many as count, however many there are. */
async function rankAll(store: RepositoryStore, options: CallOptions): Promise<Ranking> {
  const madeMs = performance.now();
  const of = new Map<string, Arrival[]>();
  setMaxListeners(0, options.signal);
  const add = async ({ name }: ListedObject): Promise<void> => {
    const stat = await store.stat({ type: 'snapshots', name }, options);
    // Removed since it was listed.
    if (stat === undefined) return;
    const group = groupOf(stat.uploader);
    const best = [...(of.get(group) ?? []), { name, modifiedMs: stat.modified.getTime() }];
    of.set(group, best.sort((one, other) => (isNewer(one, other) ? -1 : 1)).slice(0, NEWEST_KEPT));
  };
  for await (const page of store.list('snapshots', options)) {
    const left = [...page];
    const worker = async (): Promise<void> => {
      for (let one = left.pop(); one !== undefined; one = left.pop()) await add(one);
    };
    await Promise.all(Array.from({ length: LOOK_UPS }, worker));
  }
  return { of, madeMs, seenMs: madeMs };
}

/** Of two that came at once, as far as the store can tell, one has to be taken for the newer by everybody. */
function isNewer(one: Arrival, other: Arrival): boolean {
  return one.modifiedMs === other.modifiedMs ? one.name > other.name : one.modifiedMs > other.modifiedMs;
}

/** Whose it is; what came by no gateway is nobody's. */
function groupOf(uploader: Uploader | undefined): string {
  if (uploader === undefined) return '';
  return `${uploader.via === 'admin' ? 'admin' : 'client'} ${uploader.client}`;
}
