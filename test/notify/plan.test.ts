/** What a target is told of what is wrong, and when: a pure function, by what it says over time. */
import { describe, expect, test } from '@jest/globals';
import type { NotifyTarget } from '../../src/config/notify.ts';
import { NOTIFY_EVENTS } from '../../src/config/notify.ts';
import type { Condition } from '../../src/notify/conditions.ts';
import { isWanted, matches, plan, type Draft } from '../../src/notify/plan.ts';
import { emptyTold, type Told } from '../../src/notify/told.ts';
import { DAY, HOUR, MONDAY } from '../support/audit-history.ts';

const MINUTE = 60_000;
const NOON = MONDAY + 12 * HOUR;

function target(given: Partial<NotifyTarget> = {}): NotifyTarget {
  return {
    ...{ name: 'admins', channel: { type: 'webhook', url: { text: 'http://x/' }, format: 'json' } },
    ...{ events: NOTIFY_EVENTS, severity: 'warning', timeZone: 'UTC', reminders: [DAY, 3 * DAY, 7 * DAY] },
    ...given,
  };
}

function late(client = 'appsrv', more: Partial<Condition> = {}): Condition {
  return {
    ...{
      key: `late-1/${client}`,
      event: 'late',
      rule: 'late',
      severity: 'warning',
      client: { id: client, name: client },
    },
    ...{ since: NOON - HOUR, what: 'No snapshot.', advice: 'Look.' },
    ...more,
  };
}

const attack = (client = 'appsrv', id = '1'): Condition =>
  late(client, { key: `denied-delete-${id}/${client}`, event: 'anomaly', rule: 'denied-delete', severity: 'critical' });

/** A target over time: what it is told at each step. */
function story(given: Partial<NotifyTarget> = {}) {
  const one = target(given);
  let told: Told = emptyTold(NOON);
  return {
    at: (time: number, conditions: readonly Condition[], reachable = true): Draft | undefined => {
      const { draft, arrived, kept, failed } = plan(one, told, conditions, { ok: 1 }, time);
      told = draft === undefined ? kept : reachable ? arrived : failed;
      // As it is read again after a restart.
      told = JSON.parse(JSON.stringify(told)) as Told;
      return draft;
    },
    told: () => told,
  };
}

const said = (draft: Draft | undefined): string[] | undefined =>
  draft?.items.map(({ state, client = '-', rule }) => `${state} ${client} ${rule}`);

test('once when it begins, once when it is over, and nothing between', () => {
  const { at } = story();
  expect(at(NOON, [])).toBeUndefined();
  expect(said(at(NOON + MINUTE, [late()]))).toEqual(['new appsrv late']);
  for (let minutes = 2; minutes < 120; minutes++) expect(at(NOON + minutes * MINUTE, [late()])).toBeUndefined();
  expect(at(NOON + 3 * HOUR, [])).toMatchObject({ severity: 'ok', items: [{ state: 'over', rule: 'late' }] });
  expect(at(NOON + 4 * HOUR, [])).toBeUndefined();
});

test('what happens at once is one message, the worst first', () => {
  const { at } = story();
  const draft = at(NOON, [late('b'), late('c'), attack('a')]);
  expect(said(draft)).toEqual(['new a denied-delete', 'new b late', 'new c late']);
  expect(draft).toMatchObject({ kind: 'change', severity: 'critical' });
});

test('reminders come at growing distance, those of several together', () => {
  const { at } = story();
  at(NOON, [late('a')]);
  at(NOON + 3 * HOUR, [late('a'), late('b')]);
  const reminders: number[] = [];
  for (let hour = 4; hour < 30 * 24; hour++) {
    const draft = at(NOON + hour * HOUR, [late('a'), late('b')]);
    if (draft === undefined) continue;
    expect(draft).toMatchObject({ kind: 'reminder', severity: 'warning' });
    expect(said(draft)).toEqual(['still a late', 'still b late']);
    reminders.push(Math.round(hour / 24));
  }
  expect(reminders).toEqual([1, 4, 11, 18, 25]);
});

