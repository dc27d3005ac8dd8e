/** The files of the live sessions: never more than a client may have, and nothing left of processes that are gone. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Door } from '../../src/core/principal.ts';
import { enterLiveSessions, readLiveSessions } from '../../src/state/live-sessions.ts';

let state: string;
beforeEach(() => {
  state = path.join(mkdtempSync(path.join(tmpdir(), 'live-sessions-')), 'state');
});
afterEach(() => {
  rmSync(path.dirname(state), { recursive: true, force: true });
});

let ids = 0;
const nextId = (): string => `20261123T211500Z-${(++ids).toString(16).padStart(10, '0')}`;
const enter = (client: string, most: number, door: Door = 'ssh', id = nextId()) =>
  enterLiveSessions(state, { id, principal: { client, door } }, most);
const files = (client: string): string[] => readdirSync(path.join(state, 'sessions', client));

/** A file as a process would have left it. */
function leaveBehind(client: string, pid: number, begun: number): void {
  const directory = path.join(state, 'sessions', client);
  mkdirSync(directory, { recursive: true });
  const id = nextId();
  const started = new Date();
  const text = JSON.stringify({ id, client, door: 'stdio', pid, begun, started });
  writeFileSync(path.join(directory, `${id}.stdio.${pid}.${begun}.json`), text);
}

function deadPid(): number {
  return spawnSync('/bin/true').pid;
}

/** When a process began, as the kernel counts it. */
function begunOf(pid: number): number {
  return Number(
    readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[19],
  );
}

test('a client has as many as it may, whatever others have, and a place that is left is free', async () => {
  const first = await enter('a', 2);
  expect(await enter('a', 2)).toMatchObject({ entered: true });
  expect(await enter('a', 2)).toEqual({ entered: false, others: 2 });
  expect(await enter('b', 1)).toMatchObject({ entered: true });
  expect(files('a')).toHaveLength(2);
  if (first.entered) first.leave();
  expect(await enter('a', 2)).toMatchObject({ entered: true });
  expect(await enter('a', 2)).toEqual({ entered: false, others: 2 });
});

test('of many that come at once exactly as many enter as may', async () => {
  const entries = await Promise.all(Array.from({ length: 30 }, () => enter('a', 7)));
  expect(entries.filter(({ entered }) => entered)).toHaveLength(7);
  expect(files('a')).toHaveLength(7);
});

test("the admin's sessions are known, and count for nothing", async () => {
  await enter('a', 1, 'admin');
  expect(await enter('a', 1, 'admin')).toMatchObject({ entered: true });
  expect(await enter('a', 1)).toMatchObject({ entered: true });
  expect(await enter('a', 1, 'admin')).toMatchObject({ entered: true });
  expect((await readLiveSessions(state)).map(({ door }) => door).sort()).toEqual(['admin', 'admin', 'admin', 'ssh']);
});

test('what dead processes left counts for nothing and is removed, also when the id has a new owner', async () => {
  leaveBehind('a', deadPid(), 1);
  leaveBehind('a', process.ppid, 1);
  expect(await enter('a', 1)).toMatchObject({ entered: true });
  expect(files('a')).toHaveLength(1);

  leaveBehind('b', deadPid(), 1);
  expect((await readLiveSessions(state)).map(({ client }) => client)).toEqual(['a']);
  expect(files('b')).toEqual([]);
});

test('what another process has open counts until that process ends', async () => {
  const child = spawn('/bin/sleep', ['600']);
  const { pid = 0 } = child;
  leaveBehind('a', pid, begunOf(pid));
  expect(await enter('a', 1)).toEqual({ entered: false, others: 1 });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  expect(await enter('a', 1)).toMatchObject({ entered: true });
});

test('a session is read as it was written, oldest first; what is no session is passed over', async () => {
  const id = nextId();
  const principal = {
    client: 'a',
    door: 'stdio',
    key: 'SHA256:x',
    from: '2001:db8::1',
    fromPort: 9,
    user: 'u',
  } as const;
  const before = new Date();
  await enterLiveSessions(state, { id, principal }, 1);
  await enter('b', 1);
  writeFileSync(path.join(state, 'sessions', 'a', 'README'), 'x');
  writeFileSync(path.join(state, 'sessions', 'README'), 'x');
  const read = await readLiveSessions(state);
  expect(read.map(({ client }) => client)).toEqual(['a', 'b']);
  const { started, ...rest } = read[0] ?? { started: new Date(0) };
  expect(rest).toEqual({
    id,
    client: 'a',
    door: 'stdio',
    key: 'SHA256:x',
    from: '2001:db8::1',
    fromPort: 9,
    pid: process.pid,
    begun: begunOf(process.pid),
  });
  expect(started.getTime()).toBeGreaterThanOrEqual(before.getTime());
});

test('one that is just coming does not take the place of one that comes with it', async () => {
  leaveBehind('a', process.ppid, begunOf(process.ppid));
  const [name = ''] = files('a');
  const file = path.join(state, 'sessions', 'a', name);
  const entering = enter('a', 1);
  // The other one steps back.
  rmSync(file);
  expect(await entering).toMatchObject({ entered: true });

  // One that stays was let in.
  leaveBehind('b', process.ppid, begunOf(process.ppid));
  const [other = ''] = files('b');
  utimesSync(path.join(state, 'sessions', 'b', other), 1, 1);
  expect(await enter('b', 1)).toEqual({ entered: false, others: 1 });
});

test('nothing was ever open: none are read', async () => {
  expect(await readLiveSessions(state)).toEqual([]);
});

test('a directory that cannot be used is an error', async () => {
  writeFileSync(state, 'a file');
  await expect(enter('a', 1)).rejects.toThrow(/ENOTDIR|EEXIST/);
});
