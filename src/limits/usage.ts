/**
 * The ledgers of all repositories that have a quota, each made and mended from what its store really holds.
 */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { messageOf } from '../core/errors.ts';
import { getOrMake } from '../core/get-or-make.ts';
import { CONFIG_REF, NAMED_TYPES, objectKey, type ObjectRef } from '../core/object.ts';
import type { Log } from '../ports/log.ts';
import type { ListedObject, RepositoryStore, StoredRepository } from '../ports/repository-store.ts';
import type { Ledger, Ledgers, LedgerWatch, OpenLedger } from '../ports/ledger.ts';
import { ledgerId } from '../state/known-usage.ts';
import { openLedger } from './ledger.ts';

/** How often a store is counted. */
const COUNT_MS = 24 * 60 * 60 * 1000;
/** What is removed while it is counted may be in the count or not: it is counted again after this. */
const RECOUNT_MS = 10 * 60 * 1000;
/** For how long others leave a count to the one that began it. */
const CLAIM_MS = 60 * 60 * 1000;

/** What the repositories have in use. */
export interface Usage {
  /**
   * Sets room aside for an object that is to come.
   * @param limit - the most bytes that may then be in use; undefined for no limit
   * @returns a function to call once with how it ended, or undefined when there is no room; it never rejects
   * @throws GatewayError `state-unavailable`, and what listing the store throws when it has to be counted first
   */
  reserve(
    repository: CountedRepository,
    ref: ObjectRef,
    size: number,
    limit: number | undefined,
  ): Promise<((end: 'stored' | 'failed') => Promise<void>) | undefined>;
  /** Says that so many bytes were removed; never rejects. */
  removed(repository: CountedRepository, size: number): Promise<void>;
  /** Gives up the counts under way. */
  close(): Promise<void>;
}

/** A repository whose bytes are counted. */
export interface CountedRepository {
  /** The state directory of this machine, absolute. */
  readonly state: string;
  /** What is the same for all sessions of this repository, and for them alone. */
  readonly identity: string;
  readonly store: RepositoryStore;
  readonly removedByClients: StoredRepository['removedByClients'];
}

/**
 * Opens nothing before it is needed.
 * @param share - the ledgers that several gateways share, given those of this machine; by default these alone are kept
 */
export function createUsage(log: Log, share?: (openLocal: OpenLedger) => Ledgers): Usage {
  const shared = share?.(openLedger);
  const ledgers = new Map<string, Ledger>();
  const counting = new Set<Promise<void>>();
  const ending = new AbortController();
  // Each count listens to it.
  setMaxListeners(0, ending.signal);

  const ledgerOf = ({ state, identity, ...counted }: CountedRepository): Ledger => {
    const directory = ledgerDirectory(state, identity);
    const count = (): Promise<number> => measure(counted, ending.signal);
    return getOrMake(ledgers, directory, () =>
      shared === undefined ? openLedger(directory, count) : shared.open(state, identity, count),
    );
  };

  /** A ledger that misses a line errs until the next count; what was done stays done. */
  const note = async (writing: Promise<unknown>): Promise<void> => {
    try {
      await writing;
    } catch (error) {
      log.error({ err: error }, 'what a repository has in use could not be written down; the next count mends it');
    }
  };

  const countWhenDue = async (ledger: Ledger, counted: Counted): Promise<void> => {
    try {
      if (await ledger.claimCount(CLAIM_MS)) await recount(ledger, counted, ending.signal);
    } catch (error) {
      if (ending.signal.aborted) return;
      log.warn({ err: error }, `a repository with a quota could not be counted: ${messageOf(error)}`);
    }
  };

  return {
    reserve: async (repository, ref, size, limit) => {
      const ledger = ledgerOf(repository);
      const token = await ledger.reserve(size, limit, objectKey(ref));
      const count = countWhenDue(ledger, repository).finally(() => counting.delete(count));
      counting.add(count);
      return token === undefined ? undefined : (end) => note(ledger.settle(token, end));
    },
    removed: (repository, size) => note(ledgerOf(repository).removed(size)),
    close: async () => {
      ending.abort();
      await Promise.all(counting);
      await Promise.all([...ledgers.values()].map((ledger) => note(ledger.close())));
      await shared?.close();
    },
  };
}

/** Where the ledger of a repository is. @param identity - as `CountedRepository` */
export function ledgerDirectory(state: string, identity: string): string {
  return join(state, 'usage', ledgerId(identity));
}

type Counted = Pick<CountedRepository, 'store' | 'removedByClients'>;

/** Counts a store in bytes, locks left out, and what clients have moved to its trash. @param seen - called with every page before it is counted */
async function measure(
  { store, removedByClients }: Counted,
  signal: AbortSignal,
  seen: (refs: readonly ListedObject[], type: Exclude<ObjectRef['type'], 'config' | 'locks'>) => Promise<void> = () =>
    Promise.resolve(),
): Promise<number> {
  let bytes = (await store.stat(CONFIG_REF, { signal }))?.size ?? 0;
  for (const type of NAMED_TYPES) {
    if (type === 'locks') continue;
    for await (const page of store.list(type, { signal })) {
      await seen(page, type);
      for (const { size } of page) bytes += size;
    }
  }
  // Last, so that what is moved meanwhile counts twice rather than not at all.
  return bytes + (await removedByClients({ signal }));
}

/** Counts a store and mends its ledger, while others go on to use both. */
async function recount(ledger: Ledger, counted: Counted, signal: AbortSignal): Promise<void> {
  const watch = await ledger.watch();
  try {
    const listed = new Set<string>();
    const bytes = await measure(counted, signal, async (page, type) => {
      // Whatever is on this page was set aside room for before: after this, the window has it.
      await watch.refresh();
      if (watch.window.uploads.size === 0) return;
      const keys = new Set([...watch.window.uploads.values()].map(({ key }) => key));
      for (const { name } of page) {
        const key = objectKey({ type, name });
        if (keys.has(key)) listed.add(key);
      }
    });
    await watch.correct(
      (underWay) => bytes + missed(watch, listed, underWay),
      watch.window.removals ? RECOUNT_MS : COUNT_MS,
    );
  } finally {
    watch.close();
  }
}

/** Bytes of the uploads that the count has not met: stored behind its back, or still on their way. */
function missed({ window, isOver }: LedgerWatch, listed: ReadonlySet<string>, underWay: ReadonlySet<string>): number {
  let bytes = 0;
  for (const [token, { key, size }] of window.uploads) {
    if (listed.has(key)) continue;
    // Room that a process had set aside when it died.
    if (underWay.has(token) && isOver(token)) continue;
    bytes += size;
  }
  return bytes;
}
