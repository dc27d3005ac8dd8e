/** Files of the state directory that are replaced: whole, or as they were. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { replaceStateFile } from '../../src/state/state-file.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'state-file-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('one that is not there is made, with its directory, for the gateway alone; the newer text takes its place', async () => {
  const file = path.join(directory, 'state', 'one.json');
  await replaceStateFile(file, 'first and longer');
  await Promise.all(['a', 'b', 'c'].map((text) => replaceStateFile(file, text)));
  expect(readFileSync(file, 'utf8')).toMatch(/^[abc]$/);
  expect(readdirSync(path.dirname(file))).toEqual(['one.json']);
});

test('where it cannot be put in its place, nothing is left beside it', async () => {
  const file = path.join(directory, 'one.json');
  mkdirSync(path.join(file, 'in the way'), { recursive: true });
  await expect(replaceStateFile(file, 'text')).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(readdirSync(directory)).toEqual(['one.json']);
});
