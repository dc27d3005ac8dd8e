/** The rules by which the audit shows something out of the ordinary: each is raised by what it is for, and not by what is near it. */
import { describe, expect, test } from '@jest/globals';
import { openAnomalies } from '../../src/monitor/assess.ts';
import { emptyModel, type ClientRecord } from '../../src/monitor/model.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import {
  DAY,
  HOUR,
  inOrder,
  MONDAY,
  nightly,
  sessionLines,
  type HistoryLine,
  type Story,
} from '../support/audit-history.ts';
import { testClient } from '../support/test-client.ts';

const CLIENT = testClient();
const MIB = 2 ** 20;
const GIB = 2 ** 30;

function added(lines: readonly HistoryLine[], client = 'appsrv'): ClientRecord {
  const model = emptyModel();
  for (const line of inOrder(lines)) addLine(model, line);
  const record = model.clients.get(client);
  if (record === undefined) throw new Error(`there is nothing of ${client}`);
  return record;
}

function raised(lines: readonly HistoryLine[]): string[] {
  const last = Date.parse(String(inOrder(lines).at(-1)?.['time']));
  return openAnomalies(CLIENT, added(lines), new Date(last)).map(({ rule }) => rule);
}

/** Two weeks of nights, 5 MiB each, and then this. */
const afterTwoWeeks = (story: Story, hours = 12): HistoryLine[] => [
  ...nightly(MONDAY, 14),
  ...sessionLines(MONDAY + 14 * DAY + hours * HOUR, story),
];
const denied = (operation: string, reason: string, object?: string): HistoryLine => ({
  event: 'denied',
  operation,
  reason,
  ...(object !== undefined && { object }),
});

describe('raised', () => {
  test.each<[string, readonly HistoryLine[]]>([
    ['snapshot-burst', afterTwoWeeks({ snapshots: 40 })],
    ['snapshot-burst', sessionLines(MONDAY, { init: true, snapshots: 31 })],
    [
      'snapshot-burst',
      [
        ...nightly(MONDAY, 14),
        ...Array.from({ length: 12 }, (_, hour) =>
          sessionLines(MONDAY + 14 * DAY + (hour + 3) * HOUR, { snapshots: 9 }),
        ).flat(),
      ],
    ],
    ['read-spike', afterTwoWeeks({ read: 64 * MIB })],
    ['read-spike', [...nightly(MONDAY, 14, { packs: 10 }), ...sessionLines(MONDAY + 14 * DAY, { read: 71 * MIB })]],
    [
      'read-spike',
      Array.from({ length: 10 }, (_, index) => index).reduce<HistoryLine[]>(
        (lines, index) => [...lines, ...sessionLines(MONDAY + 14 * DAY + index * HOUR, { read: 7 * MIB })],
        nightly(MONDAY, 14),
      ),
    ],
    // A repository from before the audit: 11 GiB in a day, when some MiB are usual.
    [
      'read-spike',
      [...nightly(MONDAY, 14, { init: false, read: 50 * MIB }), ...sessionLines(MONDAY + 14 * DAY, { read: 11 * GIB })],
    ],
    // All that is left after a prune.
    [
      'read-spike',
      [
        ...nightly(MONDAY, 14),
        ...sessionLines(MONDAY + 14 * DAY, { via: 'admin', removedPacks: 50 }),
        ...sessionLines(MONDAY + 14 * DAY + HOUR, { read: 19 * MIB }),
      ],
    ],
    ['new-address', afterTwoWeeks({ from: '203.0.113.9' })],
    ['new-address', afterTwoWeeks({ from: '2001:db8:0:1::7' })],
    ['new-address', [{ ...sessionLines(MONDAY, {})[0], event: 'session-refused', reason: 'address', detail: '' }]],
    ['new-key', afterTwoWeeks({ key: 'SHA256:two' })],
    ['denied-delete', afterTwoWeeks({ also: [denied('remove', 'append-only', 'snapshots/aa')] })],
    ['denied-delete', afterTwoWeeks({ also: [denied('remove', 'read-only', 'data/aa')] })],
    ['denied-delete', afterTwoWeeks({ also: [{ event: 'more-denied', count: 5, reasons: { 'append-only': 5 } }] })],
    ['overwrite', afterTwoWeeks({ also: [denied('save', 'overwrite', 'data/aa')] })],
    ['key-upload', afterTwoWeeks({ also: [denied('save', 'key-added', 'keys/aa')] })],
    ['key-upload', afterTwoWeeks({ keys: 1 })],
    // The first that the audit sees of a repository, and no init.
    ['key-upload', sessionLines(MONDAY, { keys: 1 })],
  ])('%s (%#)', (rule, lines) => {
    expect(raised(lines)).toEqual([rule]);
  });
});

