/**
 * Where restic gets a repository's password from, for the commands that run it several times. It is in no environment that restic hands on
 * to the part that runs as the gateway's user, and on no command line.
 */
import { accessSync, constants, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { checkPasswordFile } from '../config/secrets.ts';
import type { ClientConfig } from '../config/types.ts';
import { GatewayError, messageOf } from '../core/errors.ts';

/** What makes restic find the password, and takes away what this process has made for that. */
export interface RepositoryPassword {
  readonly env: Readonly<Record<string, string | undefined>>;
  end(): void;
}

const NONE = { RESTIC_PASSWORD: undefined, RESTIC_PASSWORD_FILE: undefined, RESTIC_PASSWORD_COMMAND: undefined };

/**
 * The client's `passwordFile`, else what restic's own variables say, else what a person types.
 * @param ask - whether a person may be asked
 * @returns undefined when there is no password at hand
 * @throws GatewayError `invalid-config` when the file cannot be used, `usage` when nothing was typed
 */
export async function findPassword(
  { name, passwordFile }: ClientConfig,
  ask: boolean,
): Promise<RepositoryPassword | undefined> {
  if (passwordFile !== undefined) {
    checkPasswordFile(passwordFile);
    return { env: { ...NONE, RESTIC_PASSWORD_FILE: passwordFile }, end: () => undefined };
  }
  const given = process.env['RESTIC_PASSWORD'] ?? '';
  if (given !== '') return inFile(given);
  const named = [process.env['RESTIC_PASSWORD_FILE'], process.env['RESTIC_PASSWORD_COMMAND']].some(
    (value) => (value ?? '') !== '',
  );
  if (named) return { env: {}, end: () => undefined };
  if (!ask || !isatty(0) || !isatty(2)) return undefined;
  return inFile(await typed(name));
}

/** The options of restic that say where the password is, or that there is none. */
const PASSWORD_OPTION = /^(?:-p|--password-(?:file|command)|--insecure-no-password)/;

/**
 * For a restic that asks for itself when it is told nothing: the client's `passwordFile`, unless restic's own variables or options say something.
 * One that is not there, or that this user may not read, is left out, so that a person can type the password; stderr says so.
 * @param args - of restic
 * @throws GatewayError `invalid-config` when others can read or change the file, or it is empty
 */
export function passwordForRestic({ passwordFile }: ClientConfig, args: readonly string[]): RepositoryPassword['env'] {
  const said = Object.keys(NONE).some((name) => (process.env[name] ?? '') !== '');
  if (passwordFile === undefined || said || args.some((arg) => PASSWORD_OPTION.test(arg))) return {};
  try {
    accessSync(passwordFile, constants.R_OK);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? messageOf(error);
    process.stderr.write(
      `restic-gateway: ${passwordFile} cannot be read (${why}), so restic looks for a password itself\n`,
    );
    return {};
  }
  checkPasswordFile(passwordFile);
  return { ...NONE, RESTIC_PASSWORD_FILE: passwordFile };
}

/** A file that only this user can read, as long as this process runs. */
function inFile(password: string): RepositoryPassword {
  const directory = mkdtempSync(
    join(process.geteuid?.() === 0 && existsSync('/run') ? '/run' : tmpdir(), 'restic-gateway-password-'),
  );
  const end = (): void => {
    rmSync(directory, { recursive: true, force: true });
  };
  process.once('exit', end);
  const file = join(directory, 'password');
  writeFileSync(file, `${password}\n`, { mode: 0o600 });
  return {
    env: { ...NONE, RESTIC_PASSWORD_FILE: file },
    end: () => {
      process.off('exit', end);
      end();
    },
  };
}

async function typed(client: string): Promise<string> {
  const silent = new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  const stop = new AbortController();
  lines.once('SIGINT', () => {
    stop.abort();
  });
  process.stderr.write(`password of the repository of ${client} (without one: --without-password): `);
  try {
    const password = await lines.question('', { signal: stop.signal });
    if (password === '') throw new GatewayError('usage', { detail: 'no password was typed' });
    return password;
  } catch (error) {
    if (stop.signal.aborted) throw new GatewayError('usage', { detail: 'stopped; nothing was changed' });
    throw error;
  } finally {
    lines.close();
    process.stderr.write('\n');
  }
}
