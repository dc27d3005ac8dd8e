/** Reading the audit once and then on, whatever rotation does to its files. */
import { appendFileSync, copyFileSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from '@jest/globals';
import { openFollower, type Follower, type Position } from '../../src/audit/follow.ts';
import { tempDir } from '../support/lab.ts';

let file: string;
let taken: number[];
let clock: number;

beforeEach(() => {
  file = path.join(tempDir(), 'audit.jsonl');
  taken = [];
  clock = Date.parse('2026-03-02T00:00:00Z');
});

const line = (number: number): string =>
  `${JSON.stringify({ time: new Date((clock += 1000)).toISOString(), number, filling: 'x'.repeat(number % 50) })}\n`;
const lines = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, index) => line(from + index)).join('');
const write = (from: number, to: number, name = file): void => {
  appendFileSync(name, lines(from, to));
};
const follow = (from?: Position): Follower =>
  openFollower({
    ...{ file, from, pauseMs: 0 },
    take: (one) => {
      taken.push(Number(one['number']));
    },
  });
const upTo = (last: number): number[] => Array.from({ length: last }, (_, index) => index + 1);
const pack = (name: string, packed: string): void => {
  writeFileSync(packed, gzipSync(readFileSync(name)));
  rmSync(name);
};

describe('one that goes on reading', () => {
  test('takes each line once, as it comes', async () => {
    const follower = follow();
    expect([await follower.catchUp(), follower.position()]).toEqual([true, undefined]);
    write(1, 3);
    await follower.catchUp();
    await follower.catchUp();
    expect(taken).toEqual(upTo(3));
    write(4, 5000);
    await follower.catchUp();
    expect(taken).toEqual(upTo(5000));
    await follower.close();
  });

  test('says how much of a long reading is done, and nothing of a short one', async () => {
    write(1, 10);
    pack(file, `${file}.2.gz`);
    write(11, 20);
    const filling = `${JSON.stringify({ time: new Date(clock).toISOString(), number: 20, filling: 'x'.repeat(9000) })}\n`;
    appendFileSync(file, filling.repeat(4000));
    renameSync(file, `${file}.1`);
    write(21, 30);
    const seen: (number | undefined)[] = [];
    const open = (from?: Position): Follower => {
      const follower = openFollower({ ...{ file, from, pauseMs: 0 }, take: () => seen.push(follower.reading()) });
      return follower;
    };
    const follower = open();
    expect(follower.reading()).toBeUndefined();
    await follower.catchUp();
    expect(follower.reading()).toBeUndefined();
    const shares = seen.map(Number);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect([shares[0], shares.some((share) => share > 0.4 && share < 0.6)]).toEqual([0, true]);
    expect(shares.at(-1)).toBeGreaterThan(0.99);
    // Of what is left, and not of what was read by another one.
    const position = follower.position();
    await follower.close();
    write(31, 32);
    seen.length = 0;
    const next = open(position);
    await next.catchUp();
    expect(seen).toEqual([undefined, undefined]);
    await next.close();
  });

  test('waits for the end of a line, and passes over what is torn or empty', async () => {
    const follower = follow();
    const [text] = [line(2)];
    appendFileSync(file, `${line(1)}${text.slice(0, 10)}`);
    await follower.catchUp();
    expect(taken).toEqual([1]);
    appendFileSync(file, text.slice(10));
    await follower.catchUp();
    appendFileSync(file, `\n\n{"time":"torn\n[1]\n${line(3)}`);
    await follower.catchUp();
    expect(taken.filter((one) => !Number.isNaN(one))).toEqual(upTo(3));
    await follower.close();
  });

  test('goes over rotations, one or several between two looks, to what came before and after', async () => {
    const follower = follow();
    write(1, 3);
    await follower.catchUp();
    write(4, 5);
    renameSync(file, `${file}.1`);
    await follower.catchUp();
    write(6, 7);
    await follower.catchUp();
    expect(taken).toEqual(upTo(7));
    write(8, 9);
    pack(`${file}.1`, `${file}.2.gz`);
    renameSync(file, `${file}.1`);
    write(10, 11);
    renameSync(`${file}.2.gz`, `${file}.3.gz`);
    renameSync(`${file}.1`, `${file}.2`);
    renameSync(file, `${file}.1`);
    write(12, 13);
    await follower.catchUp();
    expect(taken).toEqual(upTo(13));
    write(14, 14);
    await follower.catchUp();
    expect(taken).toEqual(upTo(14));
    await follower.close();
  });

  test('goes over a copy and truncation', async () => {
    const follower = follow();
    write(1, 3);
    await follower.catchUp();
    write(4, 5);
    copyFileSync(file, `${file}.1`);
    truncateSync(file);
    write(6, 6);
    await follower.catchUp();
    expect(taken).toEqual(upTo(6));
    await follower.close();
  });
});

describe('one that goes on where another one was', () => {
  const placeAfter = async (): Promise<Position> => {
    const follower = follow();
    await follower.catchUp();
    const place = follower.position();
    await follower.close();
    taken = [];
    if (place === undefined) throw new Error('there is nothing yet');
    return place;
  };
  const goOn = async (place: Position): Promise<[boolean, number[]]> => {
    const follower = follow(place);
    const good = await follower.catchUp();
    await follower.close();
    return [good, taken];
  };

  test('reads what came since, and not more', async () => {
    write(1, 3000);
    const place = await placeAfter();
    expect(await goOn(place)).toEqual([true, []]);
    write(3001, 3002);
    expect(await goOn(place)).toEqual([true, [3001, 3002]]);
  });

  test('finds the place in a file that was rotated, renamed again and packed', async () => {
    write(1, 3);
    const place = await placeAfter();
    write(4, 5);
    renameSync(file, `${file}.1`);
    write(6, 7);
    pack(`${file}.1`, `${file}.2.gz`);
    expect(await goOn(place)).toEqual([true, [4, 5, 6, 7]]);
  });

  test('goes on with the oldest that is left when rotation has removed its file', async () => {
    write(1, 3);
    const place = await placeAfter();
    rmSync(file);
    expect(await goOn(place)).toEqual([true, []]);
    write(6, 7);
    expect(await goOn(place)).toEqual([true, [6, 7]]);
  });

  test.each<[string, () => void]>([
    [
      'was edited at the place',
      () => {
        writeFileSync(file, readFileSync(file, 'utf8').replace('"number":3', '"number":9'));
      },
    ],
    [
      'was cut',
      () => {
        writeFileSync(file, readFileSync(file, 'utf8').split('\n').slice(0, 2).join('\n') + '\n');
      },
    ],
    [
      'begins otherwise',
      () => {
        writeFileSync(file, readFileSync(file, 'utf8').replace('"number":1', '"number":9'));
      },
    ],
  ])('says so when the audit %s, and then reads all of it', async (_what, change) => {
    write(1, 3);
    const place = await placeAfter();
    change();
    const follower = follow(place);
    expect([await follower.catchUp(), taken]).toEqual([false, []]);
    expect(await follower.catchUp()).toBe(true);
    expect(taken.length).toBeGreaterThan(1);
    await follower.close();
  });
});

test('an audit that cannot be read is told, and read once it can', async () => {
  const follower = follow();
  const directory = path.dirname(file);
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
  await expect(follower.catchUp()).rejects.toMatchObject({ code: 'audit-unavailable' });
  await follower.close();
});
