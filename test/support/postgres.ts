/** A PostgreSQL of the test's own: one server on a free port of loopback, with TLS, of which nothing is left behind. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from '@jest/globals';
import { stringify } from 'yaml';
import { readPage } from './doc-fences.ts';
import { freePort, lab, run, startProcess, tempDir, type LabProcess } from './lab.ts';

/** A server that runs, with a role that owns one database and may do nothing else. */
export interface Postgres {
  readonly port: number;
  /** What `database` of a config says. */
  readonly config: { readonly url: string; readonly passwordFile: string; readonly caFile: string };
  /** Runs SQL as the superuser, in the gateways' database, and gives what psql prints. */
  sql(text: string): Promise<string>;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Stops and continues all of its processes: it hangs meanwhile. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

const directories: string[] = [];
afterAll(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});

/** Starts one. @throws Error when PostgreSQL is missing or does not start */
export async function startPostgres(): Promise<Postgres> {
  const { postgres } = lab();
  const beside = (name: string): string => path.join(path.dirname(postgres), name);
  const directory = mkdtempSync(path.join(process.env['LAB_RUN_DIR'] ?? tmpdir(), 'postgres-'));
  directories.push(directory);
  // It does not run as root.
  const isRoot = process.getuid?.() === 0;
  const [uid, gid] = isRoot ? await idsOf('postgres') : [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  chownSync(directory, uid, gid);
  chmodSync(directory, 0o755);
  const as = isRoot ? ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'] : [];
  const call = async (command: string, ...args: readonly string[]): Promise<string> => {
    const [program = '', ...rest] = [...as, command, ...args];
    const { code, stdout, stderr } = await run(program, rest, { cwd: directory, env: { HOME: directory } });
    if (code !== 0) throw new Error(`${command} failed: ${stderr}`);
    return stdout.trim();
  };
  const data = path.join(directory, 'data');
  await call(beside('initdb'), '-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8');
  const [key, certificate] = [path.join(data, 'server.key'), path.join(data, 'server.crt')];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  await call(
    'openssl',
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...names],
    '-keyout',
    key,
    '-out',
    certificate,
  );
  const socket = path.join(directory, 's');
  await call('mkdir', socket);
  writeFileSync(path.join(data, 'pg_hba.conf'), 'local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n');
  const port = await freePort();
  const settings = {
    ...{ port, listen_addresses: '127.0.0.1', unix_socket_directories: socket, ssl: 'on', fsync: 'off' },
    ...{ shared_buffers: '16MB', max_connections: 40, log_min_messages: 'fatal' },
  };
  const server = ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  let running: LabProcess | undefined;
  const sql = (text: string, database = 'restic_gateway'): Promise<string> =>
    call(
      beside('psql'),
      '-X',
      '-q',
      '-At',
      '-v',
      'ON_ERROR_STOP=1',
      '-h',
      socket,
      '-p',
      String(port),
      '-U',
      'postgres',
      '-d',
      database,
      '-c',
      text,
    );
  const start = async (): Promise<void> => {
    const [program = '', ...rest] = [...as, postgres, ...server];
    running = await startProcess(program, rest, { cwd: directory });
    for (const end = Date.now() + 60_000; ;) {
      try {
        await sql('select 1', 'postgres');
        return;
      } catch (error) {
        if (Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  };
  const signal = async (name: 'STOP' | 'CONT'): Promise<void> => {
    const pid = String(running?.pid ?? 0);
    const { stdout } = await run('pgrep', ['-P', pid]);
    // The first stops before it could start others, and goes on last.
    const pids = name === 'STOP' ? [pid, ...stdout.split(/\s+/)] : [...stdout.split(/\s+/), pid];
    for (const one of pids) if (one !== '') process.kill(Number(one), `SIG${name}`);
  };
  await start();
  const documented =
    readPage('docs/high-availability.md').fences.find(({ language }) => language === 'sql')?.text ?? '';
  for (const statement of documented.split(/(?<=;)\n/)) if (statement !== '') await sql(statement, 'postgres');
  const passwordFile = path.join(directory, 'password');
  writeFileSync(passwordFile, 'choose-a-long-one\n', { mode: 0o600 });
  const caFile = path.join(directory, 'ca.pem');
  await call('cp', certificate, caFile);
  if (isRoot) chownSync(caFile, 0, 0);
  chownSync(directory, process.getuid?.() ?? 0, gid);
  chmodSync(directory, 0o755);
  return {
    port,
    config: { url: `postgresql://restic_gateway@localhost:${port}/restic_gateway`, passwordFile, caFile },
    sql: (text) => sql(text),
    kill: async () => {
      const pid = String(running?.pid ?? 0);
      const { stdout } = await run('pgrep', ['-P', pid]);
      for (const one of [pid, ...stdout.split(/\s+/)]) {
        try {
          if (one !== '') process.kill(Number(one), 'SIGKILL');
        } catch {
          // It has ended with the first.
        }
      }
      await running?.exited;
    },
    start,
    freeze: () => signal('STOP'),
    thaw: () => signal('CONT'),
  };
}

async function idsOf(user: string): Promise<readonly [number, number]> {
  const { code, stdout } = await run('getent', ['passwd', user]);
  if (code !== 0) throw new Error(`there is no user ${user}; run scripts/lab/setup`);
  const [, , uid, gid] = stdout.split(':');
  return [Number(uid), Number(gid)];
}

/** A config file of a gateway that shares the database. */
export function sharedConfig(postgres: Postgres, gateway: string): string {
  const directory = tempDir();
  const file = path.join(directory, 'gateway.yaml');
  const stores = { main: { type: 'directory', path: directory } };
  const audit = { file: path.join(directory, 'audit.jsonl') };
  writeFileSync(file, stringify({ stores, clients: {}, audit, database: { ...postgres.config, gateway } }));
  return file;
}
