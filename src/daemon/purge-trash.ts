/** Purges the trash of every repository once a day, as long as `serve` runs. */
import { openClientMaintenance, purgeClientTrash } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { Monitor } from '../monitor/monitor.ts';
import { removalsAreHeld } from '../monitor/purge-hold.ts';
import type { Log } from '../ports/log.ts';
import { eachRepository } from './each-repository.ts';
import type { Part } from './parts.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

/** Begins with it, one repository after the other. */
export function purgeDaily(
  first: GatewayConfig,
  log: Log,
  monitor: () => Pick<Monitor, 'status'>,
  lookMs?: number,
): Part {
  /** Whoever looked at it last, another gateway of this machine or a command, may have done it today. */
  const isDue = async (config: GatewayConfig, client: string): Promise<boolean> => {
    const { maintenance, trash } = await openClientMaintenance(config, client);
    await maintenance.close();
    const at = Date.parse((await trash.read())?.at ?? '');
    return Number.isNaN(at) || Math.abs(Date.now() - at) >= DAY_MS;
  };

  const purge = async (config: GatewayConfig, client: string, signal: AbortSignal): Promise<void> => {
    try {
      if (!(await isDue(config, client))) return;
      const held = async (): Promise<boolean> => {
        const { repository } = config.clients[client] ?? {};
        return repository === undefined || removalsAreHeld(monitor(), config, repository);
      };
      const counts = await purgeClientTrash(config, client, { held, gently: true, signal });
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

  return eachRepository(first, purge, lookMs);
}
