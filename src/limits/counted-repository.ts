/** Which repositories have their bytes counted: those that a client with a quota has, for all who have them. */
import { repositoryIdentity } from '../config/repositories.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { readLedger } from './ledger.ts';
import { ledgerDirectory } from './usage.ts';

/** By config: what is counted of each repository that a client with a quota has. */
const countedByConfig = new WeakMap<GatewayConfig, ReadonlyMap<string, string>>();

/** The identity of a repository on this machine, if any of its clients has a quota, whatever name its store has; else undefined. */
export function countedRepository(config: GatewayConfig, repository: ClientConfig['repository']): string | undefined {
  const key = ({ store, prefix }: ClientConfig['repository']): string => `${store}/${prefix}`;
  const identify = (one: ClientConfig['repository']): string => repositoryIdentity(config, one);
  let counted = countedByConfig.get(config);
  if (counted === undefined) {
    const clients = Object.values(config.clients);
    const limited = new Set(
      clients.filter(({ quota }) => quota !== undefined).map((client) => identify(client.repository)),
    );
    counted = new Map(
      limited.size === 0
        ? []
        : clients.flatMap((client) => {
            const identity = identify(client.repository);
            return limited.has(identity) ? [[key(client.repository), identity]] : [];
          }),
    );
    countedByConfig.set(config, counted);
  }
  return counted.get(key(repository));
}

/** What a repository has in use, in bytes, where it is counted and the count can be read. */
export async function usedBytes(
  config: GatewayConfig,
  repository: ClientConfig['repository'],
): Promise<number | undefined> {
  const identity = countedRepository(config, repository);
  return identity === undefined ? undefined : readLedger(ledgerDirectory(config.state, identity));
}
