/** For how long snapshots are protected in a repository: what its client says, and of several clients the one who says the longest. */
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { repositoryIdentity } from '../limits/counted-repository.ts';

/** In ms; undefined where no client of the repository protects any, whatever name its store has. */
export function protectionOf(config: GatewayConfig, repository: ClientConfig['repository']): number | undefined {
  const identity = repositoryIdentity(config, repository);
  const said = Object.values(config.clients).flatMap((client) =>
    client.protectMs !== undefined && repositoryIdentity(config, client.repository) === identity
      ? [client.protectMs]
      : [],
  );
  return said.length === 0 ? undefined : Math.max(...said);
}
