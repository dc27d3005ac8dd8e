/** The ledger as several processes keep it: each `openLedger` stands for one, as nothing but the file connects them. */
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { applyLine, emptyLedger, formatLine } from '../../src/limits/ledger-lines.ts';
import { openLedger } from '../../src/limits/ledger.ts';
import type { Ledger } from '../../src/ports/ledger.ts';
import { roomUnder as roomOf } from '../support/ledger-room.ts';

let directory: string;
let open: Ledger[];
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'gateway-ledger-'));
  open = [];
});
afterEach(async () => {
  await Promise.all(open.map((ledger) => ledger.close()));
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
});

const at = (): string => path.join(directory, 'usage', 'repository');
function ledger(measured = 0): Ledger {
  const opened = openLedger(at(), () => Promise.resolve(measured));
  open.push(opened);
  return opened;
}
const newest = (): string =>
  path.join(
    at(),
    String(
      Math.max(
        ...readdirSync(at())
          .filter((name) => !name.startsWith('.'))
          .map(Number),
      ),
    ),
  );

/** How much room there is, as a process that comes now sees it. */
const roomUnder = (limit: number): Promise<number> => roomOf(ledger(), limit);

test('of many in several processes who want the last room, exactly as many get it as fit', async () => {
  const ledgers = [ledger(10), ledger(10), ledger(10)];
  const tokens = await Promise.all(
    ledgers.flatMap((each) => Array.from({ length: 50 }, (_, index) => each.reserve(7, 710, `data/${index}`))),
  );
  const given = tokens.filter((token) => token !== undefined);
  expect(given).toHaveLength(100);
  expect(new Set(given).size).toBe(100);
});

test('who looked when there was room, and then wrote behind another, does not get it', async () => {
  const one = ledger(10);
  await one.reserve(50, 100, 'data/a');
  appendFileSync(newest(), '["+",41,100,"another process","data/b"]\n');
  expect(await roomUnder(100)).toBe(40);
  appendFileSync(newest(), '["+",40,100,"a third process","data/c"]\n');
  expect(await roomUnder(100)).toBe(0);
  const [state, line] = [emptyLedger(), formatLine(['+', 60, 100, 'token', 'data/a'])];
  expect(applyLine(line, state, new Set())).toBe(true);
  expect(applyLine(line, state, new Set())).toBe(false);
  expect(state.used).toBe(60);
});

test('what failed gives its room back, once; what was stored keeps it; what was removed frees it', async () => {
  const [one, two] = [ledger(), ledger()];
  const [a, b] = [await one.reserve(30, 100, 'data/a'), await two.reserve(50, 100, 'data/b')];
  await one.settle(a ?? '', 'failed');
  await one.settle(a ?? '', 'failed');
  await two.settle(b ?? '', 'stored');
  await two.settle(b ?? '', 'failed');
  expect(await roomUnder(100)).toBe(50);
  await one.removed(20);
  expect(await roomUnder(100)).toBe(70);
});

test('a long file is sealed and followed by another, and nothing is lost on the way', async () => {
  const ledgers = [ledger(1000), ledger(1000), ledger(1000)];
  const kept = await ledgers[0]?.reserve(5, undefined, 'data/kept');
  let stored = 0;
  for (let round = 0; round < 60; round++)
    await Promise.all(
      ledgers.map(async (each) => {
        await Promise.all(
          Array.from({ length: 25 }, async (_, index) => {
            const token = (await each.reserve(3, undefined, `data/${'f'.repeat(190)}`)) ?? '';
            if (index % 2 === 0) stored += 3;
            await each.settle(token, index % 2 === 0 ? 'stored' : 'failed');
          }),
        );
      }),
    );
  const files = readdirSync(at()).filter((name) => !name.startsWith('.'));
  expect(Number(path.basename(newest()))).toBeGreaterThan(1);
  expect(files.length).toBeLessThanOrEqual(2);
  expect(await roomUnder(100_000)).toBe(100_000 - 1000 - stored - 5);
  await ledgers[0]?.settle(kept ?? '', 'failed');
  expect(await roomUnder(100_000)).toBe(100_000 - 1000 - stored);
});

test('one that slept over several files finds the newest', async () => {
  const sleeper = ledger();
  await sleeper.reserve(1, undefined, 'data/a');
  const busy = ledger();
  while (Number(path.basename(newest())) < 4) {
    appendFileSync(newest(), '\n'.repeat(1024 * 1024));
    await busy.reserve(10, undefined, 'data/b');
  }
  const room = await roomUnder(10_000);
  expect(await sleeper.reserve(room + 1, 10_000, 'data/c')).toBeUndefined();
  expect(await sleeper.reserve(room, 10_000, 'data/c')).toBeDefined();
  expect(await busy.reserve(1, 10_000, 'data/c')).toBeUndefined();
});

test.each([
  '["+",1000,null,"token","da',
  '["-",1000',
  'nonsense',
  '["+","1000",null,"t","k"]\n',
  '["toString"]\n{}\n[]\n',
])('a line that is torn or none is nothing, and the next one counts: %j', async (torn) => {
  const [one, two] = [ledger(), ledger()];
  await one.reserve(10, 100, 'data/a');
  appendFileSync(newest(), torn);
  await two.reserve(20, 100, 'data/b');
  expect(await one.reserve(71, 100, 'data/c')).toBeUndefined();
  expect(await one.reserve(70, 100, 'data/c')).toBeDefined();
});

test('an admin who removes the file has the store counted anew', async () => {
  const one = ledger(10);
  expect(await one.reserve(91, 100, 'data/a')).toBeUndefined();
  rmSync(at(), { recursive: true });
  expect(await one.reserve(90, 100, 'data/a')).toBeDefined();
});

test('a file that loses what is written to it is an error, not room', async () => {
  const one = ledger(10);
  await one.reserve(10, 100, 'data/a');
  truncateSync(newest());
  await expect(one.reserve(10, 100, 'data/a')).rejects.toMatchObject({ code: 'state-unavailable' });
});

test('a store that cannot be counted is an error, and counted by the next one', async () => {
  let fails = true;
  const one = openLedger(at(), () => (fails ? Promise.reject(new Error('no store')) : Promise.resolve(90)));
  open.push(one);
  await expect(one.reserve(1, 100, 'data/a')).rejects.toThrow('no store');
  fails = false;
  expect(await one.reserve(11, 100, 'data/a')).toBeUndefined();
});

test('of two counts at once one holds, and what came meanwhile is in it', async () => {
  const [one, two] = [ledger(500), ledger(500)];
  const [first, second] = [await one.watch(), await two.watch()];
  await one.settle((await one.reserve(7, undefined, 'data/a')) ?? '', 'stored');
  await first.refresh();
  expect([...first.window.uploads.values()]).toEqual([{ key: 'data/a', size: 7 }]);
  await first.correct(() => 107, 60_000);
  await one.reserve(1, undefined, 'data/b');
  await second.correct(() => 107, 60_000);
  expect(await roomUnder(1000)).toBe(1000 - 108);
  expect(readFileSync(newest(), 'utf8').match(/"fix"/g)).toHaveLength(2);
});

test('a count that is due years from now was noted by a clock that was wrong, and is due', async () => {
  const one = ledger();
  await one.settle((await one.reserve(10, 100, 'data/a')) ?? '', 'stored');
  expect(await one.claimCount(1000)).toBe(false);
  appendFileSync(newest(), `\n${formatLine(['claim', Date.now() + 365 * 86_400_000, 'x'.repeat(8)])}\n`);
  expect(await one.claimCount(1000)).toBe(true);
});
