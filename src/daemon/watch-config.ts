/** Notices that a file of the config has changed, however the change came about: written in place, replaced by a rename, a link turned. */
import { realpathSync, statSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import { clientsState, fileState } from '../config/file-state.ts';

/** A file is taken for complete when it stays the same for this long, in ms. */
const SETTLE_MS = 150;

/**
 * Calls `changed` soon after the file, or one of `clientsDirectory`, has changed. Directories are watched and not files, which editors replace.
 * @param clientsDirectory - as the config says now
 * @returns a function that ends the watch
 */
export function watchConfig(
  file: string,
  clientsDirectory: string | undefined,
  changed: () => void,
  log: Log,
): () => void {
  // There may be thousands of clients' files: they are looked at only when something has happened in their directory.
  let touched = false;
  let clients = clientsState(clientsDirectory);
  const state = (): string => {
    if (touched) clients = clientsState(clientsDirectory);
    return `${fileState(file)} ${clients}`;
  };
  let known = state();
  let seen = known;
  let timer: NodeJS.Timeout | undefined;

  const look = (): void => {
    timer = undefined;
    watchClients();
    const now = state();
    const settled = now === seen;
    seen = now;
    if (!settled) {
      lookSoon();
      return;
    }
    touched = false;
    if (now === known) return;
    known = now;
    changed();
  };
  // Not put off by each event: the audit may be in the same directory, and is written all the time.
  const lookSoon = (): void => {
    timer ??= setTimeout(look, SETTLE_MS);
  };
  const watching = (directory: string, happened: () => void): FSWatcher => {
    const watcher = watch(directory, { persistent: false }, () => {
      // The first look must find the state settled or not by itself, so what is there now is what to compare with.
      happened();
      if (timer === undefined) seen = state();
      lookSoon();
    });
    watcher.on('error', (error) => {
      log.warn({ err: error }, `${directory} cannot be watched any more; after a change of the config send SIGHUP`);
    });
    return watcher;
  };

  const watchers: FSWatcher[] = [];
  let clientsWatcher: FSWatcher | undefined;
  let watched: string | undefined;
  /** Follows `clientsDirectory` when another directory has come into its place. */
  const watchClients = (): void => {
    if (clientsDirectory === undefined) return;
    const found = statSync(clientsDirectory, { throwIfNoEntry: false });
    const now = found && `${found.dev} ${found.ino}`;
    if (now === watched) return;
    watched = now;
    touched = true;
    clientsWatcher?.close();
    clientsWatcher =
      now === undefined
        ? undefined
        : watching(clientsDirectory, () => {
            touched = true;
          });
  };
  try {
    // Where a file is a link, both places count.
    const directories = [dirname(file), dirname(realpathSync(file))];
    if (clientsDirectory !== undefined) directories.push(dirname(clientsDirectory));
    for (const directory of new Set(directories)) watchers.push(watching(directory, () => undefined));
    watchClients();
  } catch (error) {
    log.warn({}, `the config cannot be watched (${messageOf(error)}); after a change of it send SIGHUP`);
  }
  return () => {
    clearTimeout(timer);
    clientsWatcher?.close();
    for (const watcher of watchers) watcher.close();
  };
}
