/**
 * The daemon, in the process that serves alone or above the workers: what it is made of, in the order in which it starts, follows the
 * config and ends.
 */
import { forwardAudit } from '../audit/forwarding.ts';
import { openAudit } from '../audit/open-audit.ts';
import type { GatewayConfig } from '../config/types.ts';
import { counted } from '../core/quantities.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { written } from '../core/listening.ts';
import { processesOf } from '../limits/memory-limits.ts';
import type { Fleet } from '../database/fleet.ts';
import { openMonitor, type Monitor } from '../monitor/monitor.ts';
import type { Log } from '../ports/log.ts';
import { reachStores } from '../safeguard/try-stores.ts';
import { leaveServing, writeServing, type Reading } from '../state/serving.ts';
import { LEAST_OPEN_FILES, openFiles, tooFewOpenFiles } from '../state/open-files.ts';
import { copyAudit } from './copy-audit.ts';
import { extendDaily } from './extend-daily.ts';
import { surviveDefects } from './last-net.ts';
import { notifyTargets } from './notify.ts';
import { startParts, together, type Start } from './parts.ts';
import { startWorkers } from './primary.ts';
import { purgeDaily } from './purge-trash.ts';
import { reloadOnChange } from './reload.ts';
import { serviceManager } from './service-manager.ts';
import { startService, type Service } from './service.ts';
import { catchStopSignals, drained } from './stopping.ts';
import { watchAudit } from './watch-audit.ts';
import { openWeb } from './web.ts';
import { storeChecks } from './store-checks.ts';

/**
 * Serves until SIGTERM or SIGINT.
 * @param options.version - of this program, for the metrics
 * @param options.started - called when clients can connect, and before the log says so
 * @throws GatewayError `invalid-config` when it cannot start as configured, or when no store can be used
 */
export async function runDaemon(options: {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly version: string;
  readonly started: () => void;
}): Promise<void> {
  const { config, log, version, started } = options;
  let current = config;
  let stopping = false;
  const manager = serviceManager(log);
  const workers = processesOf(config);
  lookAtOpenFiles(config, workers, log);
  // Before anything is tried: without an audit log there is no gateway.
  await (await openAudit(config, log)).close();
  await tryStores(config, log);
  const stores = await storeChecks(config, log);
  // One process needs none above it.
  const fleet = await joinFleet(config, version, log);
  // Without whom other gateways keep out.
  const effective = fleet?.effective() ?? config;
  const service = await (workers === 1
    ? startService({ config: effective, log })
    : startWorkers(workers, effective, log));
  // What goes wrong before this is an error of the start.
  surviveDefects(log);
  for (const fingerprint of service.hostKeys) log.info({ fingerprint }, `host key ${fingerprint}`);
  started();
  const signals = catchStopSignals();
  let opened: Monitor | undefined;
  const monitor = (): Monitor => (opened ??= openMonitor({ config: current, log, watch: true }));
  const sources = {
    ...{ version, monitor, config: () => current, served: () => service.served() },
    isListening: () => !stopping && service.isListening(),
    isAnyStoreSafe: () => stores.isAnySafe(),
  };
  const starts: readonly Start[] = [
    () => service,
    () => openWeb(config, log, sources),
    // Before the monitor that it asks, which ends after it.
    () => notifyTargets(config, log, sources),
    monitor,
    // At the end, so that all of the audit is in the copies.
    () => together(copyAudit(config, log), forwardAudit(config, log)),
    () => stores,
    () => purgeDaily(config, log, monitor),
    () => extendDaily(config, log),
    () => watchAudit(config, log),
  ];
  const parts = await startParts(starts);
  const takeUp = async (next: GatewayConfig): Promise<void> => {
    await parts.reconfigure(next);
    current = next;
  };
  fleet?.follow(takeUp);
  const apply = (next: GatewayConfig): Promise<void> => (fleet === undefined ? takeUp(next) : fleet.reconfigure(next));
  // Where the start said it is: a reload does not move `state`.
  const read = async (reading: Reading): Promise<void> => {
    await writeServing(config.state, config.file, reading).catch((error: unknown) => {
      log.error({ err: error }, `restic-gateway reload cannot learn how the config was read: ${messageOf(error)}`);
    });
  };
  await read({ hangUps: 0, file: '', taken: true, waits: false, words: 'started' });
  const reloading = reloadOnChange(config, log, apply, async (reading) => {
    await read(reading);
    manager.status(reading.taken ? listening(current, service) : `the config is not taken up: ${reading.words}`);
  });
  const [{ host, port } = { host: '', port: 0 }] = service.addresses;
  const clients = Object.keys(config.clients).length;
  log.info({ host, port, clients, config: config.file }, listening(config, service));
  manager.ready(listening(config, service));

  const signal = await signals.first;
  reloading.stop();
  stopping = true;
  const sessions = service.sessionCount();
  const { drainSeconds } = reloading.config();
  const words =
    sessions === 0
      ? `stopping on ${signal}`
      : `stopping on ${signal}: ${sessions} sessions may go on for ${drainSeconds} s; a second signal ends them at once`;
  log.info({ signal, sessions }, words);
  manager.stopping(words);
  await drained(service.drain(), drainSeconds, signals.second);
  await parts.close();
  await fleet?.close();
  await leaveServing(config.state);
}

/** What is shared with other gateways; undefined where the config names no database. */
async function joinFleet(config: GatewayConfig, version: string, log: Log): Promise<Fleet | undefined> {
  const { database } = config;
  if (database === undefined) return undefined;
  const { openFleet } = await import('../database/fleet.ts');
  return openFleet({ config, database, version, isServe: true, log });
}

function listening({ clients }: GatewayConfig, { addresses }: Service): string {
  return `listening on ${addresses.map(written).join(', ')} for ${counted(Object.keys(clients).length, 'client')}`;
}

/** @throws GatewayError `invalid-config` where no session would have room; what is enough for fewer than `maxSessions` is told in the log */
function lookAtOpenFiles({ maxSessions }: GatewayConfig, processes: number, log: Log): void {
  const files = openFiles();
  const detail = tooFewOpenFiles(files, maxSessions, processes);
  if (detail === undefined) return;
  if (files.limit < LEAST_OPEN_FILES) throw new GatewayError('invalid-config', { detail });
  log.warn({ openFiles: files.limit }, detail);
}

/** @throws GatewayError `invalid-config` when no store can be used; a store that cannot be reached now is logged */
async function tryStores(config: GatewayConfig, log: Log): Promise<void> {
  const wrong = await reachStores(config);
  for (const [store, error] of wrong) log.error({ err: error, store }, `store ${store}: ${error.message}`);
  // One store that is set up wrong must not take the others' clients down; a gateway with nothing that works says so and ends.
  const stores = new Set(Object.values(config.clients).map((client) => client.repository.store));
  const hopeless = [...wrong.values()].filter(
    ({ code }) => code === 'store-misconfigured' || code === 'invalid-config',
  );
  const [first] = hopeless;
  if (first !== undefined && hopeless.length === stores.size)
    throw new GatewayError('invalid-config', { detail: first.message, cause: first });
}
