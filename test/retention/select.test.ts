/** Which snapshots stay: what a client can do to that, which is next to nothing. test/contract compares the rules with restic's own. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { RetentionPolicy } from '../../src/config/types.ts';
import {
  ALWAYS_KEPT,
  claimsOtherTime,
  selectDays,
  selectSnapshots,
  type ArrivedSnapshot,
} from '../../src/retention/select.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = new Date(2026, 10, 27, 12, 0);

const POLICY: RetentionPolicy = {
  ...{ 'keep-last': 4, 'keep-daily': 5, 'keep-weekly': 4, 'keep-monthly': 3 },
  'keep-within': { years: 0, months: 0, days: 2, hours: 0 },
  'group-by': ['host', 'paths'],
};

/** @param ago - in ms, when it arrived */
function snapshot(id: string, ago: number, given: Partial<ArrivedSnapshot> = {}): ArrivedSnapshot {
  const arrived = new Date(NOW.getTime() - ago);
  return { id, arrived, claimed: arrived, accepted: false, host: 'appsrv', paths: ['/srv'], tags: [], ...given };
}

function keptOf(snapshots: readonly ArrivedSnapshot[], options: Partial<Parameters<typeof selectSnapshots>[1]> = {}) {
  const { groups, apart } = selectSnapshots(snapshots, { policy: POLICY, now: NOW, ...options });
  return new Set([
    ...groups.flatMap(({ kept }) => kept.map(({ snapshot: { id } }) => id)),
    ...apart.map(({ id }) => id),
  ]);
}

const nightly = (nights: number): ArrivedSnapshot[] =>
  Array.from({ length: nights }, (_, night) => snapshot(`good-${night}`, night * DAY + HOUR));

describe('what claims another time than it arrived at', () => {
  test.each<[string, Partial<ArrivedSnapshot>, boolean]>([
    ['a nightly backup', {}, false],
    ['a clock that is 23 hours behind', { claimed: new Date(NOW.getTime() - 23 * HOUR) }, false],
    ['a clock that is 23 hours ahead', { claimed: new Date(NOW.getTime() + 23 * HOUR) }, false],
    ['two days ago', { claimed: new Date(NOW.getTime() - 2 * DAY) }, true],
    ['in two days', { claimed: new Date(NOW.getTime() + 2 * DAY) }, true],
    [
      'a first backup of three days',
      { claimed: new Date(NOW.getTime() - 3 * DAY), began: new Date(NOW.getTime() - 3 * DAY) },
      false,
    ],
    [
      'before its session of three days',
      { claimed: new Date(NOW.getTime() - 5 * DAY), began: new Date(NOW.getTime() - 3 * DAY) },
      true,
    ],
    ['in the year 9999', { claimed: new Date('9999-12-31') }, true],
    ['no time at all', { claimed: new Date(NaN) }, true],
  ])('%s', (_name, given, other) => {
    expect(claimsOtherTime(snapshot('a', 0, given))).toBe(other);
  });
});

test('the story: thirteen forged snapshots, which claim the ends of days and months, displace none of eleven good ones', () => {
  const good = [
    ...nightly(6),
    ...Array.from({ length: 5 }, (_, month) => snapshot(`month-${month}`, (month + 1) * 30 * DAY + HOUR)),
  ];
  const policy: RetentionPolicy = { 'keep-daily': 14, 'keep-monthly': 12, 'group-by': ['host', 'paths'] };
  const forged = Array.from({ length: 13 }, (_, index) =>
    snapshot(`forged-${index}`, index * 60_000, { claimed: new Date(NOW.getTime() - (index + 2) * 11 * DAY) }),
  );
  const { groups, apart } = selectSnapshots([...forged, ...good], { policy, now: NOW });
  expect(groups).toHaveLength(1);
  expect(groups[0]?.removed).toEqual([]);
  expect(groups[0]?.kept).toHaveLength(11);
  expect(apart.map(({ id }) => id).sort()).toEqual(forged.map(({ id }) => id).sort());
});

test('an import that the admin has accepted is thinned out by what it claims', () => {
  const imported = Array.from({ length: 20 }, (_, index) =>
    snapshot(`old-${index}`, HOUR, { claimed: new Date(NOW.getTime() - (index + 2) * DAY), accepted: true }),
  );
  const { groups, apart } = selectSnapshots(imported, { policy: { 'keep-daily': 5, 'group-by': [] }, now: NOW });
  expect(apart).toEqual([]);
  expect(groups[0]?.removed.length).toBeGreaterThan(10);
});

test('what a claim of the future gives, once accepted, is the time of arrival', () => {
  const future = snapshot('future', 10 * DAY, { claimed: new Date('2100-01-01'), accepted: true });
  const { groups } = selectSnapshots([future, ...nightly(5)], { policy: { 'keep-last': 1, 'group-by': [] }, now: NOW });
  expect(groups[0]?.removed.map(({ id }) => id)).toContain('future');
});

