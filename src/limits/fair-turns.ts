/**
 * Requests that come together begin in turns of the event loop, a few in each, and the clients by turns: else hundreds that came in one
 * packet would be begun, and be carried on at each of their steps, before the process looks at anybody else.
 */
import { getOrMake } from '../core/get-or-make.ts';
import type { Turns } from '../ports/turns.ts';

/** Requests that begin in one turn of the event loop: it takes the longer, for everybody, the more they are. The loop never rests while some wait. */
const EACH_TURN = 1;

/** The turns of all clients in a process. */
interface FairTurns {
  of(client: string): Turns;
}

/** @param later - calls back in the next turn of the event loop, once it has looked at what came meanwhile */
export function createFairTurns(later: (next: () => void) => unknown = setImmediate): FairTurns {
  /** Those who wait, by client: the client that is next comes first. */
  const queues = new Map<string, Set<() => void>>();
  let begun = 0;
  let pumping = false;

  const next = (): void => {
    for (const [client, queue] of queues) {
      // To the end of the round.
      queues.delete(client);
      const [go] = queue;
      if (go === undefined) continue;
      queue.delete(go);
      if (queue.size > 0) queues.set(client, queue);
      begun += 1;
      go();
      return;
    }
  };

  const pump = (): void => {
    begun = 0;
    while (queues.size > 0 && begun < EACH_TURN) next();
    pumping = queues.size > 0 || begun > 0;
    if (pumping) later(pump);
  };

  return {
    of: (client) => ({
      take: (signal) => {
        if (!pumping) {
          pumping = true;
          later(pump);
        }
        if (queues.size === 0 && begun < EACH_TURN) {
          begun += 1;
          return undefined;
        }
        return new Promise((resolve) => {
          const waiting = getOrMake(queues, client, () => new Set());
          const go = (): void => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          };
          const onAbort = (): void => {
            waiting.delete(go);
            if (waiting.size === 0 && queues.get(client) === waiting) queues.delete(client);
            resolve();
          };
          if (signal.aborted) {
            resolve();
            return;
          }
          waiting.add(go);
          signal.addEventListener('abort', onAbort, { once: true });
        });
      },
    }),
  };
}
