/** Follows the config for as long as one forced command runs: what is taken from its client holds for the session under way, too. */
import { loadConfig } from '../config/load.ts';
import type { GatewayConfig } from '../config/types.ts';
import { fileState } from '../config/file-state.ts';

/** How often the file is looked at, in ms. There may be many such processes: a look is one stat, a watch would be a kernel resource of each. */
const LOOK_MS = 500;

/** A changed file is taken for complete when it stays the same for this long, in ms. */
const SETTLE_MS = 150;

/**
 * Takes up the config each time its file has changed. One that is wrong changes nothing. Keeps no process running.
 * @param known - the file's state from before the config in effect was read
 * @param apply - takes up a config that is right; when it throws, the one from before stays
 * @returns a function that ends it
 */
export function followConfig(file: string, known: string, apply: (config: GatewayConfig) => Promise<void>): () => void {
  let taken = known;
  let seen = known;
  let stopped = false;
  let timer: NodeJS.Timeout;

  const lookIn = (ms: number): void => {
    timer = setTimeout(() => void look(), ms).unref();
  };
  const look = async (): Promise<void> => {
    const now = fileState(file);
    const settled = now === seen;
    seen = now;
    if (settled && now !== taken) {
      taken = now;
      try {
        await apply(loadConfig(file));
      } catch {
        // The admin hears of it from `serve` or `check`; the person at the client has no part in it.
      }
    }
    if (!stopped) lookIn(settled ? LOOK_MS : SETTLE_MS);
  };
  lookIn(LOOK_MS);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
