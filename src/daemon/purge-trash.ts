/** Purges the trash of every repository once a day, as long as `serve` runs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openClientMaintenance, purgeClientTrash, repositoriesOf } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { Monitor } from '../monitor/monitor.ts';
import { removalsAreHeld } from '../monitor/purge-hold.ts';
import type { Log } from '../ports/log.ts';
import type { Part } from './parts.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** How often it is looked whether a trash is due, in ms; also how long after the start at the earliest, when sessions come first. */
const LOOK_MS = 10 * 60 * 1000;

/** Begins with it, one repository after the other. */
export function purgeDaily(
  first: GatewayConfig,
  log: Log,
  monitor: () => Pick<Monitor, 'status'>,
  lookMs: number = LOOK_MS,
): Part {
  let config = first;
  const closing = new AbortController();
  const { signal } = closing;

  /** Whoever looked at it last, another gateway of this machine or a command, may have done it today. */
  const isDue = async (client: string): Promise<boolean> => {
    const { maintenance, trash } = await openClientMaintenance(config, client);
    await maintenance.close();
    const at = Date.parse((await trash.read())?.at ?? '');
    return Number.isNaN(at) || Math.abs(Date.now() - at) >= DAY_MS;
  };

  const purge = async (client: string): Promise<void> => {
    try {
      if (!(await isDue(client))) return;
      const now = config;
      const held = async (): Promise<boolean> => {
        const { repository } = now.clients[client] ?? {};
        return repository === undefined || removalsAreHeld(monitor(), now, repository);
      };
      const counts = await purgeClientTrash(now, client, { held, gently: true, signal });
      const { objects, bytes, retained, hidden, waiting, denied } = counts;
      const rest = denied ? '; older versions that the bucket keeps are left to its lifecycle rules' : '';
      if (objects + retained + waiting > 0 || denied)
        log.info(
          { client, objects, bytes, retained, hidden, waiting, denied },
          `purged ${objects} objects from the trash of ${client}${rest}`,
        );
    } catch (error) {
      if (!signal.aborted)
        log.warn({ err: error, client }, `the trash of ${client} was not purged: ${asGatewayError(error).message}`);
    }
  };

  const work = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(lookMs, undefined, { signal, ref: false });
      for (const client of repositoriesOf(config)) if (!isEnded(signal)) await purge(client);
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
