/** What happens to the audit's file between two looks: whether it counts as lost. */
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { watchForLoss } from '../../src/audit/loss.ts';

/** As many as are needed below. */
const SITES = 9;
/** Prepared together, since each must have been there for a while. */
const prepared: string[] = [];
let directory: string;
let file: string;
beforeAll(async () => {
  for (let count = 0; count < SITES; count++) {
    directory = mkdtempSync(path.join(tmpdir(), 'audit-loss-'));
    prepared.push(directory);
    file = path.join(directory, 'audit.jsonl');
    writeFileSync(file, '{"event":"first"}\n{"event":"last"}\n');
    // Rotated files of other days, as they are there all the time where some are kept.
    for (const day of [10, 11, 12]) writeFileSync(rotated(day), `{"event":"of day ${day}"}\n`);
  }
  // Later than what a file system may round its times to.
  await sleep(2100);
});
afterAll(() => {
  for (const each of prepared) rmSync(each, { recursive: true, force: true });
});
let next = 0;
function nextSite(): void {
  directory = prepared[next++] ?? '';
  file = path.join(directory, 'audit.jsonl');
}

const rotated = (day: number): string => `${file}-202611${day}`;
const REMOVED = /audit\.jsonl was removed: \d+ bytes of the audit are gone from its directory/;
const REPLACED = /audit\.jsonl was replaced: /;

/** What the second look finds after something was done to the file. */
async function found(what: () => void, keep?: number): Promise<string | undefined> {
  nextSite();
  const watch = watchForLoss(file, keep);
  try {
    expect(await watch.look()).toBeUndefined();
    what();
    return await watch.look();
  } finally {
    await watch.close();
  }
}

test.each<readonly [string, () => void]>([
  [
    'it was appended to',
    () => {
      appendFileSync(file, '{"event":"more"}\n');
    },
  ],
  [
    'it was rotated',
    () => {
      renameSync(file, rotated(13));
    },
  ],
  [
    'it was rotated by logrotate, and packed',
    () => {
      rmSync(file);
      const packed = `${file}.1.gz`;
      writeFileSync(packed, gzipSync('{"event":"first"}\n{"event":"last"}\n'));
      // gzip gives the packed one the time of the other.
      utimesSync(packed, 1, 1);
      writeFileSync(file, '');
    },
  ],
])('nothing is lost when %s', async (_what, change) => {
  expect(await found(change)).toBeUndefined();
});

test('rotated so often between two looks that it is no longer kept: nothing that should be there is lost', async () => {
  const change = (): void => {
    for (const day of [13, 14]) writeFileSync(rotated(day), '{"event":"later"}\n');
    writeFileSync(file, '');
    rmSync(file);
  };
  expect(await found(change, 2)).toBeUndefined();
});

test.each([undefined, 3])(
  'removed or replaced is lost, also where as many rotated files are there as are kept (%p)',
  async (keep) => {
    expect(
      await found(() => {
        rmSync(file);
      }, keep),
    ).toMatch(REMOVED);
    writeFileSync(file, '{"event":"first"}\n');
    const forge = (): void => {
      writeFileSync(`${file}.new`, '{"event":"forged"}\n');
      renameSync(`${file}.new`, file);
    };
    expect(await found(forge, keep)).toMatch(REPLACED);
  },
);

test('replaced by what cannot be read, it is lost all the same', async () => {
  const change = (): void => {
    rmSync(file);
    mkdirSync(file);
  };
  expect(await found(change)).toMatch(REPLACED);
});
