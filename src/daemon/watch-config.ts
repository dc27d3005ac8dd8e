/** Notices that the config file has changed, however the change came about: written in place, replaced by a rename, a link turned. */
import { realpathSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import { fileState } from '../config/file-state.ts';

/** A file is taken for complete when it stays the same for this long, in ms. */
const SETTLE_MS = 150;

/**
 * Calls `changed` soon after the file has changed. The directory is watched and not the file, which editors replace.
 * @returns a function that ends the watch
 */
export function watchConfig(file: string, changed: () => void, log: Log): () => void {
  let known = fileState(file);
  let seen = known;
  let timer: NodeJS.Timeout | undefined;

  const look = (): void => {
    timer = undefined;
    const now = fileState(file);
    const settled = now === seen;
    seen = now;
    if (!settled) lookSoon();
    else if (now !== known) {
      known = now;
      changed();
    }
  };
  // Not put off by each event: the audit may be in the same directory, and is written all the time.
  const lookSoon = (): void => {
    timer ??= setTimeout(look, SETTLE_MS);
  };

  const watchers: FSWatcher[] = [];
  try {
    // Where the file is a link, both places count.
    for (const directory of new Set([dirname(file), dirname(realpathSync(file))])) {
      const watcher = watch(directory, { persistent: false }, () => {
        // The first look must find the state settled or not by itself, so what is there now is what to compare with.
        if (timer === undefined) seen = fileState(file);
        lookSoon();
      });
      watcher.on('error', (error) => {
        log.warn({ err: error }, `${directory} cannot be watched any more; after a change of the config send SIGHUP`);
      });
      watchers.push(watcher);
    }
  } catch (error) {
    log.warn({}, `the config cannot be watched (${messageOf(error)}); after a change of it send SIGHUP`);
  }
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
}
