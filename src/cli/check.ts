/** `restic-gateway check`: reads the config as `serve` would, like `sshd -t`, and says what is wrong with it; `--live` tries the stores too. */
import { readCaFile } from '../config/certificates.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError, type Problem } from '../config/problems.ts';
import { readSecrets } from '../config/secrets.ts';
import { readConfigText } from '../config/sources.ts';
import { GatewayError } from '../core/errors.ts';
import { readHostKey } from '../frontends/host-key.ts';
import { processesOf } from '../limits/memory-limits.ts';
import type { StoreCheckPoint } from '../ports/repository-store.ts';
import { openFiles, tooFewOpenFiles } from '../state/open-files.ts';
import { jsonLine } from './json.ts';
import { chooseConfigFile, goOnAsUser } from './own-user.ts';
import { pointAt } from './point-at.ts';
import { withProgress } from './progress.ts';
import { counted, formatBytes, printable, prose, styled, table, type Column } from './terminal.ts';

/** How many problems are shown: a wrong file may have any number. */
const MOST_SHOWN = 100;

/**
 * @returns the exit status: 0 when everything is OK, 1 when a store does not hold what it must, 2 when something is wrong in the config
 * @throws GatewayError `invalid-config` for what has no place in the config's text: no file, a host key, a secret;
 *   with `live`, for an address that `serve` could not listen on, and `audit-unavailable` or `state-unavailable` when whoever runs this
 *   cannot write what each session writes
 */
export async function runCheck({
  config: file,
  live,
  json,
  quiet,
}: {
  readonly config: string | undefined;
  readonly live: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}): Promise<number> {
  const found = chooseConfigFile(file);
  let config;
  try {
    config = loadConfig(found);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (json) process.stdout.write(jsonLine('check', { config: found, good: false, problems: error.problems }));
    else showProblems(found, error.problems);
    return 2;
  }
  if (!json && !quiet)
    for (const line of (await import('./sshd.ts')).sshdTrouble())
      process.stderr.write(`${styled(process.stderr, 'yellow', 'warning:')} ${printable(line)}\n`);
  // What the gateway's user cannot read, or others can, is reported as this user meets it.
  await goOnAsUser(config);
  await Promise.all(config.hostKeys.map((key) => readHostKey(key)));
  readSecrets(config);
  for (const store of Object.values(config.stores))
    if (store.type === 's3' && store.caFile !== undefined) readCaFile(store.caFile);
  if (config.database?.caFile !== undefined) readCaFile(config.database.caFile);
  if (live) {
    const { mustBeListenable, mustBeWritable } = await import('./check-host.ts');
    await mustBeWritable(config);
    await mustBeListenable(config);
  }
  const clients = Object.keys(config.clients).length;
  const stores = Object.keys(config.stores).length;
  const checks = live ? await tryStores(config) : [];
  const away = live ? await whyNoDatabase(config) : undefined;
  const failed = checks.filter(({ outcome }) => outcome === 'fails').length;
  const { describeRuntime, NOT_NATIVE } = await import('./runtime.ts');
  const runtime = describeRuntime();
  const files = tooFewOpenFiles(openFiles(), config.maxSessions, processesOf(config));
  const certificates = whyNoCertificates(config);
  if (json) {
    process.stdout.write(
      jsonLine('check', {
        ...{ config: config.file, good: failed === 0, clients, stores, runtime },
        ...(files && { openFiles: files }),
        ...(certificates && { certificates }),
        ...(away !== undefined && { database: away }),
        ...(live && { checks }),
      }),
    );
    return failed === 0 ? 0 : 1;
  }
  if (away !== undefined) process.stderr.write(warning(`the database: ${away}`));
  if (quiet && failed === 0) return 0;
  process.stdout.write(
    prose(`${printable(config.file)}: good, ${counted(clients, 'client')}, ${counted(stores, 'store')}`),
  );
  if (runtime.trouble !== undefined) process.stdout.write(warning(runtime.trouble));
  if (files !== undefined) process.stdout.write(warning(`for serve, started like this: ${files}`));
  if (certificates !== undefined) process.stdout.write(warning(certificates));
  if (runtime.encryption === 'node') process.stdout.write(prose(`note: ${NOT_NATIVE}`));
  if (!live) return 0;
  const columns: readonly Column[] = [
    { title: 'STORE', cut: { to: 8, at: 'middle' } },
    { title: 'WHAT', cut: { to: 16, at: 'end' } },
    { title: 'RESULT' },
    { title: 'DETAIL', cut: { to: 20, at: 'end' } },
  ];
  const rows = checks.map(({ store, what, outcome, detail, freeBytes }) => [
    ...[store, what, outcome],
    freeBytes === undefined ? detail : `${formatBytes(freeBytes)}: ${detail}`,
  ]);
  process.stdout.write(`\n${table(columns, rows)}`);
  if (failed > 0)
    process.stdout.write(`\n${styled(process.stdout, 'red', `${counted(failed, 'thing')} must be put right`)}\n`);
  return failed === 0 ? 0 : 1;
}

