/** Takes up a config that has changed, and logs what that means. */
import { isDeepStrictEqual } from 'node:util';
import { configState } from '../config/file-state.ts';
import { loadConfig } from '../config/load.ts';
import { invalid } from '../config/problems.ts';
import { withoutRevoked } from '../config/revoked.ts';
import { readSecrets } from '../config/secrets.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import type { Reading } from '../state/serving.ts';
import { watchConfig } from './watch-config.ts';

/** What is read once, at the start. */
const AT_START = ['listen', 'hostKeys', 'ssh', 'workers', 'database'] as const;

const SIGHUP = 'SIGHUP';

/** The most names in one line of the log; all of them are in its fields. */
const MOST_NAMES = 10;

/** For so long, in ms, a second SIGHUP confirms a config that waits. */
const CONFIRM_MS = 10 * 60 * 1000;
/** A config that leaves out more clients than this part of them waits: a file that was cut off is as valid as one that is meant. */
const MANY = 1 / 10;

/** The config as it is now, and how it changes. */
interface Reloading {
  /** The newest config that was taken up. */
  config(): GatewayConfig;
  /** Changes nothing from now on. */
  stop(): void;
}

/**
 * Reads the config again on SIGHUP and when its files have changed. A config that is wrong gives nothing new; what its right files take away
 * from clients holds all the same: see `revoked.ts`. One that takes much away at once
 * waits until a second SIGHUP confirms it.
 * @param apply - takes up a config that is right; when it throws, the one from before stays
 * @param concluded - hears how each reading went
 */
export function reloadOnChange(
  first: GatewayConfig,
  log: Log,
  apply: (config: GatewayConfig) => Promise<void>,
  concluded: (reading: Reading) => Promise<void>,
): Reloading {
  let config = first;
  // One after the other, so that the newest one stays.
  let reloading = Promise.resolve();
  let stopped = false;

  let hangUps = 0;
  /** The file that waits since a SIGHUP found it to take much away. */
  let waiting: { readonly file: string; readonly since: number } | undefined;

  const reload = async (why: string): Promise<void> => {
    if (stopped) return;
    const outcome = await takeUp(why);
    if (why === SIGHUP) hangUps += 1;
    if (outcome.taken) watch();
    await concluded({ hangUps, ...outcome });
  };
  const takeUp = async (why: string): Promise<Omit<Reading, 'hangUps'>> => {
    let file = configState(config.file, config.clientsDirectory);
    let next;
    try {
      next = loadConfig(config.file);
      if (next.clientsDirectory !== config.clientsDirectory) file = configState(config.file, next.clientsDirectory);
      readSecrets(next);
      mustKeepState(config, next);
      const loss = lossOf(config, next);
      const isConfirmed = why === SIGHUP && waiting?.file === file && performance.now() - waiting.since < CONFIRM_MS;
      if (loss !== undefined && !isConfirmed) {
        // What nobody has been told of cannot be confirmed.
        waiting = why === SIGHUP ? { file, since: performance.now() } : undefined;
        const words = `the config ${loss}; nothing has changed yet. If that is meant, run: restic-gateway reload --force`;
        log.error({ why }, words);
        return { file, taken: false, waits: true, words };
      }
      await apply(next);
      waiting = undefined;
    } catch (error) {
      log.error({ err: error, why }, 'the config was read again and is not used; the one from before stays in effect:');
      const { message } = asGatewayError(error);
      for (const line of message.split('\n')) log.error({}, line);
      if (next === undefined) await revoke(why);
      return { file, taken: false, waits: false, words: message };
    }
    const { added, removed, changed } = differences(config, next);
    const reported = Object.entries({ added, removed, changed }).flatMap(([what, names]) =>
      names.length === 0 ? [] : `${what} ${listed(names)}`,
    );
    for (const key of ['trustedUserCAKeys', 'revokedCertificates'] as const)
      if (!isDeepStrictEqual(config[key], next[key])) reported.push(`changed ${key}`);
    const words = `the config was read again: ${reported.length === 0 ? 'no client has changed' : reported.join('; ')}`;
    log.info({ why, added, removed, changed }, words);
    const late: string[] = AT_START.filter((key) => !isDeepStrictEqual(first[key], next[key]));
    if (!isDeepStrictEqual(first.metrics?.listen, next.metrics?.listen)) late.push('metrics.listen');
    config = next;
    if (late.length === 0) return { file, taken: true, waits: false, words };
    const restart = `${late.join(', ')}: what was changed there needs a restart`;
    log.warn({ keys: late }, restart);
    return { file, taken: true, waits: false, words: `${words}\n${restart}` };
  };
  /** What is taken away by files that are right holds although others are wrong, unless it is so much that somebody has to confirm it. */
  const revoke = async (why: string): Promise<void> => {
    const less = withoutRevoked(config);
    if (less === undefined) return;
    const { removed, restricted, certificates } = less;
    const loss = lossOf(config, less.config);
    if (loss !== undefined) {
      log.error({ why }, `what is right of the config ${loss}; that waits until all of it is right`);
      return;
    }
    try {
      await apply(less.config);
    } catch (error) {
      log.error(
        { err: error, why },
        `what the config takes away could not be taken away: ${asGatewayError(error).message}`,
      );
      return;
    }
    config = less.config;
    const told = Object.entries({ removed, restricted }).flatMap(([what, names]) =>
      names.length === 0 ? [] : `${what} ${listed(names)}`,
    );
    if (certificates) told.push('fewer certificates');
    log.warn(
      { why, removed, restricted, certificates },
      `what the right files of the config take away holds all the same: ${told.join('; ')}`,
    );
  };
  const begin = (why: string): void => {
    reloading = reloading.then(() => reload(why));
  };
  const onHangUp = (): void => {
    begin(SIGHUP);
  };
  process.on('SIGHUP', onHangUp);
  let watched: string | undefined;
  let unwatch: (() => void) | undefined;
  /** Watches the directories that the config is in now. */
  const watch = (): void => {
    const { file, clientsDirectory } = config;
    if (stopped || (unwatch !== undefined && watched === clientsDirectory)) return;
    unwatch?.();
    watched = clientsDirectory;
    const changed = (): void => {
      begin('the file has changed');
    };
    unwatch = watchConfig(file, clientsDirectory, changed, log);
  };
  watch();
  return {
    config: () => config,
    stop: () => {
      // A SIGHUP that comes later must still not end the process.
      stopped = true;
      unwatch?.();
    },
  };
}