describe('not raised', () => {
  test.each<[string, readonly HistoryLine[]]>([
    ['by as many snapshots as three nights have', afterTwoWeeks({ snapshots: 30 })],
    [
      'by many snapshots where there are always many',
      [...nightly(MONDAY, 14, { snapshots: 30 }), ...sessionLines(MONDAY + 14 * DAY + 2 * HOUR, { snapshots: 80 })],
    ],
    [
      'by a backup every five minutes, from the first day on',
      Array.from({ length: 10 * 288 }, (_, index) =>
        sessionLines(MONDAY + index * 300_000, { init: index === 0, snapshots: 1, minutes: 1 }),
      ).flat(),
    ],
    [
      'by a client without a cache, which reads its indexes every hour from the first day on',
      Array.from({ length: 240 }, (_, hour) =>
        sessionLines(MONDAY + hour * HOUR, {
          init: hour === 0,
          packs: hour === 0 ? 50 : 1,
          snapshots: 1,
          read: 6 * MIB,
        }),
      ).flat(),
    ],
    [
      'by reading less than half',
      [...nightly(MONDAY, 14, { packs: 10 }), ...sessionLines(MONDAY + 14 * DAY, { read: 69 * MIB })],
    ],
    // The smallest part that a check of data can read.
    [
      'by reading a pack of two',
      [...nightly(MONDAY, 2, { packs: 1, packSize: 16 * MIB }), ...sessionLines(MONDAY + 3 * DAY, { read: 17 * MIB })],
    ],
    [
      'by reading the whole of a small repository',
      [...nightly(MONDAY, 2, { packs: 1 }), ...sessionLines(MONDAY + 3 * DAY, { read: 4 * MIB })],
    ],
    [
      'by reading all as it did a month ago',
      [
        ...nightly(MONDAY, 50),
        ...[20, 50].flatMap((day) => sessionLines(MONDAY + day * DAY + 12 * HOUR, { read: 100 * MIB * (day / 20) })),
      ],
    ],
    ["by the admin's check of everything", afterTwoWeeks({ via: 'admin', read: 500 * MIB })],
    ['by a first address', nightly(MONDAY, 14)],
    [
      'by an address of the same network',
      [...nightly(MONDAY, 14, { from: '2001:db8::1' }), ...sessionLines(MONDAY + 14 * DAY, { from: '2001:db8::ffff' })],
    ],
    [
      'by a new address in the first week',
      [...nightly(MONDAY, 4), ...sessionLines(MONDAY + 5 * DAY, { from: '203.0.113.9' })],
    ],
    [
      'by another address of a client that roams',
      [
        ...['198.51.100.1', '198.51.100.2', '198.51.100.3', '198.51.100.4'].flatMap((from, day) =>
          sessionLines(MONDAY + day * DAY, { from, snapshots: 1 }),
        ),
        ...nightly(MONDAY + 4 * DAY, 10, { init: false, from: '198.51.100.1' }),
        ...sessionLines(MONDAY + 14 * DAY, { from: '203.0.113.9' }),
      ],
    ],
    ["by the admin's own address", afterTwoWeeks({ via: 'admin', from: '203.0.113.9', key: 'SHA256:admin' })],
    ["by restic's clean-up", afterTwoWeeks({ also: [denied('remove', 'cleanup-after-failed-save', 'data/aa')] })],
    ["by another's lock", afterTwoWeeks({ also: [denied('remove', 'lock-of-another', 'locks/aa')] })],
    ["by a read-only client's lock", afterTwoWeeks({ also: [denied('remove', 'read-only', 'locks/aa')] })],
    [
      'by a session too many',
      [
        ...nightly(MONDAY, 14),
        {
          ...sessionLines(MONDAY + 14 * DAY, { from: '203.0.113.9' })[0],
          ...{ event: 'session-refused', reason: 'max-sessions', detail: '' },
        },
      ],
    ],
    ['by a quota that is used up', afterTwoWeeks({ also: [denied('save', 'quota-exceeded', 'data/aa')] })],
    ['by init', sessionLines(MONDAY, { init: true })],
    ["by the admin's new password", afterTwoWeeks({ via: 'admin', keys: 1 })],
    [
      'by snapshots that came to nothing',
      afterTwoWeeks({
        also: Array.from({ length: 60 }, (_, index) => [
          { event: 'create', object: `snapshots/${index}`, size: 300, sha256: '' },
          { event: 'create-failed', object: `snapshots/${index}`, reason: 'store-failed' },
        ]).flat(),
      }),
    ],
  ])('%s', (_what, lines) => {
    expect(raised(lines)).toEqual([]);
  });
});