test('no reminders where the config says none', () => {
  const { at } = story({ reminders: [] });
  at(NOON, [late()]);
  for (let day = 1; day < 30; day++) expect(at(NOON + day * DAY, [late()])).toBeUndefined();
});

test('quiet hours hold back all but what is critical, and what is over by the morning is never told', () => {
  const { at } = story({ quietHours: { from: 22 * 60, to: 7 * 60 } });
  const evening = MONDAY + 23 * HOUR;
  expect(at(evening, [late('a'), late('b')])).toBeUndefined();
  expect(said(at(evening + HOUR, [late('a'), late('b'), attack()]))).toEqual(['new appsrv denied-delete']);
  expect(at(evening + 2 * HOUR, [late('a')])).toBeUndefined();
  expect(said(at(MONDAY + DAY + 7 * HOUR, [late('a')]))).toEqual(['new a late', 'over appsrv denied-delete']);
});

test('by the time zone of the config', () => {
  const quiet = { quietHours: { from: 22 * 60, to: 7 * 60 }, timeZone: 'Asia/Tokyo' };
  expect(story(quiet).at(MONDAY + 14 * HOUR, [late()])).toBeUndefined();
  expect(said(story(quiet).at(MONDAY + 23 * HOUR, [late()]))).toEqual(['new appsrv late']);
});

test('what has grown is told again, what has shrunk is not', () => {
  const { at } = story();
  const found = (level: number): Condition => late('a', { key: 'scrub/a', event: 'scrub', rule: 'scrub', level });
  expect(said(at(NOON, [found(2)]))).toEqual(['new a scrub']);
  expect(at(NOON + HOUR, [found(1)])).toBeUndefined();
  expect(said(at(NOON + 2 * HOUR, [found(5)]))).toEqual(['worse a scrub']);
  expect(at(NOON + 3 * HOUR, [found(5)])).toBeUndefined();
});

test('what must last for a while is told after that', () => {
  const { at } = story();
  const never = late('a', { key: 'never/a', rule: 'never', afterMs: 2 * DAY });
  expect(at(NOON, [never])).toBeUndefined();
  expect(at(NOON + 47 * HOUR, [never])).toBeUndefined();
  expect(said(at(NOON + 48 * HOUR, [never]))).toEqual(['new a never']);
});

describe('a target that is away', () => {
  test('is told everything when it is back, also what came and went', () => {
    const { at } = story();
    expect(said(at(NOON, [late('a'), late('b')], false))).toEqual(['new a late', 'new b late']);
    expect(said(at(NOON + HOUR, [late('b'), attack()], false))).toEqual([
      'new appsrv denied-delete',
      'new b late',
      'missed a late',
    ]);
    expect(said(at(NOON + 2 * HOUR, [late('b'), attack()]))).toEqual([
      'new appsrv denied-delete',
      'new b late',
      'missed a late',
    ]);
    expect(at(NOON + 3 * HOUR, [late('b'), attack()])).toBeUndefined();
    expect(said(at(NOON + 4 * HOUR, [attack()]))).toEqual(['over b late']);
  });

  test('is told of an end that it has missed', () => {
    const { at } = story();
    at(NOON, [late()]);
    expect(said(at(NOON + HOUR, [], false))).toEqual(['over appsrv late']);
    expect(said(at(NOON + 9 * HOUR, []))).toEqual(['over appsrv late']);
    expect(at(NOON + 10 * HOUR, [])).toBeUndefined();
  });
});

