/** What `serve` does about every repository now and then. */
import { setTimeout as sleep } from 'node:timers/promises';
import { repositoriesOf } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import type { Part } from './parts.ts';

/** How often each is looked at, in ms; also how long after the start at the earliest, when sessions come first. */
const LOOK_MS = 10 * 60 * 1000;

/** @param visit - given one client of each repository, one after the other; must not throw */
export function eachRepository(
  first: GatewayConfig,
  visit: (config: GatewayConfig, client: string, signal: AbortSignal) => Promise<void>,
  lookMs: number = LOOK_MS,
): Part {
  let config = first;
  const closing = new AbortController();
  const { signal } = closing;
  const work = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(lookMs, undefined, { signal, ref: false });
      for (const client of repositoriesOf(config)) if (!isEnded(signal)) await visit(config, client, signal);
    }
  };
  const done = work().catch(() => undefined);
  return {
    reconfigure: (next) => {
      config = next;
    },
    close: async () => {
      closing.abort();
      await done;
    },
  };
}

/** Asked anew each time. */
const isEnded = (signal: AbortSignal): boolean => signal.aborted;
