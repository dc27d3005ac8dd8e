/** Renews the retention of what repositories use once a day, as long as `serve` runs, where the store's `objectLock` says so (`extend`). */
import { setTimeout as sleep } from 'node:timers/promises';
import { extendClientRetention, extensionOf, openClientMaintenance, repositoriesOf } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';
import type { Part } from './parts.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
/** How often it is looked whether a repository is due, in ms; also how long after the start at the earliest, when sessions come first. */
const LOOK_MS = 10 * 60 * 1000;
/** Objects a second, that sessions have the storage to themselves: four million a day. */
const PACE = 50;

/** Begins with it, one repository after the other. */
export function extendDaily(first: GatewayConfig, log: Log, lookMs: number = LOOK_MS): Part {
  let config = first;
  const closing = new AbortController();
  const { signal } = closing;

  /** Another gateway of this machine or a command may have done it today. What went wrong is tried again sooner. */
  const isDue = async (client: string, whenUnderMs: number): Promise<boolean> => {
    const { maintenance, extended } = await openClientMaintenance(config, client);
    await maintenance.close();
    const last = await extended.read();
    if (last === undefined || last.whenUnderMs < whenUnderMs) return true;
    const since = Math.abs(Date.now() - Date.parse(last.at));
    return since >= (last.complete && last.failed === 0 ? DAY_MS : HOUR_MS);
  };

  const extendOne = async (client: string): Promise<void> => {
    const whenUnderMs = extensionOf(config, client);
    if (whenUnderMs === undefined) return;
    try {
      if (!(await isDue(client, whenUnderMs))) return;
      const { objects, changed, failed, failures } = await extendClientRetention(config, client, {
        ...{ whenUnderMs, pace: evenly(PACE, signal), signal },
      });
      if (changed > 0)
        log.info({ client, objects, renewed: changed }, `renewed the retention of ${changed} objects of ${client}`);
      if (failed > 0)
        log.warn(
          { client, objects, failed },
          `the retention of ${failed} objects of ${client} was not renewed: ${printable(failures[0]?.detail ?? '')}`,
        );
    } catch (error) {
      if (!signal.aborted)
        log.warn(
          { err: error, client },
          `the retention of what ${client} has was not renewed: ${asGatewayError(error).message}`,
        );
    }
  };

  const work = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(lookMs, undefined, { signal, ref: false });
      for (const client of repositoriesOf(config)) if (!isEnded(signal)) await extendOne(client);
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

/** Lets at most so many begin in a second. */
function evenly(perSecond: number, signal: AbortSignal): () => Promise<void> {
  let due = performance.now();
  return async () => {
    const now = performance.now();
    const turn = Math.max(due, now);
    due = turn + 1000 / perSecond;
    if (turn > now) await sleep(turn - now, undefined, { signal });
  };
}
