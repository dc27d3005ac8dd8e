/** A moment in a file: kept to the microsecond, shared, and no trouble where it cannot be kept. */
import { mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { openSharedTime } from '../../src/state/shared-time.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'moment-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('what one moves, all read, as exactly as a rate of a thousand a second needs', () => {
  const file = path.join(directory, 'rates', 'a', 'upload');
  const [one, other] = [openSharedTime(file), openSharedTime(file)];
  expect(one.read()).toBe(0);
  // Past 2038 as well.
  for (const at of [1_795_000_000_000.25, 1_795_014_400_000.5, 4_000_000_000_000, 1_795_000_000_001]) {
    one.move(at);
    expect(Math.abs(other.read() - at)).toBeLessThan(0.01);
  }
});

test('where no file can be, each has its own', () => {
  writeFileSync(path.join(directory, 'rates'), 'in the way');
  const file = path.join(directory, 'rates', 'upload');
  const [one, other] = [openSharedTime(file), openSharedTime(file)];
  one.move(1000);
  expect(one.read()).toBe(1000);
  expect(other.read()).toBe(0);
});

test('what was moved before the machine was started again counts as never moved', () => {
  const file = path.join(directory, 'rates', 'upload');
  const sharedTime = openSharedTime(file);
  sharedTime.move(5000);
  expect(openSharedTime(file).read()).toBe(5000);
  // As another run of the machine, or a gateway that kept the time of day, has left it.
  utimesSync(file, statSync(file).atimeMs / 1000 + 1, 5);
  expect(sharedTime.read()).toBe(0);
  sharedTime.move(7000);
  expect(openSharedTime(file).read()).toBe(7000);
});
