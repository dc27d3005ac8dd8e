/** Follows the config for as long as one forced command runs: what is taken from its client holds for the session under way, too. */
import { statSync } from 'node:fs';
import { fileOfClient, loadConfig } from '../config/load.ts';
import { withoutRevoked } from '../config/revoked.ts';
import type { GatewayConfig } from '../config/types.ts';
import { fileState } from '../config/file-state.ts';

/** How often the files are looked at, in ms. There may be many such processes: a look is one stat or three, a watch would be a kernel resource of each. */
const LOOK_MS = 500;

/** A changed file is taken for complete when it stays the same for this long, in ms. */
const SETTLE_MS = 150;

/** What has changed within this time, in ms, before it was looked at may have been read before that: a file system's clock is coarse. */
const JUST_NOW_MS = 2000;

/**
 * Takes up the config each time one of its files has changed that concerns the client. One that is wrong gives nothing new; what its right
 * files take away holds all the same: see `revoked.ts`. Keeps no process running.
 * @param first - the config in effect
 * @param known - the state of its file from before it was read
 * @param apply - takes up a config that is right; when it throws, the one from before stays
 * @returns a function that ends it
 */
export function followConfig(
  first: GatewayConfig,
  known: string,
  client: string,
  apply: (config: GatewayConfig) => Promise<void>,
): () => void {
  let config = first;
  let taken = first.clientsDirectory === undefined ? known : unlessJustNow(first, client);
  let seen = taken;
  let stopped = false;
  let timer: NodeJS.Timeout;

  const lookIn = (ms: number): void => {
    timer = setTimeout(() => void look(), ms).unref();
  };
  const look = async (): Promise<void> => {
    const now = stateFor(config, client);
    const settled = now === seen;
    seen = now;
    if (settled && now !== taken) {
      taken = now;
      try {
        const next = readAgain(config);
        await apply(next);
        // In another file it may have changed since.
        if (fileOfClient(next, client) !== fileOfClient(config, client)) taken = '';
        config = next;
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

/** @throws GatewayError `invalid-config` where it is wrong and takes nothing away */
function readAgain(config: GatewayConfig): GatewayConfig {
  try {
    return loadConfig(config.file);
  } catch (error) {
    const less = withoutRevoked(config);
    if (less === undefined) throw error;
    return less.config;
  }
}

/** The files that matter to a client: the config's own, its own, and the directory, where it may come to stand in another. */
function filesFor(config: GatewayConfig, client: string): readonly string[] {
  const { file, clientsDirectory } = config;
  return clientsDirectory === undefined ? [file] : [file, clientsDirectory, fileOfClient(config, client)];
}

function stateFor(config: GatewayConfig, client: string): string {
  return filesFor(config, client).map(fileState).join(' ');
}

/** The state of files that have just been read; nothing, so that they are read once more, where one has changed about that time. */
function unlessJustNow(config: GatewayConfig, client: string): string {
  const state = stateFor(config, client);
  const since = Date.now() - JUST_NOW_MS;
  const isOld = filesFor(config, client).every(
    (file) => (statSync(file, { throwIfNoEntry: false })?.ctimeMs ?? 0) < since,
  );
  return isOld ? state : '';
}
