/**
 * Logins that are tried before any client comes: a real sshd with this machine's settings, which serves two connections on the loopback and
 * is gone. A key that nobody has is refused, and that by AuthorizedKeysCommand; another, let in for this once, starts the forced command as
 * a client's would, for a client that does not exist.
 *
 * Source: sshd(8), -i: one connection on stdin and stdout.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { invalid } from '../../config/problems.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { messageOf } from '../../core/errors.ts';
import { authorizedKeysLine } from '../../frontends/authorized-keys.ts';
import { generateOpenSshKey } from '../../frontends/openssh-key.ts';
import { logIn, whatIsSaid } from '../../probe/connection.ts';
import { SSHD } from '../sshd.ts';

/** For each step of a login, in ms: a busy machine may take long to start Node. */
const PATIENCE_MS = 60_000;
/** Of sshd's log, what says that a login went wrong before any key was looked at. */
const TELLING = /^(?!debug).*(?:not allowed|locked|expired|fatal|error|denied|ownership|exist|Missing|not found)/i;
const COMMAND_FAILS = /(?:Unsafe AuthorizedKeysCommand|AuthorizedKeysCommand .*(?:failed|exited|signal)).*/;

/** What is tried. */
interface Trial {
  readonly user: string;
  /** The text of sshd_config as it is to be. */
  readonly text: string;
  /** Absolute paths of Node and of the gateway's executable. */
  readonly program: readonly string[];
  readonly config: GatewayConfig;
  /** Whether AuthorizedKeysCommand is to decide on keys, and not authorized_keys. */
  readonly byCommand: boolean;
  /** Ends the attempt. */
  readonly signal?: AbortSignal;
}

/** Does work with a directory for `tryLogins`, which is gone afterwards. */
export async function inTrialDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'restic-gateway-sshd-'));
  try {
    chmodSync(directory, 0o755);
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/**
 * @param directory - of `inTrialDirectory`
 * @throws GatewayError `invalid-config` with what went wrong, in sshd's own words
 */
export async function tryLogins(
  directory: string,
  { user, text, program, config, byCommand, signal }: Trial,
): Promise<void> {
  const [stranger, guest] = [generateOpenSshKey('stranger'), generateOpenSshKey('guest')];
  const name = unusedName(config);
  const [, blob = ''] = guest.publicLine.split(' ');
  const line = authorizedKeysLine({ name, from: [] }, { type: 'ssh-ed25519', blob }, { program, config: config.file });
  const [keys, guests, file] = ['authorized_keys', 'guests', 'sshd_config'].map((one) => join(directory, one));
  writeFileSync(keys ?? '', `${line}\n`, { mode: 0o644 });
  // The first value counts, and what is in a file that is included ends with it.
  writeFileSync(guests ?? '', `Match User ${user}\n    AuthorizedKeysFile ${keys}\n`, { mode: 0o600 });
  writeFileSync(file ?? '', `Include ${guests}\n${text}\n`, { mode: 0o600 });

  const refused = await connect(file ?? '', user, stranger.privateKey, signal);
  if (refused.in) throw invalid(`sshd lets ${user} in with a key that no client has`);
  const problem = refused.log.map((one) => COMMAND_FAILS.exec(one)?.[0]).find((found) => found !== undefined);
  if (problem !== undefined) throw invalid(`sshd cannot use its AuthorizedKeysCommand: ${problem}`);
  if (byCommand && !refused.log.some((one) => one.includes(`running as ${user}`)))
    throw invalid(`sshd did not start its AuthorizedKeysCommand as ${user}: ${whyIn(refused)}`);

  const session = await connect(file ?? '', user, guest.privateKey, signal);
  if (!session.in) throw invalid(`sshd does not let ${user} in: ${whyIn(session)}`);
  if (session.result?.includes(`client ${name} is not known here`) !== true)
    throw invalid(
      `the forced command does not start as ${user}: ${(session.result ?? '').trim() || 'it said nothing'}`,
    );
}

/** What sshd says of a login that went wrong. */
function whyIn({ log, why }: Outcome): string {
  return log.filter((one) => TELLING.test(one)).at(-1) ?? why;
}

function unusedName({ clients }: GatewayConfig): string {
  for (let name = 'sshd-setup'; ; name += '-') if (!Object.hasOwn(clients, name)) return name;
}

interface Outcome {
  readonly in: boolean;
  readonly why: string;
  readonly log: readonly string[];
  readonly result: string | undefined;
}

/** One connection, served by an sshd of its own. */
async function connect(file: string, user: string, privateKey: string, signal?: AbortSignal): Promise<Outcome> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const known = { types: undefined, accepts: () => true, refusal: () => '' };
    const login = logIn({ host: '127.0.0.1', port, user, timeoutMs: PATIENCE_MS, known }, { privateKey });
    const [socket] = await accepted;
    server.close();
    const options = ['-o', 'LogLevel=DEBUG3', '-o', 'StrictModes=no'];
    const sshd = spawn(SSHD, ['-i', '-e', '-f', file, ...options], { stdio: [socket, socket, 'pipe'] });
    socket.destroy();
    const end = (): boolean => sshd.kill();
    signal?.addEventListener('abort', end);
    const ended = Promise.all([textOf(sshd.stderr), once(sshd, 'close')]);
    const outcome = await login;
    let result: string | undefined;
    if (outcome.in) {
      result = await whatIsSaid(outcome.client, 'sshd-setup', PATIENCE_MS).catch(messageOf);
      outcome.client.end();
    }
    const timer = setTimeout(() => sshd.kill('SIGKILL'), PATIENCE_MS);
    const [log] = await ended;
    clearTimeout(timer);
    signal?.throwIfAborted();
    signal?.removeEventListener('abort', end);
    return { in: outcome.in, why: outcome.in ? '' : outcome.why, log: log.split(/\r?\n/), result };
  } finally {
    server.close();
  }
}
