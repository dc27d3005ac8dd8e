/** Which repositories a command works on that takes `CLIENT` or `--all`. */
import { UsageError } from './command-line/usage-error.ts';
import { repositoriesOf } from '../client-maintenance.ts';
import type { GatewayConfig } from '../config/types.ts';

/** The named client, or one client for each repository. @throws GatewayError `usage` unless it is one of the two */
export function chooseClients(
  { client, all }: { readonly client: string | undefined; readonly all: boolean },
  config: GatewayConfig,
): readonly string[] {
  if (all === (client !== undefined)) throw new UsageError('name a client, or say --all');
  if (client !== undefined) return [client];
  return repositoriesOf(config);
}
