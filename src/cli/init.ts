/** `restic-gateway init`: a first config, host key and directories. All of it is made, or nothing; what is there is kept. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { parseConfig } from '../config/load.ts';
import { mustBeTrusted, trustedUsers } from '../config/trusted-files.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { shellQuote } from '../frontends/authorized-keys.ts';
import { readHostKey } from '../frontends/host-key.ts';
import { generateOpenSshKey } from '../frontends/openssh-key.ts';
import type { StoreCheckPoint } from '../ports/repository-store.ts';
import { reachStore } from '../safeguard/try-stores.ts';
import type { Account } from './account.ts';
import { collectAnswers, type Answers, type InitOptions } from './init/answers.ts';
import { openTerminal } from './init/ask.ts';
import { chooseOwner, type Owner } from './init/owner.ts';
import { firstConfig, type FirstStore } from './init/template.ts';
import { undoable, type Undoable } from './init/undoable.ts';
import { refuseInForcedCommand } from './program.ts';
import { makeRoom, withProgress } from './progress.ts';

const SYSTEM_DIRECTORY = '/etc/restic-gateway';

/** @returns the exit status. @throws GatewayError when something is missing or the store does not work; nothing is left then */
export async function runInit(
  options: InitOptions & {
    readonly config: string | undefined;
    readonly user: string | undefined;
    readonly quiet: boolean;
  },
): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  const fromEnvironment = process.env['RESTIC_GATEWAY_CONFIG'];
  const named = options.config ?? (fromEnvironment === '' ? undefined : fromEnvironment);
  const file = resolve(named ?? join(SYSTEM_DIRECTORY, 'gateway.yaml'));
  if (existsSync(file))
    throw new GatewayError('usage', {
      detail: `${file} exists already and is kept; check it with: restic-gateway check, or name another with -c FILE`,
    });
  const owner = await chooseOwner(options.user, dirname(file) === SYSTEM_DIRECTORY);
  const terminal = openTerminal();
  const answers = await collectAnswers(options, terminal).finally(() => terminal?.close());

  const made = undoable();
  const stopped = (signal: NodeJS.Signals): void => {
    made.undo();
    makeRoom();
    process.stderr.write('restic-gateway: stopped; nothing was made\n');
    process.kill(process.pid, signal);
  };
  process.once('SIGINT', stopped).once('SIGTERM', stopped);
  const notes: string[] = [];
  let config;
  try {
    config = await make(file, answers, made, notes, owner);
  } catch (error) {
    made.undo();
    throw error;
  } finally {
    process.off('SIGINT', stopped).off('SIGTERM', stopped);
  }
  if (!options.quiet) {
    const [hostKey] = await Promise.all(config.hostKeys.map((key) => readHostKey(key, usersOf(owner))));
    for (const note of notes) process.stdout.write(`${note}\n`);
    if (owner !== undefined) process.stdout.write(`all of it is for the user ${owner.name} to use\n`);
    process.stdout.write(`the store works; the host key is ${hostKey?.fingerprint ?? ''}\n\nNext:\n`);
    const option = named === undefined ? '' : ` -c ${shellQuote(file)}`;
    const address = `--host ${hostname()}`;
    process.stdout.write(
      `  restic-gateway client add NAME --generate ${address}${option}\n  restic-gateway serve${option}\n`,
    );
  }
  return 0;
}

