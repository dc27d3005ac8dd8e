/** What the processes of a machine know of an admin's hold on a repository. */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { LONGEST_HOLD_MS, openLockHolds, sessionsToEnd } from '../../src/state/lock-holds.ts';
import { tempDir } from '../support/lab.ts';

/** The one file of the one hold. */
const onlyHold = (state: string): string => {
  const directory = path.join(state, 'holds', readdirSync(path.join(state, 'holds'))[0] ?? '');
  return path.join(directory, readdirSync(directory)[0] ?? '');
};

test('of several admins the farthest counts, each repository is held by itself, and what was held is free again', () => {
  const state = tempDir();
  const [holds, others] = [openLockHolds(state, 'a'), openLockHolds(state, 'b')];
  expect(holds.held()).toBeUndefined();
  const [first, second] = [holds.hold(), holds.hold()];
  first.set('waiting');
  expect(holds.held()).toBe('waiting');
  second.set('closed', ['one', 'two']);
  expect(openLockHolds(state, 'a').held()).toBe('closed');
  expect(others.held()).toBeUndefined();
  expect(sessionsToEnd(state)).toEqual(new Set(['one', 'two']));
  second.release();
  expect(holds.held()).toBe('waiting');
  first.release();
  expect(holds.held()).toBeUndefined();
  expect(sessionsToEnd(state)).toEqual(new Set());
});

test('a hold ends with its process, in a day at the latest, and a torn file holds nobody', () => {
  const state = tempDir();
  const holds = openLockHolds(state, 'a');
  holds.hold().set('closed');
  const file = onlyHold(state);
  const text = readFileSync(file, 'utf8');
  const { untilMs } = JSON.parse(text) as { untilMs: number };
  for (const [wrong, what] of [
    [text.replace(String(untilMs), String(untilMs - LONGEST_HOLD_MS - 1)), 'over'],
    [text.replace(String(untilMs), String(untilMs + 1e9)), 'longer than any'],
    [text.slice(0, 20), 'torn'],
  ]) {
    writeFileSync(file, wrong ?? '');
    expect([what, holds.held()]).toEqual([what, undefined]);
  }
  writeFileSync(file, text);
  expect(holds.held()).toBe('closed');
  // The same id, another start: the process is another one.
  renameSync(file, path.join(path.dirname(file), path.basename(file).replace(/\.(\d+)\./, '.1.')));
  expect(holds.held()).toBeUndefined();
  expect(readdirSync(path.dirname(file))).toEqual([]);
});

test('whoever holds waits for the locks that were let through before, and for none that come after', async () => {
  const state = tempDir();
  const holds = openLockHolds(state, 'a');
  const made = holds.making();
  const hold = holds.hold();
  hold.set('closed');
  let settled = false;
  const settling = hold.settled(AbortSignal.timeout(180_000)).then(() => (settled = true));
  const later = holds.making();
  expect(settled).toBe(false);
  made();
  await settling;
  later();
  await hold.settled(AbortSignal.timeout(180_000));
  hold.release();
});