describe('what clients remove', () => {
  const START = MONDAY + 60 * DAY;
  /** What a removal says; sessions of the client remove through `also`. @param age - how long ago the snapshot arrived, in ms */
  const forget = (at: number, ages: readonly number[]): HistoryLine[] =>
    ages.map((age, index) => ({
      ...{ event: 'remove', object: `snapshots/${at}-${index}`, size: 300 },
      arrived: new Date(at - age).toISOString(),
    }));
  const prune = (packs: number, size = MIB): HistoryLine[] =>
    Array.from({ length: packs }, (_, index) => ({ event: 'remove', object: `data/${index}`, size }));
  const removes = (at: number, also: readonly HistoryLine[], more: Story = {}): HistoryLine[] =>
    sessionLines(at, { also, ...more });
  const days = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => (from + index) * DAY);
  const nights = (story: Story = {}): HistoryLine[] => nightly(MONDAY, 60, story);
  /** For so many days, a snapshot an hour. */
  const hourly = (from: number, count: number): HistoryLine[] =>
    Array.from({ length: count * 24 }, (_, hour) =>
      sessionLines(from + hour * HOUR, { packs: 1, packSize: 1000, snapshots: 1, minutes: 1 }),
    ).flat();
  const shown = (lines: readonly HistoryLine[], client = 'appsrv') => {
    const last = Date.parse(String(inOrder(lines).at(-1)?.['time']));
    return openAnomalies(CLIENT, added(lines, client), new Date(last));
  };
  const massOf = (lines: readonly HistoryLine[]): string[] => shown(lines).map(({ rule }) => rule);

  test.each<[string, string, readonly HistoryLine[]]>([
    [
      'more than a third of the snapshots',
      'within a day, 21 of 53 snapshots.',
      [
        ...nights(),
        ...removes(
          START,
          forget(
            START,
            days(1, 22).map((age) => age - HOUR),
          ),
        ),
      ],
    ],
    [
      'the same in many sessions, around midnight',
      'within a day, 24 of 52 snapshots.',
      [
        ...nights(),
        ...days(1, 13).flatMap((age, index) =>
          removes(START - 7 * HOUR + index * HOUR, forget(START - 7 * HOUR + index * HOUR, [age, age])),
        ),
      ],
    ],
    [
      'few of all, but most of the old ones',
      '30 of 54 snapshots that were older than three weeks.',
      [
        ...nightly(MONDAY, 54),
        ...hourly(MONDAY + 54 * DAY, 21),
        ...removes(MONDAY + 75 * DAY, forget(MONDAY + 75 * DAY, days(22, 52))),
      ],
    ],
    [
      'no snapshot, but the data',
      'within a day, 101.0 MiB of 270.1 MiB.',
      [...nights(), ...removes(START, prune(101))],
    ],
    [
      'a few large packs among many small ones',
      'within a day, 800.0 MiB of 920.0 MiB.',
      [
        ...sessionLines(MONDAY, { init: true, packs: 50, packSize: 16 * MIB, snapshots: 1 }),
        ...nightly(MONDAY + DAY, 30, { init: false, packs: 40, packSize: MIB / 8 }),
        ...removes(MONDAY + 31 * DAY, prune(50, 16 * MIB)),
      ],
    ],
    [
      'all of a tiny repository',
      'within a day, 1.1 MiB of 1.1 MiB.',
      [...nightly(MONDAY, 60, { packs: 1, packSize: 20_000 }), ...removes(START, prune(60, 20_000))],
    ],
    [
      'a quarter on each of four days',
      'within a week, 40 of 40 snapshots',
      [
        ...nights(),
        ...[0, 1, 2, 3].flatMap((day) => removes(START + day * DAY, forget(START + day * DAY, days(1, 11)))),
      ],
    ],
    [
      'most of what there was, after a week of many others',
      'within a day, 30 of 59 snapshots',
      [
        ...nights(),
        ...[0, 1, 2, 3, 4, 5].flatMap((day) =>
          [0, 3, 6, 9].flatMap((hour) => removes(START + day * DAY + hour * HOUR, [], { snapshots: 24 })),
        ),
        ...removes(START + 6 * DAY, forget(START + 6 * DAY, days(7, 37))),
      ],
    ],
  ])('%s', (_what, words, lines) => {
    const [newest, ...others] = shown(lines);
    expect(newest?.rule).toBe('mass-removal');
    expect(newest?.what).toContain(words);
    for (const { rule } of others) expect(rule).toBe('mass-removal');
  });

  test('are added up over the clients of one repository', () => {
    const two = { client: 'other', prefix: 'appsrv' };
    const lines = [
      ...nights(),
      ...removes(START, forget(START, days(1, 16))),
      ...removes(START + HOUR, forget(START, days(16, 31)), two),
    ];
    expect(massOf(lines)).toEqual([]);
    expect(shown(lines, 'other').map(({ rule }) => rule)).toContain('mass-removal');
  });

  test.each<[string, readonly HistoryLine[]]>([
    ['a third', [...nights(), ...removes(START, forget(START, days(1, 18)))]],
    [
      'what the admin thins out',
      [...nights(), ...removes(START, [...forget(START, days(1, 59)), ...prune(290)], { via: 'admin' })],
    ],
    [
      'what comes to nothing',
      [
        ...nights(),
        ...removes(
          START,
          forget(START, days(1, 59)).flatMap((line) => [
            line,
            { event: 'remove-failed', object: line['object'], reason: 'absent' },
          ]),
        ),
      ],
    ],
    [
      'one of the last two, each night',
      days(0, 30).flatMap((day) =>
        sessionLines(MONDAY + day, {
          ...{ init: day === 0, snapshots: 1, packs: 1 },
          also: day < 2 * DAY ? [] : [...forget(MONDAY + day, [2 * DAY]), ...prune(1)],
        }),
      ),
    ],
    [
      'hourly snapshots that are thinned out each day, once they are two weeks old',
      [
        ...sessionLines(MONDAY, { init: true }),
        ...hourly(MONDAY, 40),
        ...days(15, 40).flatMap((day) =>
          removes(
            MONDAY + day,
            forget(
              MONDAY + day,
              Array.from({ length: 23 }, () => 14.5 * DAY),
            ),
          ),
        ),
      ],
    ],
    [
      'what is usual: many each week',
      [
        ...nights({ snapshots: 8 }),
        ...days(7, 60)
          .filter((day) => (day / DAY) % 7 === 0)
          .flatMap((day) =>
            removes(
              MONDAY + day,
              forget(
                MONDAY + day,
                Array.from({ length: 49 }, () => 4 * DAY),
              ),
            ),
          ),
      ],
    ],
  ])('no more than %s', (_what, lines) => {
    // What is usual has to be known first.
    const known = Date.parse(String(inOrder(lines).at(-1)?.['time'])) - 14 * DAY;
    expect(shown(lines).filter(({ at }) => at.getTime() > known)).toEqual([]);
  });

  test('what was acknowledged does not count again', () => {
    const first = [...nights(), ...removes(START, forget(START, days(1, 31)))];
    const [anomaly] = shown(first);
    const known = {
      ...{ ...first.at(-1), event: 'anomaly-acknowledged', rule: 'mass-removal', anomaly: anomaly?.id },
      time: new Date(START + HOUR).toISOString(),
    };
    const more = [...first, known, ...removes(START + 2 * HOUR, forget(START, days(31, 33)))];
    expect(massOf(more)).toEqual([]);
    // But as much again does.
    expect(massOf([...more, ...removes(START + 3 * HOUR, forget(START, days(33, 55)))])).toEqual(['mass-removal']);
  });
});

