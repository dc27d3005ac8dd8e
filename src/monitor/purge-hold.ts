/** Whether what clients have removed may be purged from a trash. */
import { clientsOf } from '../config/repositories.ts';
import type { GatewayConfig } from '../config/types.ts';
import type { Monitor } from './monitor.ts';

/**
 * Whether the trash must keep what clients removed: as long as one of the repository's clients has an anomaly that says so
 * (`purgeHeld` of its status), whatever it may do by now.
 * @throws GatewayError `audit-unavailable`
 */
export async function removalsAreHeld(
  monitor: Pick<Monitor, 'status'>,
  config: GatewayConfig,
  repository: { readonly store: string; readonly prefix: string },
): Promise<boolean> {
  for (const { name } of clientsOf(config, repository))
    if ((await monitor.status(name))?.purgeHeld !== false) return true;
  return false;
}
