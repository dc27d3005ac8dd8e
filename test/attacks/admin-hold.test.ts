/** Clients that keep the admin's restic from its exclusive lock, on purpose or by honest work. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openSite, type WayIn, type Site } from '../support/sites.ts';
import { lab, makeTree, restic, run, startProcess, tempDir } from '../support/lab.ts';
import { resticClient, sample, sha256, type ResticClient } from '../support/restic-client.ts';
import { lightenKeys } from '../support/light-key.ts';
import { freshStore, type STORES } from '../support/stores.ts';

const PASSWORD = 'secret';
const source = path.join(tempDir(), 'source');

let site: Site;
beforeAll(() => makeTree(source, { files: 3, bytes: 100_000, seed: 'hold' }));
const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
};
const target = (): Parameters<typeof restic>[1] => ({
  repo: 'rclone:x',
  options: { 'rclone.program': site.program('appsrv') },
  password: PASSWORD,
});
const state = (...names: string[]): string => path.join(site.directory, 'state', ...names);
const names = (directory: string): string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};
/** Files of holds, as paths. */
const holds = (): string[] =>
  names(state('holds')).flatMap((key) => names(state('holds', key)).map((name) => state('holds', key, name)));

const locksMade = (): number =>
  site.audit().filter((line) => line['event'] === 'create' && String(line['object']).startsWith('locks/')).length;

/** Of the test that runs: a client that stays keeps the admin from the next one's lock. */
const clients = new Set<ResticClient>();
let over = false;
let attacking: Promise<void> = Promise.resolve();
afterEach(async () => {
  over = true;
  for (const client of clients) client.close();
  await attacking;
  over = false;
});

/** HTTP/2 as the client through the gateway's SSH; what it is told by the gateway comes on `told`. */
const connect = (): ResticClient & { readonly reported: () => string } => {
  const child = spawn('sh', ['-c', `exec ${site.program('appsrv')} serve`], { stdio: 'pipe' });
  let reported = '';
  child.stderr.on('data', (chunk: Buffer) => (reported += chunk.toString()));
  child.stdin.on('error', () => undefined);
  const client = resticClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  child.on('close', () => {
    client.close();
    clients.delete(connected);
  });
  const connected = {
    ...client,
    reported: () => reported,
    close: () => {
      client.close();
      child.kill();
    },
  };
  clients.add(connected);
  return connected;
};
const lock = async (client: ResticClient, body = sample().body): Promise<number> =>
  (await client.request('POST', `/locks/${sha256(body)}`, { body })).status;

