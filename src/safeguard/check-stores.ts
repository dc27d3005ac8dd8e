/** Proves the stores of a config at the start of `serve` and when its config changes, so that no client has to wait for it. */
import type { GatewayConfig, StoreConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import { openSafeStorage } from './safe-storage.ts';

/**
 * Proves every store that someone uses who may not change what is there, and logs what does not hold.
 * @param options.anew - tries them whatever is known
 * @returns the stores that were tried, each with whether it is known to be unsafe
 */
export async function checkStores(
  config: GatewayConfig,
  log: Log,
  { anew }: { readonly anew: boolean },
): Promise<ReadonlyMap<string, boolean>> {
  const clients = Object.values(config.clients).filter(({ access }) => access !== 'full');
  const names = new Set(clients.map(({ repository }) => repository.store));
  const stores = Object.values(config.stores).filter(({ name }) => names.has(name));
  return new Map(
    await Promise.all(
      stores.map(async (store) => [store.name, await checkStore(store, config.state, log, anew)] as const),
    ),
  );
}

async function checkStore(store: StoreConfig, state: string, log: Log, anew: boolean): Promise<boolean> {
  const { name } = store;
  try {
    const storage = await openSafeStorage(store, state);
    try {
      const shown = await storage.storeCheck?.shown({ anew });
      if (shown !== undefined && !shown.neverOverwrites)
        log.warn(
          { store: name },
          `store ${name} does not honour If-None-Match; as conditionalWrites: versioned accepts, the gateway looks before it writes, and what two bring at the same moment stays as two versions`,
        );
      return false;
    } finally {
      await storage.close();
    }
  } catch (error) {
    const failure = asGatewayError(error);
    // Whatever else is wrong is reported by whoever uses the store.
    if (failure.code === 'store-unsafe') log.error({ err: error, store: name }, failure.message);
    else log.warn({ err: error, store: name }, `store ${name} could not be tried with success yet: ${failure.message}`);
    return failure.code === 'store-unsafe';
  }
}
