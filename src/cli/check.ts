/** `restic-gateway check`: reads the config as `serve` would, like `sshd -t`, and says what is wrong with it; `--live` tries the stores too. */
import { findConfigFile, loadConfig } from '../config/load.ts';
import { readSecret } from '../config/secrets.ts';
import { GatewayError } from '../core/errors.ts';
import { readHostKey } from '../doors/host-key.ts';
import type { StorageCheck } from '../ports/repository-store.ts';
import { formatBytes, styled, table } from './terminal.ts';

/**
 * @returns the exit status: 0 when all is well, 1 when a store does not hold what it must; what is wrong with the config is thrown as
 * GatewayError `invalid-config`
 */
export async function runCheck({
  config: file,
  live,
  json,
}: {
  readonly config: string | undefined;
  readonly live: boolean;
  readonly json: boolean;
}): Promise<number> {
  const config = loadConfig(findConfigFile(file));
  await Promise.all(config.hostKeys.map(readHostKey));
  for (const store of Object.values(config.stores))
    if (store.type === 's3' && store.credentials !== undefined) readSecret(store.credentials.secret);
  const clients = Object.keys(config.clients).length;
  const stores = Object.keys(config.stores).length;
  const found = live ? await tryStores(config) : [];
  const failed = found.filter(({ outcome }) => outcome === 'fails').length;
  if (json) {
    const checks = live ? { checks: found, good: failed === 0 } : {};
    process.stdout.write(`${JSON.stringify({ config: config.file, clients, stores, ...checks })}\n`);
    return failed === 0 ? 0 : 1;
  }
  const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`;
  process.stdout.write(`${config.file}: good, ${count(clients, 'client')}, ${count(stores, 'store')}\n`);
  if (!live) return 0;
  const columns = ['STORE', 'WHAT', 'RESULT', 'DETAIL'].map((title) => ({ title }));
  const rows = found.map(({ store, what, outcome, detail, freeBytes }) => [
    ...[store, what, outcome],
    freeBytes === undefined ? detail : `${formatBytes(freeBytes)}: ${detail}`,
  ]);
  process.stdout.write(`\n${table(columns, rows)}`);
  if (failed > 0)
    process.stdout.write(`\n${styled(process.stdout, 'red', `${count(failed, 'thing')} must be put right`)}\n`);
  return failed === 0 ? 0 : 1;
}

type FoundCheck = StorageCheck & { readonly store: string };

async function tryStores(config: ReturnType<typeof loadConfig>): Promise<readonly FoundCheck[]> {
  const { probeStores } = await import('../safeguard/probe-stores.ts');
  return [...(await probeStores(config))].flatMap(([store, probe]): readonly FoundCheck[] => {
    if (probe instanceof GatewayError) return [{ store, what: 'reached', outcome: 'fails', detail: probe.message }];
    return probe.checks.map((check) => ({ store, ...check }));
  });
}
