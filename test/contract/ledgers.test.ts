/** What holds for every ledger, in files of one machine or in a database that several share: each `open` stands for a process of its own. */
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openLedger } from '../../src/limits/ledger.ts';
import type { Ledger } from '../../src/ports/ledger.ts';
import { SILENT } from '../../src/ports/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import { openSharedLedgers } from '../../src/database/ledgers.ts';
import { tempDir } from '../support/lab.ts';
import { sharedConfig, startPostgres, type Postgres } from '../support/postgres.ts';
import { roomUnder as roomOf } from '../support/ledger-room.ts';

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});

type Open = (measured?: number) => Ledger;

/** A way to open one and the same ledger in several processes. */
const KINDS: readonly (readonly [string, () => { open: Open; close: () => Promise<void> }])[] = [
  [
    'in files',
    () => {
      const directory = path.join(tempDir(), 'usage', 'repository');
      const all: Ledger[] = [];
      return {
        open: (measured = 0) => {
          const ledger = openLedger(directory, () => Promise.resolve(measured));
          all.push(ledger);
          return ledger;
        },
        close: async () => {
          await Promise.all(all.map((ledger) => ledger.close()));
        },
      };
    },
  ],
  [
    'in PostgreSQL',
    () => {
      const closing: (() => Promise<void>)[] = [];
      const identity = `repository ${Math.random()}`;
      return {
        open: (measured = 0) => {
          const state = tempDir();
          const { database } = loadConfig(sharedConfig(postgres, 'one'));
          if (database === undefined) throw new Error('it has no database');
          const ledgers = openSharedLedgers({ config: database, state, log: SILENT }, openLedger);
          const ledger = ledgers.open(state, identity, () => Promise.resolve(measured));
          closing.push(async () => {
            await ledger.close();
            await ledgers.close();
          });
          return ledger;
        },
        close: async () => {
          await Promise.all(closing.map((close) => close()));
        },
      };
    },
  ],
];

describe.each(KINDS)('a ledger %s', (_name, make) => {
  let open: Open;
  let close: () => Promise<void>;
  beforeEach(() => {
    ({ open, close } = make());
  });
  afterEach(() => close());

  /** How much room there is, as a process that comes now sees it. */
  const roomUnder = (limit: number): Promise<number> => roomOf(open(), limit);

  test('fits to the last byte, and not one byte more', async () => {
    const one = open(60);
    expect(await one.reserve(41, 100, 'data/a')).toBeUndefined();
    expect(await one.reserve(40, 100, 'data/a')).toBeDefined();
    expect(await one.reserve(1, 100, 'data/b')).toBeUndefined();
    expect(await one.reserve(0, 100, 'data/b')).toBeDefined();
    expect(await one.reserve(500, undefined, 'data/b')).toBeDefined();
    expect(await one.reserve(Number.MAX_SAFE_INTEGER, undefined, 'data/c')).toBeUndefined();
  });

  test('gives back what came to nothing, and keeps what was stored', async () => {
    const [one, two] = [open(10), open(999)];
    const [a, b] = [await one.reserve(20, 100, 'data/a'), await two.reserve(30, 100, 'data/b')];
    expect(await roomUnder(100)).toBe(40);
    await one.settle(a ?? '', 'failed');
    await one.settle(a ?? '', 'failed');
    expect(await roomUnder(100)).toBe(60);
    await two.settle(b ?? '', 'stored');
    await two.settle(b ?? '', 'failed');
    expect(await roomUnder(100)).toBe(60);
    await one.removed(30);
    expect(await roomUnder(100)).toBe(90);
  });

  test('of many who want the last room exactly as many get it as there is', async () => {
    const processes = Array.from({ length: 4 }, () => open(0));
    await processes[0]?.reserve(0, 100, 'data/first');
    const got = await Promise.all(
      processes.flatMap((one, index) =>
        Array.from({ length: 10 }, (_, count) => one.reserve(7, 100, `data/${index}-${count}`)),
      ),
    );
    expect(got.filter((token) => token !== undefined)).toHaveLength(14);
  });

  test('a count is one process, and mends the sum with what went on meanwhile', async () => {
    const [one, two] = [open(50), open()];
    const [stored, failed, under] = [
      await one.reserve(1, undefined, 'data/stored'),
      await one.reserve(2, undefined, 'data/failed'),
      await one.reserve(4, undefined, 'data/under'),
    ];
    const watch = await two.watch();
    await one.settle(stored ?? '', 'stored');
    await one.settle(failed ?? '', 'failed');
    const late = await one.reserve(8, undefined, 'data/late');
    await one.settle(late ?? '', 'stored');
    await watch.refresh();
    expect([...watch.window.uploads.values()].map(({ key }) => key).sort()).toEqual([
      'data/late',
      'data/stored',
      'data/under',
    ]);
    expect(watch.window.removals).toBe(false);
    expect([...watch.window.uploads.keys()].map((token) => watch.isOver(token))).toEqual([false, false, false]);
    await watch.correct((underWay) => {
      expect(underWay).toEqual(new Set([under]));
      return 500;
    }, 1000);
    watch.close();
    expect(await roomUnder(1000)).toBe(500);
    // Of two counts of the same time one holds.
    const [first, second] = [await one.watch(), await two.watch()];
    await first.correct(() => 100, 1000);
    await one.removed(1);
    await second.correct(() => 900, 1000);
    await second.refresh();
    expect(second.window.removals).toBe(true);
    expect(await roomUnder(1000)).toBe(901);
    first.close();
    second.close();
  });
});
