/** Removed is not gone: what a session removes is moved to the repository's trash. */
import { batchName, type RemovedBy } from '../core/trash.ts';
import type { RepositoryStore, StoredRepository } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';

/** How many moves of a session run at once: each is several requests to the storage, one of which copies a pack there. */
const MOST_MOVES = 16;

/** The same repository, whose `remove` keeps everything but locks while `isOn`. */
export function withTrash(
  stored: StoredRepository,
  { session, by, isOn }: { readonly session: string; readonly by: RemovedBy; readonly isOn: () => boolean },
): RepositoryStore {
  let moving = 0;
  const waiting: (() => void)[] = [];
  const inTurn = async <T>(move: () => Promise<T>): Promise<T> => {
    if (moving >= MOST_MOVES) await new Promise<void>((resolve) => waiting.push(resolve));
    else moving += 1;
    try {
      return await move();
    } finally {
      // Whoever waits has this one's turn.
      const next = waiting.shift();
      if (next === undefined) moving -= 1;
      else next();
    }
  };
  return wrapStore(stored, {
    remove: (ref, options) =>
      ref.type === 'locks' || !isOn()
        ? stored.remove(ref, options)
        : inTurn(() => stored.setAside(ref, batchName(new Date(), session, by), options)),
  });
}
