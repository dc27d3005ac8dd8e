/** Which repositories a command works on that takes `CLIENT` or `--all`. */
import { repositoriesOf } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';

/** The named client, or one client for each repository. @throws GatewayError `usage` unless it is one of the two */
export function chooseClients(
  { client, all }: { readonly client: string | undefined; readonly all: boolean },
  config: GatewayConfig,
): readonly string[] {
  if (all === (client !== undefined)) throw new GatewayError('usage', { detail: 'name a client, or say --all' });
  if (client !== undefined) return [client];
  return repositoriesOf(config);
}