const open = async (kind: WayIn, store: (typeof STORES)[number]): Promise<void> => {
  const entry = await freshStore(store);
  site = await openSite(kind, {
    stores: { main: entry },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  expect((await restic(lab().resticNewest, target(), ['init'])).code).toBe(0);
  await lightenKeys(entry, 'appsrv', PASSWORD);
  expect((await restic(lab().resticNewest, target(), ['backup', source])).code).toBe(0);
};

describe.each([
  ['ssh server', 's3'],
  ['sshd, authorized_keys', 'directory'],
] as const)('%s, %s', (kind, store) => {
  beforeAll(() => open(kind, store));
  afterAll(() => site.close());

  test('a client that puts a lock back whenever it can keeps no prune of the admin from running', async () => {
    const statuses: number[] = [];
    const isOver = (): boolean => over;
    attacking = (async () => {
      while (!isOver()) {
        const client = connect();
        try {
          // Its content restic cannot read. Not as fast as it can, since others are tested on this machine, too.
          for (; !isOver(); await new Promise((resolve) => setTimeout(resolve, 20))) statuses.push(await lock(client));
        } catch {
          // Ended; the next one.
        } finally {
          client.close();
        }
      }
    })();
    const made = (): number => statuses.filter((status) => status === 200).length;
    for (let times = 0; times < 3; times++) {
      // After each one it has its locks again.
      const before = made();
      await until(() => made() > before);
      const prune = await site.admin('appsrv', ['prune'], PASSWORD, ['--hold-client', '0s', '--end-sessions']);
      expect(prune).toMatchObject({ code: 0 });
      expect(prune.stderr).toMatch(/ending session \S+ of appsrv/);
      expect(holds()).toEqual([]);
    }
    expect(statuses).toContain(423);
    const events = site.audit();
    expect(events.filter((line) => line['reason'] === 'held-by-admin')).not.toEqual([]);
    expect(events.filter((line) => line['reason'] === 'ended-by-admin').length).toBeGreaterThanOrEqual(3);
  });

  test('locks that ended sessions left, junk among them, are out of the way at once', async () => {
    const client = connect();
    expect(await lock(client, Buffer.alloc(0))).toBe(200);
    for (let times = 0; times < 20; times++) expect(await lock(client)).toBe(200);
    client.close();
    const [started] = site
      .audit()
      .filter((line) => line['event'] === 'create')
      .slice(-1);
    const ended = (): boolean =>
      site.audit().some((line) => line['event'] === 'session-end' && line['session'] === started?.['session']);
    await until(ended);
    const prune = await site.admin('appsrv', ['forget', '--keep-last', '1', '--prune'], PASSWORD);
    expect(prune).toMatchObject({ code: 0 });
    expect(prune.stderr).not.toMatch(/waiting/);
    const removed = site.audit().filter((line) => line['event'] === 'remove' && line['via'] === 'admin');
    expect(removed.length).toBeGreaterThanOrEqual(20);
  });

  test('a backup that runs is waited for and goes on, new runs wait; a killed admin holds nobody', async () => {
    const before = locksMade();
    const fifo = path.join(tempDir(), 'fifo');
    await run('mkfifo', [fifo]);
    const backup = await startProcess(
      'sh',
      [
        ...['-c', `exec "$0" "$@" < '${fifo}'`, lab().resticNewest, '-r', 'rclone:x'],
        ...['-o', `rclone.program=${site.program('appsrv')}`, 'backup', '--stdin', '--no-cache'],
      ],
      { env: { RESTIC_PASSWORD: PASSWORD } },
    );
    const writer = await startProcess('sh', ['-c', `exec 3>'${fifo}'; echo begun >&3; exec sleep 600`]);
    await until(() => locksMade() > before);
    // One that is not restic's own, made after it as restic cannot read it, to refresh a lock as restic does every five minutes.
    const holder = connect();
    const held = sample().body;
    expect(await lock(holder, held)).toBe(200);

    const killed = site.admin('appsrv', ['prune'], PASSWORD);
    const waiting = (): string | undefined =>
      holds().find((file) => !file.endsWith('.new') && readFileSync(file, 'utf8').includes('waiting'));
    await until(() => waiting() !== undefined);
    const newcomer = connect();
    expect(await lock(newcomer)).toBe(423);
    await until(() => newcomer.reported().includes('the admin is working on this repository'));
    const [pid] = path.basename(waiting() ?? '').split('.');
    const { stdout: restics } = await run('ps', ['-o', 'ppid=', '-p', String(pid)]);
    process.kill(Number(pid), 'SIGKILL');
    // It would try for a while to find out.
    process.kill(Number(restics), 'SIGKILL');
    // Its end, and its parent's, take a moment.
    await until(async () => (await lock(newcomer)) === 200);
    newcomer.close();

    const prune = site.admin('appsrv', ['prune'], PASSWORD, ['--hold-client', '2h']);
    await until(() => waiting() !== undefined);
    const refreshed = sample().body;
    expect(await lock(holder, refreshed)).toBe(200);
    for (const body of [held, refreshed])
      expect((await holder.request('DELETE', `/locks/${sha256(body)}`)).status).toBe(200);
    expect(await lock(holder)).toBe(423);
    // restic itself tries again until the admin is done.
    const next = restic(lab().resticNewest, target(), ['backup', source]);
    await writer.stop();
    expect(await backup.exited).toBe(0);
    expect(await prune).toMatchObject({ code: 0 });
    expect((await killed).code).not.toBe(0);
    expect((await next).code).toBe(0);
    expect(await lock(holder)).toBe(200);
    holder.close();
    expect((await site.admin('appsrv', ['check', '--read-data'], PASSWORD)).code).toBe(0);
  });
});
