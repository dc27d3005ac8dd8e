/** Tries the stores of a config live, for `check --live`. */
import type { GatewayConfig, StoreConfig } from '../config/types.ts';
import { asGatewayError, type GatewayError } from '../core/errors.ts';
import type { StoreCheckResult } from '../ports/repository-store.ts';
import { openStorage } from '../stores/open-storage.ts';

/** Tries every store of the config at once. @returns by name in the config's order; an error where it could not be tried */
export async function tryStores(config: GatewayConfig): Promise<ReadonlyMap<string, StoreCheckResult | GatewayError>> {
  const stores = Object.values(config.stores);
  const found = await Promise.all(stores.map((store) => tryStore(config, store).catch(asGatewayError)));
  return new Map(stores.map(({ name }, index) => [name, found[index] as StoreCheckResult | GatewayError]));
}

async function tryStore(config: GatewayConfig, store: StoreConfig): Promise<StoreCheckResult> {
  const storage = await openStorage(store);
  try {
    const places = Object.values(config.clients).map(({ repository }) => repository);
    const prefixes = places.filter((place) => place.store === store.name).map(({ prefix }) => prefix);
    // Its own time limits end each wait.
    return await storage.check(prefixes, { signal: new AbortController().signal });
  } finally {
    await storage.close();
  }
}