/** Why the database cannot be used; undefined when it can, and where there is none. Clients are served without it, too. */
async function whyNoDatabase(config: ReturnType<typeof loadConfig>): Promise<string | undefined> {
  if (config.database === undefined) return undefined;
  return (await import('./gateways.ts')).whyAway(config);
}

/** Why what the config says of certificates lets nobody in; undefined when it may, or says nothing. */
function whyNoCertificates({ clients, trustedUserCAKeys }: ReturnType<typeof loadConfig>): string | undefined {
  const named = Object.values(clients).find(({ principals }) => principals.length > 0);
  if (trustedUserCAKeys.length > 0)
    return named === undefined
      ? 'no client has principals, so the certificates of trustedUserCAKeys let nobody in'
      : undefined;
  return (
    named && `client ${named.name} has principals, but trustedUserCAKeys has no CA, so no certificate lets anybody in`
  );
}

function warning(text: string): string {
  return prose(`warning: ${text}`).replace(/^warning:/, styled(process.stdout, 'yellow', 'warning:'));
}

function showProblems(config: string, problems: readonly Problem[]): void {
  const texts = new Map<string, readonly string[]>();
  for (const problem of problems.slice(0, MOST_SHOWN)) {
    const { path, line, column, message, file = config } = problem;
    const lines = texts.get(file) ?? linesOf(file);
    texts.set(file, lines);
    process.stderr.write(
      `${styled(process.stderr, 'bold', `${printable(file)}:${line}:${column}:`)} ${printable(`${path === '' ? '' : `${path}: `}${message}`)}\n`,
    );
    for (const one of pointAt(lines, problem)) process.stderr.write(`${printable(one)}\n`);
  }
  if (problems.length > MOST_SHOWN) process.stderr.write(`and ${problems.length - MOST_SHOWN} problems more\n`);
}

function linesOf(file: string): readonly string[] {
  try {
    return readConfigText(file).split(/\r?\n/);
  } catch {
    // It is not to be read, or was there a moment ago; the places are shown without it.
    return [];
  }
}

type FoundCheck = StoreCheckPoint & { readonly store: string };

async function tryStores(config: ReturnType<typeof loadConfig>): Promise<readonly FoundCheck[]> {
  const { tryStores: probeStores } = await import('../safeguard/try-stores.ts');
  const all = Object.keys(config.stores);
  const left = new Set(all);
  const found = await withProgress(`trying ${all.join(', ')}`, ({ show }) =>
    probeStores(config, (done) => {
      left.delete(done);
      if (left.size > 0) show(() => `${counted(all.length - left.size, 'store')} tried, left: ${[...left].join(', ')}`);
    }),
  );
  return [...found].flatMap(([store, probe]): readonly FoundCheck[] => {
    if (probe instanceof GatewayError) return [{ store, what: 'reached', outcome: 'fails', detail: probe.message }];
    return probe.checks.map((check) => ({ store, ...check }));
  });
}