describe('a client whose state goes to and fro', () => {
  const flip = (given: readonly Condition[], hours: number): Map<string, number> => {
    const { at } = story();
    const told = new Map<string, number>();
    for (let minute = 0; minute < hours * 60; minute++)
      for (const { client = '' } of at(NOON + minute * MINUTE, minute % 2 === 0 ? given : [late('other')])?.items ?? [])
        told.set(client, (told.get(client) ?? 0) + 1);
    return told;
  };

  test('has at most five messages at once, and three an hour after that', () => {
    const told = flip([late('flood'), late('other')], 24).get('flood') ?? 0;
    expect(told).toBeGreaterThan(24);
    expect(told).toBeLessThanOrEqual(5 + 24 * 3);
  });

  test('uses up neither what is critical nor what is about others', () => {
    const { at } = story();
    for (let minute = 0; minute < 60; minute++) at(NOON + minute * MINUTE, minute % 2 === 0 ? [late('flood')] : []);
    expect(
      said(at(NOON + HOUR + MINUTE, [late('flood', { key: 'late-2/flood' }), attack('flood'), late('b')])),
    ).toEqual(expect.arrayContaining(['new flood denied-delete', 'new b late']));
  });

  test('is told as it stands in the end', () => {
    const { at, told } = story();
    for (let minute = 0; minute < 61; minute++) at(NOON + minute * MINUTE, minute % 2 === 0 ? [late('flood')] : []);
    for (let minute = 61; minute < 120; minute++) at(NOON + minute * MINUTE, [late('flood')]);
    expect(Object.keys(told().open)).toEqual(['late-1/flood']);
  });
});

describe('the digest', () => {
  test('comes each week on its day at eight, once, with what is open', () => {
    const { at } = story({ digest: 1, reminders: [] });
    at(NOON, [late()]);
    const digests: number[] = [];
    for (let hour = 1; hour < 22 * 24; hour++) {
      const draft = at(NOON + hour * HOUR, [late()]);
      if (draft === undefined) continue;
      expect(draft).toMatchObject({ kind: 'digest', census: { ok: 1 }, items: [{ state: 'still' }] });
      digests.push(NOON + hour * HOUR);
    }
    expect(digests).toEqual([7, 14, 21].map((day) => MONDAY + day * DAY + 8 * HOUR));
  });

  test('is made up for when the gateway was down at that time', () => {
    const { at } = story({ digest: 1 });
    expect(at(MONDAY + 9 * DAY, [])).toMatchObject({ kind: 'digest', severity: 'ok', items: [] });
    expect(at(MONDAY + 9 * DAY + HOUR, [])).toBeUndefined();
    expect(at(MONDAY + 14 * DAY + 9 * HOUR, [])).toMatchObject({ kind: 'digest' });
  });

  test('comes in the time zone of the config, over a change of its clocks', () => {
    const { at } = story({ digest: 1, timeZone: 'Europe/Berlin' });
    const digests: string[] = [];
    for (let half = 1; half < 5 * 7 * 48; half++) {
      const time = NOON + half * (HOUR / 2);
      if (at(time, []) !== undefined) digests.push(new Date(time).toISOString().slice(5, 16));
    }
    expect(digests).toEqual(['03-09T07:00', '03-16T07:00', '03-23T07:00', '03-30T06:00', '04-06T06:00']);
  });
});

test('what the config has it not told of any more is not said to be over', () => {
  let told: Told = emptyTold(NOON);
  told = plan(target(), told, [late()], {}, NOON).arrived;
  const narrowed = target({ events: ['anomaly'] });
  const { draft, kept } = plan(narrowed, told, [late()], {}, NOON + HOUR);
  expect({ draft, open: kept.open }).toEqual({ draft: undefined, open: {} });
});

test.each<[Partial<NotifyTarget>, Partial<Condition>, boolean]>([
  [{}, {}, true],
  [{ severity: 'critical' }, {}, false],
  [{ severity: 'critical' }, { severity: 'critical' }, true],
  [{ events: ['anomaly'] }, {}, false],
  [{ clients: ['appsrv'] }, {}, true],
  [{ clients: ['app*'] }, {}, true],
  [{ clients: ['db*'] }, {}, false],
  [{}, { target: 'admins' }, false],
  [{}, { target: 'others' }, true],
])('a target of %j and %j: %j', (given, condition, wanted) => {
  expect(isWanted(target(given), late('appsrv', condition))).toBe(wanted);
});

test.each([
  ['web-*', 'web-1', true],
  ['web-*', 'web', false],
  ['*', 'anything', true],
  ['*-db', 'eu-db', true],
  ['*-db', 'eu-db2', false],
  ['a*b*c', 'aXbYc', true],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'acb', false],
  ['a*a', 'a', false],
  ['a.b', 'axb', false],
])('%s matches %s: %j', (pattern, name, expected) => {
  expect(matches(pattern, name)).toBe(expected);
});
