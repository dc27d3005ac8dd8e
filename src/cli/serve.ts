/** `restic-gateway serve`: the SSH door as a daemon, until SIGTERM or SIGINT. */
import cluster from 'node:cluster';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { createGateway } from '../gateway/gateway.ts';
import type { Log } from '../ports/log.ts';
import { proveStores } from '../safeguard/prove-stores.ts';
import { collectGarbageForThroughput } from './garbage-collection.ts';
import { surviveDefects } from './last-net.ts';
import { createLog } from './logger.ts';
import { loadOwnConfig } from './own-user.ts';
import { startWorkers } from './serve/primary.ts';
import { reloadOnChange } from './serve/reload.ts';
import { processesOf, startService, type Service } from './serve/service.ts';
import { catchStopSignals } from './serve/stopping.ts';
import { runWorker } from './serve/worker.ts';

/** @throws GatewayError `invalid-config` when it cannot start as configured, or when no store can be used */
export async function runServe({ config: file }: { readonly config: string | undefined }): Promise<number> {
  collectGarbageForThroughput();
  const log = await createLog();
  if (cluster.isWorker) return runWorker(log);
  const config = await loadOwnConfig(file);
  const workers = processesOf(config);
  // One process needs none above it.
  await tryStores(config, log);
  await proveStores(config, log, { anew: true });
  const service = workers === 1 ? startService({ config, log }) : startWorkers(workers, config, log);
  const serving = await service;
  // What goes wrong before this is the start's to tell.
  surviveDefects(log);
  await serve(config, log, serving);
  return 0;
}

async function serve(config: GatewayConfig, log: Log, service: Service): Promise<void> {
  const { host, port } = service.address;
  for (const fingerprint of service.hostKeys) log.info({ fingerprint }, `host key ${fingerprint}`);
  // The SDK would say so on stderr itself, also where a client's user reads it; here it reaches who can act on it.
  if (Number.parseInt(process.versions.node, 10) < 22 && Object.values(config.stores).some(({ type }) => type === 's3'))
    log.warn(
      { node: process.version },
      'the AWS SDK will need Node.js 22 or newer in its coming versions; plan to upgrade',
    );
  const { describeRuntime, NOT_NATIVE } = await import('./runtime.ts');
  const { node, trouble, encryption } = describeRuntime();
  if (trouble !== undefined) log.warn({ node }, trouble);
  if (encryption === 'node') log.info({ node }, NOT_NATIVE);
  const clients = Object.keys(config.clients).length;
  const signals = catchStopSignals();
  const { openMonitor } = await import('../monitor/monitor.ts');
  const monitor = openMonitor({ config, log, watch: true });
  const { copyAudit } = await import('./serve/copy-audit.ts');
  const copying = copyAudit(config, log);
  const { forwardAudit } = await import('../audit/forwarding.ts');
  const forwarding = forwardAudit(config, log);
  const { openWeb } = await import('./serve/web.ts');
  let current = config;
  const stopped = { yet: false };
  const web = await openWeb(config, log, {
    config: () => current,
    isListening: () => !stopped.yet && service.isListening(),
    monitor,
    served: () => service.served(),
  }).catch(async (error: unknown) => {
    await service.close();
    await monitor.close();
    await copying.close();
    throw error;
  });
  const reloading = reloadOnChange(config, log, async (next) => {
    const takeUpWeb = web.prepare(next);
    await service.reconfigure(next);
    takeUpWeb();
    current = next;
    monitor.reconfigure(next);
    copying.reconfigure(next);
    forwarding.reconfigure(next);
    // Not waited for: a store that hangs must not keep the next change from being taken up.
    void proveStores(next, log, { anew: false });
  });
  log.info({ host, port, clients, config: config.file }, `listening on ${host}:${port} for ${clients} clients`);

  const signal = await signals.first;
  reloading.stop();
  stopped.yet = true;
  const sessions = service.sessionCount();
  const { drainSeconds } = reloading.config();
  log.info(
    { signal, sessions },
    sessions === 0
      ? `stopping on ${signal}`
      : `stopping on ${signal}: ${sessions} sessions may go on for ${drainSeconds} s; a second signal ends them at once`,
  );
  const timer = new AbortController();
  const late = new Promise<void>((resolve) => {
    const timeout = setTimeout(resolve, drainSeconds * 1000);
    timer.signal.addEventListener('abort', () => {
      clearTimeout(timeout);
    });
  });
  await Promise.race([service.drain(), late, signals.second]);
  timer.abort();
  await service.close();
  await web.close();
  await monitor.close();
  // Last, so that all of the audit is in the copies.
  await Promise.all([copying.close(), forwarding.close()]);
}

/** @throws GatewayError `invalid-config` when no store can be used; a store that cannot be reached now is told in the log */
async function tryStores(config: GatewayConfig, log: Log): Promise<void> {
  const gateway = await createGateway({ config, log });
  try {
    const wrong = await gateway.reachStores();
    for (const [store, error] of wrong) log.error({ err: error, store }, `store ${store}: ${error.message}`);
    // One store that is set up wrong must not take the others' clients down; a gateway with nothing that works says so and ends.
    const stores = new Set(Object.values(config.clients).map((client) => client.repository.store));
    const hopeless = [...wrong.values()].filter(
      ({ code }) => code === 'store-misconfigured' || code === 'invalid-config',
    );
    const [first] = hopeless;
    if (first !== undefined && hopeless.length === stores.size)
      throw new GatewayError('invalid-config', { detail: first.message, cause: first });
  } finally {
    await gateway.close();
  }
}
