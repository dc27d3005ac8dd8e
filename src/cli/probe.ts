/** `restic-gateway probe`: as a client over SSH, tries to overwrite, delete and escape, and says what held; for people and monitoring. */
import { homedir, userInfo } from 'node:os';
import path from 'node:path';
import { MOST_KEY_BYTES, readSmallFile } from '../config/small-file.ts';
import { GatewayError, messageOf } from '../core/errors.ts';
import { hostByFile, hostByFingerprint } from '../probe/known-hosts.ts';
import { probe, stateOfKey, type ProbeKey } from '../probe/probe.ts';
import { jsonLine } from './json.ts';
import { UsageError } from './command-line/usage-error.ts';
import { openTerminal } from './init/ask.ts';
import { withProgress } from './progress.ts';
import { printable, styled, table } from './terminal.ts';

const WORDS = { held: 'held', 'does-not-hold': 'DOES NOT HOLD', 'not-tried': 'not tried' } as const;

/**
 * @returns the exit status: 0 when all that was tried held, else 1
 * @throws GatewayError `usage`, and `session-refused` when the server cannot be probed
 */
export async function runProbe(given: {
  readonly host: string;
  readonly identity: string;
  readonly secondKey: string | undefined;
  readonly knownHosts: string | undefined;
  readonly hostKey: string | undefined;
  readonly user: string | undefined;
  readonly timeout: number;
  readonly json: boolean;
}): Promise<number> {
  const { host, port } = parseTarget(given.host);
  if (!(given.timeout >= 1 && given.timeout <= 3600)) throw new UsageError('--timeout takes seconds, from 1 to 3600');
  if (given.hostKey !== undefined && given.knownHosts !== undefined)
    throw new UsageError('give either --known-hosts or --host-key');
  const key = await readKey(given.identity);
  const second = given.secondKey === undefined ? undefined : await readKey(given.secondKey);
  const known =
    given.hostKey === undefined
      ? await hostByFile(given.knownHosts ?? path.join(homedir(), '.ssh', 'known_hosts'), host, port)
      : hostByFingerprint(given.hostKey);
  const target = { host, port, user: given.user ?? userInfo().username, timeoutMs: given.timeout * 1000, known };
  const result = await withProgress(`probing ${host}`, () => probe(target, key, second));
  if (given.json) {
    const { held: good, rows, notes, left } = result;
    const checks = rows.map(({ check, result: outcome, detail }) => ({ what: check, outcome, detail }));
    process.stdout.write(jsonLine('probe', { host, port, good, checks, notes, left }));
    return result.held ? 0 : 1;
  }
  const { stdout } = process;
  const lines = table(
    [
      { title: 'RESULT' },
      { title: 'A CLIENT MUST NOT', cut: { to: 24, at: 'end' } },
      { title: 'SEEN', cut: { to: 16, at: 'end' } },
    ],
    result.rows.map(({ check, result: outcome, detail }) => [WORDS[outcome], check, detail]),
  );
  stdout.write(lines.replace(/^DOES NOT HOLD/gm, (words) => styled(stdout, ['bold', 'red'], words)));
  for (const note of result.notes) stdout.write(`${printable(note)}\n`);
  for (const { object, damaged } of result.left)
    stdout.write(
      `Left in the repository: ${printable(object)}, ${
        damaged
          ? 'whose content is not what its name says: scrub calls it damaged; the server did not let the probe remove it, so remove it in the storage'
          : 'which restic never reads and the next prune removes'
      }.\n`,
    );
  const failed = result.rows.filter(({ result: outcome }) => outcome === 'does-not-hold').length;
  stdout.write(failed === 0 ? 'All that was tried held.\n' : `${failed} of ${result.rows.length} DO NOT HOLD.\n`);
  return failed === 0 ? 0 : 1;
}

/** @throws GatewayError `usage` */
function parseTarget(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:@/[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? 22 : Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535)
    throw new UsageError(`not a host: ${printable(text)}; give HOST, HOST:PORT or [IPV6]:PORT, and the user by --user`);
  return { host, port };
}

/** Reads a private key, and asks for its passphrase where somebody sits. @throws GatewayError `usage` */
async function readKey(file: string): Promise<ProbeKey> {
  const wrong = (what: string, cause?: unknown) => new GatewayError('usage', { detail: `${file}: ${what}`, cause });
  let privateKey: Buffer;
  try {
    privateKey = readSmallFile(file, MOST_KEY_BYTES);
  } catch (error) {
    throw wrong(`cannot be read (${(error as NodeJS.ErrnoException).code ?? messageOf(error)})`, error);
  }
  const state = stateOfKey({ privateKey });
  if (state === 'good') return { privateKey };
  if (state !== 'encrypted') throw wrong('not a private key that can be used; name the file without .pub');
  const terminal = openTerminal();
  if (terminal === undefined)
    throw wrong(
      'it has a passphrase: run this at a terminal, or make a key without one for monitoring (ssh-keygen -t ed25519)',
    );
  try {
    const passphrase = await terminal.askSecret(`Passphrase of ${file}`);
    if (stateOfKey({ privateKey, passphrase }) !== 'good') throw wrong('that is not its passphrase');
    return { privateKey, passphrase };
  } finally {
    terminal.close();
  }
}
