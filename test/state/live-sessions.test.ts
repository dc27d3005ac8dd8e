/** The files of the live sessions: never more than a client may have, and nothing left of processes that are gone. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Via } from '../../src/core/principal.ts';
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
const enter = (client: string, most: number, via: Via = 'ssh', all = 100) =>
  enterLiveSessions(state, { id: nextId(), principal: { client, via } }, { client: most, all });
const sessions = (): string => path.join(state, 'sessions');
const files = (client: string): string[] => readdirSync(sessions()).filter((name) => name.endsWith(`.${client}.json`));

/** A file as a process would have left it. */
function leaveBehind(client: string, pid: number, begun: number): void {
  mkdirSync(sessions(), { recursive: true });
  const id = nextId();
  const started = new Date();
  const text = JSON.stringify({ id, client, via: 'stdio', pid, begun, started });
  writeFileSync(path.join(sessions(), `${id}.stdio.${pid}.${begun}.${client}.json`), text);
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
  expect(await enter('a', 2)).toEqual({ entered: false, of: 'client', others: 2 });
  expect(await enter('b', 1)).toMatchObject({ entered: true });
  expect(files('a')).toHaveLength(2);
  if (first.entered) first.leave();
  expect(await enter('a', 2)).toMatchObject({ entered: true });
  expect(await enter('a', 2)).toEqual({ entered: false, of: 'client', others: 2 });
});

test('all clients together have as many as they may; who is at its own bound hears of that one', async () => {
  const first = await enter('a', 2, 'ssh', 3);
  await enter('a', 2, 'stdio', 3);
  await enter('a.b', 2, 'ssh', 3);
  expect(await enter('c', 2, 'ssh', 3)).toEqual({ entered: false, of: 'all', others: 3 });
  expect(await enter('a', 2, 'ssh', 3)).toEqual({ entered: false, of: 'client', others: 2 });
  expect(await enter('c', 2, 'admin', 3)).toMatchObject({ entered: true });
  if (first.entered) first.leave();
  expect(await enter('c', 2, 'ssh', 3)).toMatchObject({ entered: true });
});

test('of many that come at once exactly as many enter as may', async () => {
  const entries = await Promise.all(Array.from({ length: 30 }, () => enter('a', 7)));
  expect(entries.filter(({ entered }) => entered)).toHaveLength(7);
  expect(files('a')).toHaveLength(7);
  const others = await Promise.all(Array.from({ length: 20 }, (_, index) => enter(`client-${index}`, 7, 'ssh', 12)));
  expect(others.filter(({ entered }) => entered)).toHaveLength(5);
});

test("the admin's sessions are known, and count for nothing", async () => {
  await enter('a', 1, 'admin');
  expect(await enter('a', 1, 'admin')).toMatchObject({ entered: true });
  expect(await enter('a', 1)).toMatchObject({ entered: true });
  expect(await enter('a', 1, 'admin')).toMatchObject({ entered: true });
  expect((await readLiveSessions(state)).map(({ via }) => via).sort()).toEqual(['admin', 'admin', 'admin', 'ssh']);
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
  expect(await enter('a', 1)).toEqual({ entered: false, of: 'client', others: 1 });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  expect(await enter('a', 1)).toMatchObject({ entered: true });
});

test('a session is read as it was written, oldest first; what is no session is passed over', async () => {
  const id = nextId();
  const principal = {
    client: 'a',
    via: 'stdio',
    key: 'SHA256:x',
    from: '2001:db8::1',
    fromPort: 9,
    user: 'u',
  } as const;
  const before = new Date();
  await enterLiveSessions(state, { id, principal }, { client: 1, all: 9 });
  await enter('b', 1);
  writeFileSync(path.join(sessions(), 'README'), 'x');
  const read = await readLiveSessions(state);
  expect(read.map(({ client }) => client)).toEqual(['a', 'b']);
  const { started, ...rest } = read[0] ?? { started: new Date(0) };
  expect(rest).toEqual({
    id,
    client: 'a',
    via: 'stdio',
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
  const file = path.join(sessions(), name);
  const entering = enter('a', 1);
  // The other one steps back.
  rmSync(file);
  expect(await entering).toMatchObject({ entered: true });

  // One that stays was let in.
  leaveBehind('b', process.ppid, begunOf(process.ppid));
  const [other = ''] = files('b');
  utimesSync(path.join(sessions(), other), 1, 1);
  expect(await enter('b', 1)).toEqual({ entered: false, of: 'client', others: 1 });
});

test('nothing was ever open: none are read', async () => {
  expect(await readLiveSessions(state)).toEqual([]);
});

test('a directory that cannot be used is an error', async () => {
  writeFileSync(state, 'a file');
  await expect(enter('a', 1)).rejects.toThrow(/ENOTDIR|EEXIST/);
});
