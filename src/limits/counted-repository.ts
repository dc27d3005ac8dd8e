/** Which repositories have their bytes counted: those that a client with a quota has, for all who have them. */
import { repositoryIdentity } from '../config/repositories.ts';
import type { ClientConfig, GatewayConfig } from '../config/types.ts';
import { within } from '../core/waiting.ts';
import { readKnownUsage } from '../state/known-usage.ts';
import { createLedgerSums } from './ledger-sums.ts';
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

/** How long who asks for many waits for ledgers that were not read before, in ms; then it is what they last came to. */
const PATIENCE_MS = 1000;

/** What repositories have in use, as one process keeps it. */
interface UsedBytes {
  /**
   * What a repository has in use, in bytes, where it is counted and the count can be read.
   * @param until - by `performance.now()`: what is not read by then is read on without anyone waiting, and what it last came to is given,
   * undefined if it was never read; undefined: however long it takes
   */
  of(config: GatewayConfig, repository: ClientConfig['repository'], until?: number): Promise<number | undefined>;
}

/** @returns until when who begins to ask now should wait, as for `UsedBytes.of` */
export function patientUntil(): number {
  return performance.now() + PATIENCE_MS;
}

/** Reads nothing before it is asked. */
export function createUsedBytes(): UsedBytes {
  const sums = createLedgerSums();
  let of: GatewayConfig | undefined;
  return {
    of: async (config, repository, until) => {
      const identity = countedRepository(config, repository);
      if (of !== config) {
        of = config;
        const identities = new Set(countedByConfig.get(config)?.values());
        sums.keep(new Set([...identities].map((one) => ledgerDirectory(config.state, one))));
      }
      if (identity === undefined) return undefined;
      // Of all gateways; the files of this machine are those of times without it.
      if (config.database !== undefined) return readKnownUsage(config.state, identity);
      const directory = ledgerDirectory(config.state, identity);
      const reading = sums.used(directory);
      if (until === undefined) return reading;
      const left = until - performance.now();
      const used = left > 0 ? await within(left, reading) : undefined;
      return used ?? sums.known(directory);
    },
  };
}