test('each snapshot that claims another time is told of once, until all are accepted', () => {
  const forged = (names: readonly string[]): HistoryLine[] =>
    names.map((name) => ({
      ...{ event: 'forged-time', object: `snapshots/${name}` },
      ...{ claimed: '2020-01-01T00:00:00.000Z', arrived: '2026-03-10T00:00:00.000Z' },
    }));
  const found = (hours: number, names: readonly string[]): HistoryLine[] =>
    sessionLines(MONDAY + 14 * DAY + hours * HOUR, { via: 'admin', also: forged(names) });
  const accepted = (name: string, hours: number): HistoryLine[] =>
    sessionLines(MONDAY + 14 * DAY + hours * HOUR, {
      via: 'admin',
      also: [{ event: 'time-accepted', object: `snapshots/${name}` }],
    });
  const lines = [...nightly(MONDAY, 14), ...found(1, ['aa', 'bb']), ...found(25, ['aa', 'bb'])];
  expect(added(lines).anomalies).toMatchObject([{ rule: 'forged-time', count: 2 }]);
  expect(raised([...lines, ...accepted('aa', 26)])).toEqual(['forged-time']);
  expect(raised([...lines, ...accepted('aa', 26), ...accepted('bb', 27)])).toEqual([]);
});

test('an ordinary week raises nothing, for whom and however it is looked at', () => {
  const lines: HistoryLine[] = [];
  const history = (
    client: string,
    weeks: number,
    hours: (day: number) => readonly number[],
    story: Story = {},
  ): void => {
    for (let day = 0; day < 7 * weeks; day++)
      for (const hour of hours(day))
        lines.push(
          ...sessionLines(MONDAY + day * DAY + hour * HOUR, {
            ...{ client, init: day === 0 && hour === hours(0)[0], packs: 3, snapshots: 1, read: 300_000 },
            ...story,
          }),
        );
  };
  const weekday = (day: number): boolean => day % 7 < 5;
  // Three weeks from before, and the week.
  history('daily', 4, () => [2]);
  history('hourly', 4, () => Array.from({ length: 24 }, (_, hour) => hour), { packs: 1 });
  history('three-a-night', 4, () => [1, 1.2, 1.4]);
  // A notebook: on working days, from home and from the office, and in the week also one Monday missing after the weekend.
  history('notebook', 4, (day) => (weekday(day) && day !== 21 ? [9 + (day % 3)] : []));
  for (const line of lines.filter(({ client }) => client === 'notebook'))
    if (Math.floor((Date.parse(String(line['time'])) - MONDAY) / DAY) % 2 === 1)
      (line as Record<string, unknown>)['from'] = '198.51.100.7';

  const at = (day: number, hour: number): number => MONDAY + (21 + day) * DAY + hour * HOUR;
  const cleanup: HistoryLine[] = [
    { event: 'create', object: 'data/failing', size: 2 ** 20, sha256: '' },
    { event: 'create-failed', object: 'data/failing', reason: 'store-failed' },
    { event: 'failed', operation: 'save', object: 'data/failing', reason: 'store-failed', detail: '' },
    denied('remove', 'cleanup-after-failed-save', 'data/failing'),
  ];
  lines.push(
    // A failed run, a killed one, and the retry.
    ...sessionLines(at(1, 3), { client: 'daily', packs: 2, also: cleanup }),
    ...sessionLines(at(1, 4), { client: 'daily', packs: 2, killed: true }),
    ...sessionLines(at(1, 5), { client: 'daily', packs: 2, snapshots: 1 }),
    // The admin thins out, and checks everything.
    ...sessionLines(at(2, 10), {
      client: 'daily',
      via: 'admin',
      read: 400 * MIB,
      removedSnapshots: 14,
      removedPacks: 20,
      packs: 6,
    }),
    ...sessionLines(at(2, 11), { client: 'daily', via: 'admin', read: 400 * MIB }),
    // Some files come back; a tenth is read to be checked; someone looks.
    ...sessionLines(at(3, 14), { client: 'daily', read: 25 * MIB }),
    ...sessionLines(at(4, 6), { client: 'hourly', read: 60 * MIB }),
    ...sessionLines(at(4, 7), { client: 'hourly', read: 40_000 }),
    // Two runs at once: the lock of another.
    ...sessionLines(at(5, 2), { client: 'hourly', also: [denied('remove', 'lock-of-another', 'locks/bb')] }),
  );
  const model = emptyModel();
  for (const line of inOrder(lines)) addLine(model, line);
  for (const client of ['daily', 'hourly', 'three-a-night', 'notebook'])
    expect([client, model.clients.get(client)?.anomalies]).toEqual([client, []]);
});