/** @param owner - the gateway's user, where that is not this one. The config stays this one's, for that user to read alone */
async function make(
  file: string,
  answers: Answers,
  made: Undoable,
  notes: string[],
  owner: Account | undefined,
): Promise<GatewayConfig> {
  const base = dirname(file);
  const system = base === SYSTEM_DIRECTORY;
  const hostKey = join(base, 'ssh_host_ed25519_key');
  const auditFile = system ? '/var/log/restic-gateway/audit.jsonl' : join(base, 'audit', 'audit.jsonl');
  const note = (isNew: boolean, what: string, path: string): void => {
    notes.push(isNew ? `made ${what} ${path}` : `kept ${what} ${path}, which was there`);
  };

  made.directory(base, 0o755);
  // What lies elsewhere would be refused as soon as it is made.
  mustBeTrusted(base);
  const store = storeOf(answers, { base, owner }, made, note);
  const first = { user: owner?.name, listen: answers.listen, hostKey, store, auditFile };
  const text = firstConfig(first);
  const config = parseConfig(text, file);
  const { privateKey, publicLine } = generateOpenSshKey(`restic-gateway@${hostname()}`);
  const newKey = made.file(hostKey, privateKey, 0o600, owner);
  note(newKey, 'the host key', hostKey);
  if (newKey) made.file(`${hostKey}.pub`, `${publicLine}\n`, 0o644);
  await readHostKey(hostKey, usersOf(owner));
  note(made.directory(dirname(auditFile), 0o750, owner), 'the directory of the audit', dirname(auditFile));
  made.directory(config.state, 0o750, owner);
  if (store.type === 'directory') note(made.directory(store.path, 0o700, owner), 'the store', store.path);
  const mayRead = owner && { uid: process.getuid?.() ?? owner.uid, gid: owner.gid };
  await withProgress('trying the store', () =>
    owner === undefined || owner.uid === process.getuid?.()
      ? tryStore(config)
      : // On any port: the one to serve on may well be another gateway's still.
        tryStoreAs(owner, firstConfig({ ...first, listen: '127.0.0.1:0' }), file, mayRead),
  );
  // The last, so that whoever finds a config finds all that it names.
  if (!made.file(file, text, 0o640, mayRead))
    throw new GatewayError('usage', { detail: `${file} was made by someone else meanwhile, and is kept` });
  note(true, 'the config', file);
  return config;
}

function storeOf(
  { store }: Answers,
  { base, owner }: { readonly base: string; readonly owner: Account | undefined },
  made: Undoable,
  note: (isNew: boolean, what: string, path: string) => void,
): FirstStore {
  if (store.type === 'directory') return { type: store.type, path: resolve(store.path) };
  const { credentials, ...bucket } = store;
  if (credentials === undefined) return { ...bucket, credentials };
  const { accessKeyId, secret } = credentials;
  if ('file' in secret) return { ...bucket, credentials: { accessKeyId, secretAccessKeyFile: resolve(secret.file) } };
  const secretAccessKeyFile = join(base, 'main.secret');
  if (!made.file(secretAccessKeyFile, `${secret.typed}\n`, 0o600, owner))
    throw new GatewayError('usage', {
      detail: `${secretAccessKeyFile} exists already and is kept; if it holds this secret, name it with --secret-access-key-file`,
    });
  note(true, 'the secret', secretAccessKeyFile);
  return { ...bucket, credentials: { accessKeyId, secretAccessKeyFile } };
}

/** @throws GatewayError that says why the store cannot be used */
async function tryStore({ stores }: GatewayConfig): Promise<void> {
  for (const store of Object.values(stores))
    try {
      await reachStore(store, []);
    } catch (error) {
      const wrong = asGatewayError(error);
      throw new GatewayError(wrong.code, {
        detail: `the store does not work: ${wrong.message}; nothing was made`,
        cause: wrong,
      });
    }
}

/** Whose host keys are taken: those of the gateway's user, too. */
function usersOf(owner: Account | undefined): readonly number[] {
  return owner === undefined ? trustedUsers() : [...trustedUsers(), owner.uid];
}

/**
 * Tries the store as the gateway's user, who will use it, and into whose directories root does not write.
 * @param mayRead - whom the config is for
 * @throws GatewayError that says why the store cannot be used
 */
async function tryStoreAs(user: Account, text: string, file: string, mayRead: Owner | undefined): Promise<void> {
  const trial = `${file}.trial`;
  const attempt = undoable();
  const failed = (why: string): GatewayError =>
    new GatewayError('invalid-config', {
      detail: `the store does not work for ${user.name}: ${why}; nothing was made`,
    });
  if (!attempt.file(trial, text, 0o640, mayRead))
    throw new GatewayError('usage', { detail: `${trial} is left of an init that was cut off; remove it` });
  try {
    const { startAs } = await import('./root.ts');
    const [, script = ''] = process.argv;
    const child = await startAs(user, [script, 'check', '--live', '--json', '-c', trial], {}, [
      'ignore',
      'pipe',
      'pipe',
    ]);
    const output = (stream: Readable | null) => (stream === null ? '' : textOf(stream));
    const [stdout, stderr] = await Promise.all([output(child.stdout), output(child.stderr), once(child, 'close')]);
    if (child.exitCode === 0) return;
    const [line = ''] = stderr.replace(/^restic-gateway: /, '').split('\n');
    if (line !== '') throw failed(line);
    const { checks } = JSON.parse(stdout) as { readonly checks: readonly StoreCheckPoint[] };
    throw failed(
      checks
        .filter(({ outcome }) => outcome === 'fails')
        .map(({ detail }) => detail)
        .join('; '),
    );
  } finally {
    attempt.undo();
  }
}
