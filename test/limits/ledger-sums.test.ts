/** What who only reads makes of ledgers that others go on writing. */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { formatLine } from '../../src/limits/ledger-lines.ts';
import { createLedgerSums, type LedgerSums } from '../../src/limits/ledger-sums.ts';
import { openLedger } from '../../src/limits/ledger.ts';

let directory: string;
let sums: LedgerSums;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'gateway-sums-'));
  sums = createLedgerSums();
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});

const at = (name: string): string => path.join(directory, name);
/** A ledger's first file. @param uploads - of a byte each */
function plant(name: string, base: number, uploads = 0): string {
  mkdirSync(at(name), { recursive: true });
  const lines = Array.from({ length: uploads }, (_, index) => {
    const token = `1.1-abc-${name}-${index}`;
    return `${formatLine(['+', 1, null, token, `data/${index}`])}\n\n${formatLine(['.', token])}\n`;
  });
  const file = path.join(at(name), '1');
  writeFileSync(file, `${formatLine(['base', base, Date.now(), 0])}\n${lines.join('')}`);
  return file;
}

test('follows what a ledger comes to, over the files that it goes on in', async () => {
  expect(await sums.used(at('one'))).toBeUndefined();
  const ledger = openLedger(at('one'), () => Promise.resolve(1000));
  for (let round = 1; round <= 3; round++) {
    // Enough to seal a file.
    const tokens = await Promise.all(
      Array.from({ length: 2500 }, (_, index) => ledger.reserve(2, undefined, `data/${'a'.repeat(150)}${index}`)),
    );
    await Promise.all(tokens.map((token, index) => ledger.settle(token ?? '', index % 2 === 0 ? 'stored' : 'failed')));
    expect(await sums.used(at('one'))).toBe(1000 + round * 2500);
    expect(sums.known(at('one'))).toBe(1000 + round * 2500);
  }
  expect(readdirSync(at('one'))).not.toContain('1');
  await ledger.close();
});

test('half a line counts once its end has come', async () => {
  const file = plant('one', 10);
  expect(await sums.used(at('one'))).toBe(10);
  const line = formatLine(['+', 5, null, 'token', 'data/a']);
  appendFileSync(file, line.slice(0, 9));
  expect(await sums.used(at('one'))).toBe(10);
  appendFileSync(file, `${line.slice(9)}\n`);
  expect(await sums.used(at('one'))).toBe(15);
});

test('another file in its place is read from its beginning, though it has the same inode and is longer', async () => {
  const file = plant('one', 10, 3);
  expect(await sums.used(at('one'))).toBe(13);
  const { ino } = statSync(file);
  writeFileSync(file, `${formatLine(['base', 70, 5, 0])}\n${'\n'.repeat(1000)}`);
  expect(statSync(file).ino).toBe(ino);
  expect(await sums.used(at('one'))).toBe(70);
  plant('two', 90);
  renameSync(at('one'), at('gone'));
  renameSync(at('two'), at('one'));
  expect(await sums.used(at('one'))).toBe(90);
  sums.keep(new Set());
  expect(sums.known(at('one'))).toBeUndefined();
  rmSync(at('one'), { recursive: true });
  expect(await sums.used(at('one'))).toBeUndefined();
});

test('one that cannot be read takes none of the others away', async () => {
  plant('good', 10);
  mkdirSync(path.join(at('bad'), '1'), { recursive: true });
  writeFileSync(at('file'), '');
  const [good, ...others] = await Promise.all(['good', 'bad', 'file', 'none'].map((name) => sums.used(at(name))));
  expect([good, ...others]).toEqual([10, undefined, undefined, undefined]);
});

test('many long ones, asked for at once and twice, leave others their turn, and are read once', async () => {
  for (let index = 0; index < 30; index++) plant(`${index}`, index, 4000);
  let turns = 0;
  let reading = true;
  const turn = (): void => {
    turns += 1;
    if (reading) setImmediate(turn);
  };
  turn();
  const all = Array.from({ length: 30 }, (_, index) => `${index}`);
  const [first, second] = await Promise.all([1, 2].map(() => Promise.all(all.map((name) => sums.used(at(name))))));
  reading = false;
  expect(first).toEqual(all.map((_, index) => index + 4000));
  expect(second).toEqual(first);
  // 30 ledgers of 280 KiB in pieces of 32 KiB: each piece has a turn of its own.
  expect(turns).toBeGreaterThan(200);
});