test('one forget, refused for each of its snapshots, counts once', () => {
  const forget = (hours: number): HistoryLine[] =>
    sessionLines(MONDAY + 14 * DAY + hours * HOUR, {
      also: [
        ...Array.from({ length: 20 }, (_, index) => denied('remove', 'append-only', `snapshots/${index}a`)),
        { event: 'more-denied', count: 50, reasons: { 'append-only': 50 } },
      ],
    });
  expect(added([...nightly(MONDAY, 14), ...forget(1)]).anomalies).toMatchObject([{ rule: 'denied-delete', count: 1 }]);
  const twice = added([...nightly(MONDAY, 14), ...forget(1), ...forget(2)]);
  expect(twice.anomalies).toMatchObject([{ rule: 'denied-delete', count: 2 }]);
});

test('what goes on belongs to one anomaly for a day, and to another one once that was acknowledged', () => {
  const attack = (hours: number): HistoryLine[] =>
    sessionLines(MONDAY + 14 * DAY + hours * HOUR, { also: [denied('remove', 'append-only', 'snapshots/aa')] });
  const lines = [...nightly(MONDAY, 14), ...attack(1), ...attack(2), ...attack(3)];
  const { anomalies } = added(lines);
  expect(anomalies).toMatchObject([{ rule: 'denied-delete', count: 3 }]);
  const seen = {
    ...{
      time: new Date(MONDAY + 14 * DAY + 4 * HOUR).toISOString(),
      client: 'appsrv',
      store: 'store',
      prefix: 'appsrv',
    },
    ...{ event: 'anomaly-acknowledged', anomaly: anomalies[0]?.id },
  };
  expect(raised([...lines, seen])).toEqual([]);
  const again = added([...lines, seen, ...attack(5), ...attack(30)]).anomalies;
  expect(again).toMatchObject([{ count: 3 }, { count: 1 }, { count: 1 }]);
  expect(new Set(again.map(({ id }) => id)).size).toBe(3);
});

