/** Renews the retention of what repositories use once a day, as long as `serve` runs, where the store's `objectLock` says so (`extend`). */
import { extendClientRetention, extensionOf, openClientMaintenance } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Log } from '../ports/log.ts';
import { eachRepository } from './each-repository.ts';
import type { Part } from './parts.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
/** Objects a second, that sessions have the storage to themselves: four million a day. */
const PACE = 50;

/** Begins with it, one repository after the other. */
export function extendDaily(first: GatewayConfig, log: Log, lookMs?: number): Part {
  /** Another gateway of this machine or a command may have done it today. What went wrong is tried again sooner. */
  const isDue = async (config: GatewayConfig, client: string, whenUnderMs: number): Promise<boolean> => {
    const { maintenance, extended } = await openClientMaintenance(config, client);
    await maintenance.close();
    const last = await extended.read();
    if (last === undefined || last.whenUnderMs < whenUnderMs) return true;
    const since = Math.abs(Date.now() - Date.parse(last.at));
    return since >= (last.complete && last.failed === 0 ? DAY_MS : HOUR_MS);
  };

  const extendOne = async (config: GatewayConfig, client: string, signal: AbortSignal): Promise<void> => {
    const whenUnderMs = extensionOf(config, client);
    if (whenUnderMs === undefined) return;
    try {
      if (!(await isDue(config, client, whenUnderMs))) return;
      const { objects, changed, failed, failures } = await extendClientRetention(config, client, {
        ...{ whenUnderMs, perSecond: PACE, signal },
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

  return eachRepository(first, extendOne, lookMs);
}