test('the floor and the newest three of each group stay, whatever the rules', () => {
  const policy: RetentionPolicy = { 'keep-yearly': 1, 'group-by': ['host', 'paths'] };
  const other = nightly(40).map((one) => ({ ...one, id: `other-${one.id}`, paths: ['/etc'] }));
  const kept = keptOf([...nightly(40), ...other], { policy, protectMs: 10 * DAY });
  for (let night = 0; night < 10; night++) expect(kept).toContain(`good-${night}`);
  expect(kept.size).toBe(20);
  expect(keptOf([...nightly(40), ...other], { policy }).size).toBe(2 * ALWAYS_KEPT);
});

test('paths and tags are the same in whatever order', () => {
  const given = [
    snapshot('a', 1, { paths: ['/b', '/a'], tags: ['y', 'x'] }),
    snapshot('b', 2, { paths: ['/a', '/b'], tags: ['x', 'y'] }),
  ];
  const policy: RetentionPolicy = { 'keep-last': 1, 'group-by': ['paths', 'tags'] };
  expect(selectSnapshots(given, { policy, now: NOW }).groups).toMatchObject([
    { paths: ['/a', '/b'], tags: ['x', 'y'] },
  ]);
});

const arrivals = fc.array(fc.integer({ min: 0, max: 400 * 24 }), { minLength: 1, maxLength: 60 });
const goodOf = (hours: readonly number[]): ArrivedSnapshot[] =>
  hours.map((hour, index) => snapshot(`good-${index}`, (hour + 1) * HOUR));

describe('whatever a client adds', () => {
  test('what claims another time changes nothing', () => {
    const forged = fc.array(fc.tuple(fc.integer({ min: 0, max: 100 }), fc.integer({ min: -1000, max: 1000 })), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(arrivals, forged, (hours, lies) => {
        const good = goodOf(hours);
        const added = lies
          .filter(([, days]) => Math.abs(days) > 1)
          .map(([ago, days], index) =>
            snapshot(`forged-${index}`, ago * HOUR, { claimed: new Date(NOW.getTime() - ago * HOUR + days * DAY) }),
          );
        const before = keptOf(good);
        const after = keptOf([...added, ...good]);
        expect([...after].filter((id) => id.startsWith('good'))).toEqual(
          [...before].filter((id) => id.startsWith('good')),
        );
        for (const { id } of added) expect(after).toContain(id);
      }),
      { numRuns: 300 },
    );
  });

  test('however much arrives today, it counts as one day, one week and one month', () => {
    // The rules without keep-last, which counts snapshots and not days: however many arrive today, they are one day, week and month.
    const policy: RetentionPolicy = {
      'keep-daily': 5,
      'keep-weekly': 4,
      'keep-monthly': 3,
      'group-by': ['host', 'paths'],
    };
    fc.assert(
      fc.property(arrivals, fc.integer({ min: 1, max: 40 }), (hours, count) => {
        const good = goodOf(hours.map((hour) => hour + 24));
        const added = (number: number): ArrivedSnapshot[] =>
          Array.from({ length: number }, (_, index) => snapshot(`today-${index}`, index * 60_000));
        const days = (ids: Set<string>): string[] => [...ids].filter((id) => id.startsWith('good')).sort();
        // Forty do no more than four, which are more than those that always stay.
        expect(days(keptOf([...added(Math.max(count, 4)), ...good], { policy }))).toEqual(
          days(keptOf([...added(4), ...good], { policy })),
        );
      }),
      { numRuns: 300 },
    );
  });

  test('other hosts and paths displace nothing', () => {
    fc.assert(
      fc.property(arrivals, arrivals, (hours, others) => {
        const good = goodOf(hours);
        const added = others.map((hour, index) =>
          snapshot(`other-${index}`, hour * HOUR, { host: `host-${index % 3}` }),
        );
        const kept = keptOf([...added, ...good]);
        for (const id of keptOf(good)) expect(kept).toContain(id);
      }),
      { numRuns: 200 },
    );
  });
});

test('a rule more, or a higher count, never removes more', () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 1, max: 20 }), (hours, more) => {
      const good = goodOf(hours);
      const wider: RetentionPolicy = { ...POLICY, 'keep-daily': 5 + more, 'keep-yearly': 2 };
      const kept = keptOf(good, { policy: wider });
      const oldest = good.map(({ arrived }) => arrived.getTime()).sort((a, b) => a - b)[0];
      for (const { id, arrived } of good)
        // A rule that has none left does not keep the oldest of all any more.
        if (keptOf(good).has(id) && arrived.getTime() !== oldest) expect(kept).toContain(id);
    }),
    { numRuns: 200 },
  );
});

test('without the password, whole days are kept or dropped', () => {
  fc.assert(
    fc.property(arrivals, (hours) => {
      const { kept, removed } = selectDays(goodOf(hours), { policy: POLICY, now: NOW });
      const day = ({ arrived }: { arrived: Date }): string => arrived.toDateString();
      const days = new Set(kept.map(({ snapshot: one }) => day(one)));
      expect(kept.length + removed.length).toBe(hours.length);
      for (const one of removed) expect(days).not.toContain(day(one));
    }),
    { numRuns: 200 },
  );
});