function differences(before: GatewayConfig, after: GatewayConfig) {
  // A client is another one when the store is another one that it is on.
  const whole = ({ clients, stores }: GatewayConfig, name: string) => {
    const client = clients[name];
    return client && { client, store: stores[client.repository.store] };
  };
  const names = Object.keys(after.clients);
  return {
    added: names.filter((name) => before.clients[name] === undefined),
    removed: Object.keys(before.clients).filter((name) => after.clients[name] === undefined),
    changed: names.filter(
      (name) => before.clients[name] !== undefined && !isDeepStrictEqual(whole(before, name), whole(after, name)),
    ),
  };
}

/** @throws GatewayError `invalid-config`: sessions, quotas and holds are counted where `serve` began to, and commands would count elsewhere */
function mustKeepState(before: GatewayConfig, { state }: GatewayConfig): void {
  if (state !== before.state)
    throw invalid(
      `state cannot become ${state} while serve runs with ${before.state}; restart serve, or change it back`,
    );
}

/** What a config takes away, if it is more than one would by hand: clients, or the place of their repositories. */
function lossOf(before: GatewayConfig, after: GatewayConfig): string | undefined {
  const all = Object.keys(before.clients);
  // One that goes on under another name is not left out.
  const ids = new Set(Object.values(after.clients).map(({ id }) => id));
  const clients = all.filter((name) => after.clients[name] === undefined && !ids.has(before.clients[name]?.id ?? name));
  const inUse = new Set(Object.values(before.clients).map(({ repository }) => repository.store));
  const placed = ({ name: _, ...place }: GatewayConfig['stores'][string]): unknown => place;
  const left = Object.values(after.stores).map(placed);
  const stores = [...inUse].filter((name) => {
    const store = before.stores[name];
    return (
      store !== undefined &&
      after.stores[name] === undefined &&
      !left.some((one) => isDeepStrictEqual(one, placed(store)))
    );
  });
  const losses = [
    ...(clients.length > 1 && clients.length > all.length * MANY
      ? [`leaves out ${clients.length} of ${all.length} clients (${listed(clients)})`]
      : []),
    ...(stores.length > 0
      ? [`leaves out ${stores.length === 1 ? 'a store that is' : 'stores that are'} in use (${listed(stores)})`]
      : []),
  ];
  return losses.length === 0 ? undefined : losses.join(' and ');
}

function listed(names: readonly string[]): string {
  const first = names.slice(0, MOST_NAMES).join(', ');
  return names.length > MOST_NAMES ? `${first} and ${names.length - MOST_NAMES} more` : first;
}
