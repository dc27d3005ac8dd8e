/** Much data: 5 GiB each way with the gateway's memory watched, and one session over many key exchanges. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, jest, test } from '@jest/globals';
import { openDoor, type OpenDoor } from '../support/doors.ts';
import { lab, makeTree, restic, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore, STORES } from '../support/stores.ts';
import { until } from '../support/store-calls.ts';

const GiB = 1024 ** 3;
/** For a slow disk; a test that hangs ends all the same. */
jest.setTimeout(900_000);
/** What the whole daemon may take: Node itself, the windows of one session, and packs on their way. */
const MEMORY = 320 * 1024 ** 2;

async function watched(door: OpenDoor, work: Promise<Outcome>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, door.memory())), 200);
  const { code, stderr } = await work;
  clearInterval(timer);
  expect(`${code} ${code === 0 ? '' : stderr}`).toBe('0 ');
  return peak;
}

const run = (door: OpenDoor, args: readonly string[]): Promise<Outcome> =>
  restic(
    lab().resticNewest,
    { repo: 'rclone:x', options: { 'rclone.program': door.program('appsrv') }, timeoutMs: 800_000 },
    [...args, '--no-cache'],
  );

describe.each(STORES)('on the %s store', (kind) => {
  test('5 GiB go in and come out again, and the gateway stays small', async () => {
    const door = await openDoor('ssh server', {
      stores: { main: await freshStore(kind) },
      clients: { appsrv: { repository: { store: 'main' } } },
    });
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 40, bytes: 5 * GiB, seed: `large ${kind}` });
    expect((await run(door, ['init'])).code).toBe(0);
    expect(await watched(door, run(door, ['backup', '--compression', 'off', source]))).toBeLessThan(MEMORY);
    const target = tempDir();
    expect(await watched(door, run(door, ['restore', 'latest', '--target', target]))).toBeLessThan(MEMORY);
    await sameTree(source, path.join(target, source));
    await door.close();
    rmSync(source, { recursive: true });
    rmSync(target, { recursive: true });
  });
});

test('an OpenSSH client that exchanges keys every 16 MiB moves 1 GiB in one session', async () => {
  const door = await openDoor(
    'ssh server',
    { stores: { main: await freshStore('directory') }, clients: { appsrv: { repository: { store: 'main' } } } },
    ['-o', 'RekeyLimit=16M'],
  );
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 8, bytes: GiB, seed: 'rekey' });
  expect((await run(door, ['init'])).code).toBe(0);
  const { code, stderr } = await run(door, ['backup', '--compression', 'off', source]);
  expect(`${code} ${stderr}`).toBe('0 ');
  const target = tempDir();
  expect((await run(door, ['restore', 'latest', '--target', target])).code).toBe(0);
  await sameTree(source, path.join(target, source));
  const sessions = (): unknown[] =>
    door.audit().filter((line) => line['event'] === 'session-end' && Number(line['bytesIn']) > GiB);
  await until(() => sessions().length > 0);
  expect(sessions()).toHaveLength(1);
  await door.close();
});