test('an anomaly ages out a week after it was last seen', () => {
  const lines = afterTwoWeeks({ keys: 1 });
  const record = added(lines);
  const { last } = record.anomalies[0] ?? { last: 0 };
  const left = (ms: number): number => openAnomalies(CLIENT, record, new Date(last + ms)).length;
  expect([left(7 * DAY - 1), left(7 * DAY)]).toEqual([1, 0]);
});

describe('what an attacker did stays to be seen', () => {
  const attack = afterTwoWeeks({ key: 'SHA256:two', also: [denied('save', 'overwrite', 'data/aa')] });
  const refused = (at: number, from: string): HistoryLine => ({
    ...{ ...sessionLines(at, { from })[0], event: 'session-refused', reason: 'address', detail: '' },
    session: `refused-${from}-${at}`,
  });

  test('when the key is then refused from a thousand addresses', () => {
    const flood = Array.from({ length: 1000 }, (_, n) =>
      refused(MONDAY + 14 * DAY + 13 * HOUR + n * 1000, `198.51.${n % 100}.${Math.floor(n / 100)}`),
    );
    const counted = { ...flood.at(-1), event: 'more-refused', count: 5000, reasons: { address: 4000, disabled: 1000 } };
    const record = added([...attack, ...flood, counted]);
    expect(record.anomalies).toMatchObject([
      { rule: 'new-key' },
      { rule: 'overwrite', count: 1 },
      { rule: 'new-address', count: 5000, facts: { newest: '198.51.99.9' } },
    ]);
    expect(record.refusals.filter(({ operation }) => operation === 'session').length).toBeLessThanOrEqual(10);
    expect(record.refusals).toContainEqual(expect.objectContaining({ operation: 'save', reason: 'overwrite' }));
    expect(record.days.at(-1)?.denied).toEqual({ overwrite: 1, address: 5000, disabled: 1000 });
  });

  test('when the same trouble comes day after day', () => {
    const days = Array.from({ length: 28 }, (_, day) =>
      sessionLines(MONDAY + (15 + day) * DAY, {
        also: [denied('remove', 'append-only', 'data/aa'), denied('save', 'key-added', 'keys/aa')],
      }),
    ).flat();
    const rules = added([...attack, ...days]).anomalies.map(({ rule }) => rule);
    expect(rules).toEqual(expect.arrayContaining(['new-key', 'overwrite']));
  });

  test('and who had to wait was not denied', () => {
    const lines = afterTwoWeeks({ also: [{ event: 'more-denied', count: 9, reasons: { throttled: 9 } }] });
    expect(added(lines).days.at(-1)?.denied).toEqual({});
  });
});

test('whoever makes a year of trouble is held in bounded memory', () => {
  const lines = Array.from({ length: 365 }, (_, day) => [
    ...sessionLines(MONDAY + day * DAY, {
      ...{
        from: `10.0.${day % 256}.${Math.floor(day / 256)}`,
        key: `SHA256:${day}`,
        snapshots: 40,
        killed: day % 3 > 0,
      },
      also: [denied('remove', `made-up-${day}`, 'data/aa'), denied('save', 'overwrite', 'data/aa')],
    }),
  ]).flat();
  const record = added(lines);
  expect(JSON.stringify(record).length).toBeLessThan(150_000);
  const { open, latest, addresses, keys, arrivals, refusals, anomalies, days } = record;
  expect([open, latest, addresses, keys, arrivals, refusals].map(({ length }) => length)).toEqual([
    ...[24, 50, 32, 32, 30, 10],
  ]);
  for (const rule of new Set(anomalies.map((one) => one.rule)))
    expect(anomalies.filter((one) => one.rule === rule).length).toBeLessThanOrEqual(20);
  expect(days.length).toBeLessThanOrEqual(91);
});
