/** Which files are obeyed: as sshd's StrictModes has it, links and sticky directories included. */
import { chmodSync, chownSync, lchownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { isShared, mustBeTrusted, whyUntrusted } from '../../src/config/trusted-files.ts';

const SOMEONE = 61_001;
const asRoot = process.geteuid?.() === 0 ? describe : describe.skip;

let root: string;
let file: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'trusted-'));
  mkdirSync(join(root, 'etc'));
  file = join(root, 'etc', 'file');
  writeFileSync(file, '');
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

test("one's own below /tmp, which all can write to, is obeyed", () => {
  expect(whyUntrusted(file)).toBeUndefined();
});

test('what is not there is left to whoever opens it', () => {
  expect(whyUntrusted(join(root, 'none', 'file'))).toBeUndefined();
  expect(whyUntrusted(join(file, 'x'))).toBeUndefined();
});

test.each([
  ['the file', 'etc/file', 0o666, '0666'],
  ['the file, its group alone', 'etc/file', 0o664, '0664'],
  ['its directory', 'etc', 0o777, '0777'],
  ['its directory, its group alone', 'etc', 0o775, '0775'],
  ['a directory further up', '.', 0o777, '0777'],
])('others can write to %s', (_what, place, mode, reported) => {
  const path = join(root, place);
  chmodSync(path, mode);
  const way = path === file ? '' : ` (on the way to ${file})`;
  expect(() => {
    mustBeTrusted(file);
  }).toThrow(`${path}: others than its owner can change it (mode ${reported})${way}; run: chmod go-w ${path}`);
});

test('the last one is not forgiven for being sticky', () => {
  chmodSync(join(root, 'etc'), 0o1777);
  expect(whyUntrusted(join(root, 'etc'))).toMatch(/mode 1777/);
  expect(whyUntrusted(file)).toBeUndefined();
});

test('links are followed, and what they lead to counts', () => {
  mkdirSync(join(root, 'open'));
  writeFileSync(join(root, 'open', 'file'), '');
  symlinkSync('../open/file', join(root, 'etc', 'link'));
  symlinkSync(join(root, 'etc'), join(root, 'there'));
  expect(whyUntrusted(join(root, 'there', 'link'))).toBeUndefined();
  chmodSync(join(root, 'open'), 0o777);
  expect(whyUntrusted(join(root, 'there', 'link'))).toContain(`${root}/open: others than its owner`);
});

test('a sticky directory is taken on the way to what is there, and not for itself', () => {
  chmodSync(root, 0o1777);
  expect(whyUntrusted(root)).toContain('others than its owner can change it');
  expect(whyUntrusted(root, undefined, true)).toBeUndefined();
  chmodSync(root, 0o777);
  expect(whyUntrusted(root, undefined, true)).toContain('others than its owner can change it');
});

test('a loop ends', () => {
  symlinkSync('loop', join(root, 'loop'));
  expect(whyUntrusted(join(root, 'loop'))).toMatch(/more than 40 links/);
});

asRoot('of another user', () => {
  test.each([['etc/file'], ['etc'], ['.']])('%s', (place) => {
    const path = join(root, place);
    chownSync(path, SOMEONE, SOMEONE);
    expect(whyUntrusted(file)).toContain(`${path}: belongs to the user with uid ${SOMEONE}, whom root must not obey`);
    expect(whyUntrusted(file, [0, SOMEONE])).toBeUndefined();
  });

  test('a link that someone has put into a sticky directory', () => {
    chmodSync(root, 0o1777);
    const link = join(root, 'link');
    symlinkSync(file, link);
    expect(whyUntrusted(link)).toBeUndefined();
    lchownSync(link, SOMEONE, SOMEONE);
    expect(whyUntrusted(link)).toContain(`${link}: belongs to the user with uid ${SOMEONE}`);
  });

  test('a secret that root gives to a group is not shared, but for root itself', () => {
    expect(isShared({ mode: 0o100440, uid: 0 })).toBe(true);
    process.seteuid?.(65_534);
    try {
      expect(isShared({ mode: 0o100440, uid: 0 })).toBe(false);
      expect(isShared({ mode: 0o100444, uid: 0 })).toBe(true);
      expect(isShared({ mode: 0o100440, uid: 65_534 })).toBe(true);
    } finally {
      process.seteuid?.(0);
    }
  });
});
