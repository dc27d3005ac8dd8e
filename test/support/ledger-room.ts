/** How much room a ledger still has, found out by asking for it. */
import type { Ledger } from '../../src/ports/ledger.ts';

/** @param fresh - as a process that comes now sees it. @returns the most bytes that fit under `limit` */
export async function roomUnder(fresh: Pick<Ledger, 'reserve' | 'settle'>, limit: number): Promise<number> {
  let [low, high] = [0, limit + 1];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const token = await fresh.reserve(middle, limit, 'data/try');
    if (token === undefined) high = middle;
    else {
      low = middle;
      await fresh.settle(token, 'failed');
    }
  }
  return low;
}
