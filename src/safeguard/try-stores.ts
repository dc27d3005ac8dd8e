/** Tries the stores of a config: whether they can be reached, for `serve` and `init`, and live, for `check --live`. */
import type { GatewayConfig, StoreConfig } from '../config/types.ts';
import { asGatewayError, type GatewayError } from '../core/errors.ts';
import type { StoreCheckResult } from '../ports/repository-store.ts';
import { openStorage } from '../stores/open-storage.ts';

/** How long reaching a store may take, in ms, and tidying it. */
const REACH_MS = 30_000;

/**
 * Tries every store of the config at once.
 * @param tried - hears which is done
 * @returns by name in the config's order; an error where it could not be tried
 */
export async function tryStores(
  config: GatewayConfig,
  tried?: (store: string) => void,
): Promise<ReadonlyMap<string, StoreCheckResult | GatewayError>> {
  const stores = Object.values(config.stores);
  const found = await Promise.all(
    stores.map(async (store) => {
      const result = await tryStore(config, store).catch(asGatewayError);
      tried?.(store.name);
      return result;
    }),
  );
  return new Map(stores.map(({ name }, index) => [name, found[index] as StoreCheckResult | GatewayError]));
}

/**
 * Tries to reach every store that a client uses, and removes what killed processes left there.
 * @returns what is wrong, by store name; empty when everything is OK
 */
export async function reachStores(config: GatewayConfig): Promise<ReadonlyMap<string, GatewayError>> {
  const wrong = new Map<string, GatewayError>();
  await Promise.all(
    Object.values(config.stores).map(async (store) => {
      const prefixes = prefixesIn(config, store);
      if (prefixes.length === 0) return;
      try {
        await reachStore(store, prefixes);
      } catch (error) {
        wrong.set(store.name, asGatewayError(error));
      }
    }),
  );
  return wrong;
}

/** As `reachStores`, one. @throws GatewayError */
export async function reachStore(store: StoreConfig, prefixes: readonly string[]): Promise<void> {
  const storage = await openStorage(store);
  try {
    await storage.reach({ signal: AbortSignal.timeout(REACH_MS) });
    await storage.tidy(prefixes, { signal: AbortSignal.timeout(REACH_MS) });
  } finally {
    await storage.close();
  }
}

async function tryStore(config: GatewayConfig, store: StoreConfig): Promise<StoreCheckResult> {
  const storage = await openStorage(store);
  try {
    // Its own time limits end each wait.
    return await storage.check(prefixesIn(config, store), { signal: new AbortController().signal });
  } finally {
    await storage.close();
  }
}

/** The prefixes of a store that clients use. */
function prefixesIn({ clients }: GatewayConfig, { name }: StoreConfig): readonly string[] {
  const places = Object.values(clients).map(({ repository }) => repository);
  return [...new Set(places.filter(({ store }) => store === name).map(({ prefix }) => prefix))];
}
