/** What runs in the background as long as `serve` does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { GatewayConfig } from '../config/types.ts';

/** Something that runs in the background. */
export interface Running {
  /** Does what is left, if it can be done, and ends. Never rejects. */
  close(): Promise<void>;
}

/** The same, which goes by the newest config. */
export interface Restarting extends Running {
  reconfigure(config: GatewayConfig): void;
}

/** Begins it, and begins it anew, when its end is over, as soon as one of the keys that it goes by has changed. */
export function restarting(
  first: GatewayConfig,
  keys: readonly (keyof GatewayConfig)[],
  start: (config: GatewayConfig) => Running,
): Restarting {
  let config = first;
  let running = start(first);
  return {
    reconfigure: (next) => {
      const before = config;
      config = next;
      if (keys.every((key) => isDeepStrictEqual(before[key], next[key]))) return;
      const begun = running.close().then(() => start(next));
      running = { close: async () => (await begun).close() };
    },
    close: () => running.close(),
  };
}

/**
 * Does work again and again.
 * @param work - resolves to how long to rest after it, in ms; never rejects
 * @param finish - what is left to do at the end; never rejects
 */
export function repeating(work: (signal: AbortSignal) => Promise<number>, finish: () => Promise<void>): Running {
  const closing = new AbortController();
  const { signal } = closing;
  const run = async (): Promise<void> => {
    while (!signal.aborted) await sleep(await work(signal), undefined, { signal, ref: false }).catch(() => undefined);
    await finish();
  };
  const done = run();
  return {
    close: async () => {
      closing.abort();
      await done;
    },
  };
}

/** Nothing that runs. */
export const NOT_RUNNING: Running = { close: () => Promise.resolve() };
