/** Tries the stores at the start and with each new config, and knows whether any of them is fit to be stored in. */
import type { GatewayConfig } from '../config/types.ts';
import type { Log } from '../ports/log.ts';
import { checkStores } from '../safeguard/check-stores.ts';
import type { Part } from './parts.ts';

/**
 * How often stores that are not safe are tried again, in ms: the admin may have put them right meanwhile. Each trial leaves an object of a
 * pack's size as one more version where versions are kept. A new config, or a SIGHUP, has them tried at once.
 */
const AGAIN_MS = 60 * 60_000;

/** The stores as they were last tried. */
interface StoreChecks extends Part {
  /** False when uploads are refused on every store that clients use. */
  isAnySafe(): boolean;
}

/** Tries them all. */
export async function storeChecks(first: GatewayConfig, log: Log): Promise<StoreChecks> {
  let config = first;
  let unsafe = await checkStores(config, log, { anew: true });
  const isAnySafe = (): boolean => unsafe.size === 0 || [...unsafe.values()].some((one) => !one);
  const tryAgain = async (): Promise<void> => {
    const tried = config;
    const found = await checkStores(tried, log, { anew: false });
    if (tried === config) unsafe = found;
  };
  const timer = setInterval(() => {
    if (!isAnySafe()) void tryAgain();
  }, AGAIN_MS).unref();
  return {
    isAnySafe,
    reconfigure: (next) => {
      config = next;
      // Not waited for: a store that hangs must not keep the next change from being taken up.
      void tryAgain();
    },
    close: () => {
      clearInterval(timer);
      return Promise.resolve();
    },
  };
}
