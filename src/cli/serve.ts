/** `restic-gateway serve`: the SSH door as a daemon, until SIGTERM or SIGINT. */
import { findConfigFile, loadConfig } from '../config/load.ts';
import { GatewayError } from '../core/errors.ts';
import { openSshDoor } from '../doors/ssh-server.ts';
import { createGateway } from '../gateway.ts';
import { createLog } from './logger.ts';

/** @throws GatewayError `invalid-config` when it cannot start as configured, `store-misconfigured` when no store can be used */
export async function runServe({ config: file }: { readonly config: string | undefined }): Promise<number> {
  const config = loadConfig(findConfigFile(file));
  const log = await createLog();
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
    if (first !== undefined && hopeless.length === stores.size) throw first;

    const door = await openSshDoor({ config, openSession: gateway.openSession, log });
    const { host, port } = door.address;
    for (const { fingerprint } of door.hostKeys) log.info({ fingerprint }, `host key ${fingerprint}`);
    const clients = Object.keys(config.clients).length;
    log.info({ host, port, clients, config: config.file }, `listening on ${host}:${port} for ${clients} clients`);
    const signal = await stopSignal();
    log.info({ signal, sessions: gateway.sessionCount() }, `stopping on ${signal}`);
    await gateway.close();
    await door.close();
    return 0;
  } catch (error) {
    await gateway.close();
    throw error instanceof GatewayError && error.code === 'store-misconfigured'
      ? new GatewayError('invalid-config', { detail: error.message, cause: error })
      : error;
  }
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
}
