/** `restic-gateway serve`: the SSH server as a daemon, until SIGTERM or SIGINT. */
import cluster from 'node:cluster';
import type { GatewayConfig } from '../config/types.ts';
import type { Log } from '../ports/log.ts';
import { collectGarbageForThroughput } from './garbage-collection.ts';
import { createLog } from './logger.ts';
import { loadOwnConfig } from './own-user.ts';
import { VERSION } from './version.ts';

/** @throws GatewayError `invalid-config` when it cannot start as configured, or when no store can be used */
export async function runServe({ config: file }: { readonly config: string | undefined }): Promise<number> {
  collectGarbageForThroughput();
  const log = await createLog();
  await loadInParts();
  if (cluster.isWorker) return (await import('../daemon/worker.ts')).runWorker(log);
  const config = await loadOwnConfig(file);
  const { describeRuntime, NOT_NATIVE } = await import('./runtime.ts');
  const { runDaemon } = await import('../daemon/daemon.ts');
  const started = (): void => {
    warnOfAwsSdk(config, log);
    const { node, trouble, encryption } = describeRuntime();
    if (trouble !== undefined) log.warn({ node }, trouble);
    if (encryption === 'node') log.info({ node }, NOT_NATIVE);
  };
  await runDaemon({ config, log, version: VERSION, started });
  return 0;
}

/** Node opens all files of one import at once, and where few may be open, those of the whole daemon would be too many. */
async function loadInParts(): Promise<void> {
  await import('../gateway/gateway.ts');
  await import('../frontends/ssh-server.ts');
}

/** The SDK would say so on stderr itself, also where a client's user reads it; here it reaches who can act on it. */
function warnOfAwsSdk({ stores }: GatewayConfig, log: Log): void {
  if (Number.parseInt(process.versions.node, 10) >= 22 || !Object.values(stores).some(({ type }) => type === 's3'))
    return;
  log.warn(
    { node: process.version },
    'the AWS SDK will need Node.js 22 or newer in its coming versions; plan to upgrade',
  );
}
