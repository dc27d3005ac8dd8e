/** How a client stands, by what the audit adds up to, the config and what the state directory says. */
import { describe, expect, test } from '@jest/globals';
import type { ClientConfig } from '../../src/config/types.ts';
import { assess, unreported, type Knowledge } from '../../src/monitor/assess.ts';
import { emptyClient, emptyModel, repositoryKey } from '../../src/monitor/model.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import { openCount, type ClientStatus } from '../../src/monitor/client-status.ts';
import { DAY, HOUR, inOrder, MONDAY, nightly, sessionLines, type HistoryLine } from '../support/audit-history.ts';
import { testClient } from '../support/test-client.ts';

const CLIENT = testClient();

function status(
  lines: readonly HistoryLine[],
  at: number,
  config: Partial<ClientConfig> = {},
  more: Partial<Knowledge> = {},
): ClientStatus {
  const model = emptyModel();
  for (const line of inOrder(lines)) addLine(model, line);
  const knowledge: Knowledge = {
    record: model.clients.get('appsrv') ?? emptyClient(),
    repository: model.repositories.get(repositoryKey(CLIENT.repository)),
    ...{ live: [], used: undefined, scrub: undefined, unfinishedScrub: undefined },
    ...more,
  };
  return assess({ ...CLIENT, ...config }, knowledge, new Date(at));
}

/** Two weeks of nights at 02:00, the last of which begins thirteen days after the first. */
const NIGHTS = nightly(MONDAY, 14);
const LAST = MONDAY + 13 * DAY + 2 * HOUR + 5 * 60_000;
const SCRUB = { finished: new Date(LAST), quick: false, objects: 80, bytes: 1, findings: 0, found: [] };
const DENIED: HistoryLine = { event: 'denied', operation: 'remove', reason: 'append-only', object: 'data/aa' };

test('the first restore of a repository that is not a week old is a note, and no matter of attention or of the trash', () => {
  const at = MONDAY + 3 * DAY;
  const lines = [...nightly(MONDAY, 3), ...sessionLines(at, { read: 14 * 2 ** 20 })];
  const found = status(lines, at + HOUR, { removals: 'deferred' });
  expect(found).toMatchObject({ state: 'ok', purgeHeld: false });
  expect(found.anomalies).toMatchObject([
    { rule: 'read-spike', note: true, advice: expect.stringMatching(/not a week old/) as unknown },
  ]);
  expect(openCount(found)).toBe(0);
});

describe('what was removed', () => {
  const gone = (count: number): HistoryLine[] =>
    Array.from({ length: count }, (_, index) => ({
      ...{ event: 'remove', object: `snapshots/${index}`, size: 300 },
      arrived: new Date(MONDAY).toISOString(),
    }));
  const at = LAST + DAY;
  const byAdmin = sessionLines(at, { via: 'admin', also: [...gone(3), { event: 'remove', object: 'data/aa' }] });
  const byClient = sessionLines(at + HOUR, { also: gone(6) });
  const sessionOf = (lines: readonly HistoryLine[]): string => String(lines[0]?.['session']);
  const trash = { at: at + 2 * HOUR, snapshots: 9, objects: 10, bytes: 5000, oldest: at };
  const TRASH = { removals: 'deferred', trashMs: 14 * DAY } as const;

  test('is told by session, with whose it was, what it was and until when the trash keeps it', () => {
    const found = status([...NIGHTS, ...byAdmin, ...byClient], at + DAY, TRASH, { trash });
    const until = (lines: readonly HistoryLine[]): Date => {
      const last = lines.findLast(({ object }) => !String(object).startsWith('locks/') && object !== undefined);
      return new Date(Date.parse(String(last?.['time'])) + 14 * DAY);
    };
    expect(found.removals).toMatchObject([
      { session: sessionOf(byClient), by: 'client', snapshots: 6, objects: 6, bytes: 1800, keptUntil: until(byClient) },
      { session: sessionOf(byAdmin), by: 'admin', snapshots: 3, objects: 4, keptUntil: until(byAdmin) },
    ]);
    expect(found.removedLately).toMatchObject({
      byClient: { snapshots: 6, objects: 6, bytes: 1800 },
      byAdmin: { snapshots: 3, objects: 4, bytes: 900 + 2 ** 20 },
    });
    expect(found.trash).toMatchObject({ objects: 10, purgeAt: new Date(at + 14 * DAY) });
  });

  test('is no matter of the trash any more once that was found empty, or purged it', () => {
    const empty = { ...trash, snapshots: 0, objects: 0, bytes: 0, oldest: undefined };
    expect(status([...NIGHTS, ...byAdmin], at + DAY, TRASH, { trash: empty }).removals).toEqual([]);
    const purge = sessionLines(at + 15 * DAY, {
      via: 'admin',
      also: [{ event: 'purged', batch: `20260316T0205Z_${sessionOf(byAdmin)}_admin`, objects: 4, bytes: 900 }],
    });
    expect(status([...NIGHTS, ...byAdmin, ...purge], at + 14 * DAY, TRASH).removals).toEqual([]);
    expect(status([...NIGHTS, ...byAdmin, ...purge], at + 14 * DAY, { ...TRASH }).removedLately.byAdmin.objects).toBe(
      0,
    );
  });

  test('by the admin is counted, and no matter for concern', () => {
    const found = status([...NIGHTS, ...byAdmin], at + HOUR);
    expect([found.state, found.anomalies, found.removedLately.byAdmin.snapshots]).toEqual(['ok', [], 3]);
  });

  test('by a client holds back the purge until it is acknowledged, however long that takes', () => {
    const lines = [...NIGHTS, ...byClient];
    const later = (days: number, config: Partial<ClientConfig> = TRASH, more: readonly HistoryLine[] = []) =>
      status([...lines, ...more], at + days * DAY, { expectEvery: 400 * DAY, ...config });
    for (const days of [1, 13, 200]) expect(later(days)).toMatchObject({ state: 'attention', purgeHeld: true });
    // So it does when the admin has taken away the right to remove, or never asked for it to be held back.
    for (const config of [{}, { access: 'full' } as const])
      expect(later(200, config)).toMatchObject({ state: 'attention', purgeHeld: true });
    const [anomaly] = later(1).anomalies;
    const seen = {
      ...{ ...byClient[0], event: 'anomaly-acknowledged', rule: 'mass-removal', anomaly: anomaly?.id },
      time: new Date(at + 12 * HOUR).toISOString(),
    };
    expect(later(1, TRASH, [seen])).toMatchObject({ state: 'ok', purgeHeld: false });
  });

  test('so do other anomalies of a client that thins out its own backups, but not to be late', () => {
    const attack = sessionLines(LAST + DAY, { also: [DENIED] });
    expect(status([...NIGHTS, ...attack], LAST + 60 * DAY, TRASH).purgeHeld).toBe(true);
    expect(status([...NIGHTS, ...attack], LAST + 60 * DAY).anomalies.map(({ rule }) => rule)).toEqual(['late']);
    expect(status(NIGHTS, LAST + 60 * DAY, TRASH)).toMatchObject({ state: 'late', purgeHeld: false });
  });

  test('is much or little as the config has it', () => {
    const states = ([0.05, 0.5, 0.9, 'none'] as const).map(
      (massRemoval) => status([...NIGHTS, ...byClient], at + DAY, { massRemoval }).state,
    );
    expect(states).toEqual(['attention', 'attention', 'ok', 'ok']);
  });

  test('in many small sessions does not push out what was much, nor what the admin removed', () => {
    const small = Array.from({ length: 40 }, (_, index) =>
      sessionLines(at + 2 * HOUR + index * 60_000, {
        minutes: 1,
        also: [{ event: 'remove', object: 'data/aa', size: 1 }],
      }),
    ).flat();
    const { removals } = status([...NIGHTS, ...byAdmin, ...byClient, ...small], at + DAY, TRASH);
    expect(removals.length).toBeLessThanOrEqual(11);
    expect(removals.map(({ session }) => session)).toEqual(
      expect.arrayContaining([sessionOf(byAdmin), sessionOf(byClient)]),
    );
  });
});

describe('state', () => {
  test.each<[ClientStatus['state'], string, ClientStatus]>([
    ['ok', 'after its night', status(NIGHTS, LAST + HOUR)],
    ['ok', 'three days later, by what is usual', status(NIGHTS, LAST + 3 * DAY)],
    ['late', 'five days later', status(NIGHTS, LAST + 5 * DAY)],
    ['late', 'months later', status(NIGHTS, LAST + 100 * DAY)],
    ['ok', 'within expectEvery', status(NIGHTS, LAST + 25 * HOUR, { expectEvery: 26 * HOUR })],
    ['late', 'after expectEvery', status(NIGHTS, LAST + 27 * HOUR, { expectEvery: 26 * HOUR })],
    ['ok', 'after long, where expectEvery is longer', status(NIGHTS, LAST + 20 * DAY, { expectEvery: 30 * DAY })],
    ['ok', 'when nothing is usual yet', status(nightly(MONDAY, 3), LAST + 60 * DAY)],
    ['ok', 'read-only', status(NIGHTS, LAST + 60 * DAY, { access: 'read-only', expectEvery: HOUR })],
    ['never', 'new', status([], LAST)],
    ['never', 'with init alone', status(sessionLines(MONDAY, { init: true }), MONDAY + DAY, { expectEvery: HOUR })],
    ['ok', 'new and read-only', status([], LAST, { access: 'read-only' })],
    ['disabled', 'disabled', status(NIGHTS, LAST + 60 * DAY, { disabled: true })],
    ['disabled', 'expired', status(NIGHTS, LAST + 60 * DAY, { expires: new Date(LAST) })],
    ['ok', 'with a good scrub', status(NIGHTS, LAST, {}, { scrub: SCRUB })],
    ['attention', 'with a scrub that found something', status(NIGHTS, LAST, {}, { scrub: { ...SCRUB, findings: 2 } })],
    ['ok', 'with some quota left', status(NIGHTS, LAST, { quota: 1000 }, { used: 949 })],
    ['attention', 'with hardly any quota left', status(NIGHTS, LAST, { quota: 1000 }, { used: 950 })],
    [
      'attention',
      'with an anomaly, late or not',
      status([...NIGHTS, ...sessionLines(LAST + DAY, { also: [DENIED] })], LAST + 6 * DAY),
    ],
  ])('%s: %s', (state, _what, found) => {
    expect(found.state).toBe(state);
    expect(found.reasons.length > 0).toBe(state !== 'ok');
  });

  test('a weekly client is late after four weeks, and a missed Sunday teaches nothing', () => {
    const weeks = [0, 1, 2, 3, 4, 6, 7, 8].flatMap((week) =>
      sessionLines(MONDAY + week * 7 * DAY, { init: week === 0, snapshots: 3 }),
    );
    const last = MONDAY + 56 * DAY;
    const found = [27, 29].map((days) => status(weeks, last + days * DAY).state);
    expect(found).toEqual(['ok', 'late']);
  });

  test('an undo takes back what was the last snapshot', () => {
    const forged = sessionLines(LAST + 3 * DAY, { snapshots: 1 });
    const object = forged.find((line) => String(line['object']).startsWith('snapshots/'))?.['object'];
    const time = new Date(LAST + 4 * DAY).toISOString();
    const undo = (event: string): HistoryLine => ({
      ...forged[0],
      time,
      event,
      object,
      via: 'admin',
      session: 'undo',
    });
    const at = LAST + 5 * DAY;
    expect(status([...NIGHTS, ...forged], at).state).toBe('ok');
    const undone = status([...NIGHTS, ...forged, undo('quarantine')], at);
    expect([undone.state, undone.lastSnapshot?.at]).toEqual(['late', status(NIGHTS, at).lastSnapshot?.at]);
    expect(status([...NIGHTS, ...forged, undo('quarantine'), undo('restore')], at).state).toBe('ok');
  });

  describe('a move that did not happen', () => {
    const own = sessionLines(LAST + 3 * DAY, { packs: 4, snapshots: 1 });
    const objects = own
      .map((line) => String(line['object']))
      .filter((object) => /^(?:snapshots|index|data)\//.test(object));
    const move = (event: string, minutes: number, reason?: string): HistoryLine[] =>
      objects.map((object) => ({
        ...own[0],
        time: new Date(LAST + 4 * DAY + minutes * 60_000).toISOString(),
        ...{ event, object, via: 'admin', session: 'undo', ...(reason !== undefined && { reason }) },
      }));
    const begun = sessionLines(MONDAY - DAY, { init: true });
    const after = (...moves: readonly HistoryLine[][]) => {
      const { state, lastSnapshot, size } = status([...begun, ...NIGHTS, ...own, ...moves.flat()], LAST + 5 * DAY);
      return { state, at: lastSnapshot?.at, size };
    };
    const taken = after(move('quarantine', 0));
    const back = after();

    test('to bring back what is back already, as of an undo that is restored twice, leaves it there', () => {
      const once = [move('quarantine', 0), move('restore', 1)];
      const again = [move('restore', 2), move('restore-failed', 3, 'absent')];
      expect(after(...once)).toEqual(back);
      expect(after(...once, ...again)).toEqual(back);
      expect(after(...once, ...again, ...again)).toEqual(back);
      expect(after(...again)).toEqual(back);
    });

    test('to take out what is out already, as of an undo that was killed and completed, leaves it gone', () => {
      const again = [move('quarantine', 2), move('quarantine-failed', 3, 'absent')];
      expect(taken.state).toBe('late');
      expect(after(move('quarantine', 0), ...again).state).toBe('late');
      expect(after(move('quarantine', 0), ...again, move('restore', 4)).state).toBe('ok');
    });

    test('because Object Lock or the storage did not let it, leaves it where it was', () => {
      expect(after(move('quarantine', 0), move('quarantine-failed', 1, 'retained'))).toEqual(back);
      expect(after(move('quarantine', 0), move('restore', 1), move('restore-failed', 2, 'store-failed'))).toEqual(
        taken,
      );
      expect(after(move('quarantine', 0), move('restore', 1), move('restore-failed', 2, 'taken'))).toEqual(taken);
    });
  });

  test("the admin's rewritten snapshots are none of the client's", () => {
    const admin = sessionLines(LAST + 4 * DAY, { via: 'admin', snapshots: 3 });
    expect(status([...NIGHTS, ...admin], LAST + 5 * DAY)).toMatchObject({ state: 'late', snapshots: 14 });
  });
});

test('lateness is told once for each absence, and not of who is off', () => {
  const model = emptyModel();
  const add = (lines: readonly HistoryLine[]): void => {
    for (const line of inOrder(lines)) addLine(model, line);
  };
  add(NIGHTS);
  const record = model.clients.get('appsrv') ?? emptyClient();
  const late = (at: number, config: Partial<ClientConfig> = {}): readonly string[] =>
    unreported({ ...CLIENT, ...config }, record, new Date(at)).map(({ id }) => id);
  expect(late(LAST + DAY)).toEqual([]);
  const [id = '', ...others] = late(LAST + 5 * DAY);
  expect([id, others]).toEqual([expect.stringMatching(/^late-20260315T/), []]);
  expect(late(LAST + 9 * DAY)).toEqual([id]);
  expect(late(LAST + 9 * DAY, { disabled: true })).toEqual([]);
  add([
    { ...NIGHTS.at(-1), time: new Date(LAST + 5 * DAY).toISOString(), event: 'anomaly', rule: 'late', anomaly: id },
  ]);
  expect(late(LAST + 9 * DAY)).toEqual([]);
  add(sessionLines(LAST + 10 * DAY, { snapshots: 1 }));
  expect(late(LAST + 11 * DAY)).toEqual([]);
  expect(late(LAST + 100 * DAY)).not.toEqual([id]);
});

describe('a client that probes', () => {
  const probe = (at: number, command?: string): HistoryLine[] =>
    sessionLines(at, { also: [DENIED] }).map((line) =>
      line['event'] === 'session-start' && command !== undefined ? { ...line, command } : line,
    );
  const HELD = 'serve restic --stdio restic-gateway-probe held=31 failed=0';
  const FAILED = 'serve restic --stdio restic-gateway-probe held=29 failed=2: overwrite an object; SFTP';
  const of = (lines: readonly HistoryLine[], at: number, more: Partial<ClientConfig> = {}): ClientStatus =>
    status(lines, at, { role: 'probe', ...more });
  const at = MONDAY;

  test('is well without a snapshot, whatever is denied to it', () => {
    const found = of(probe(at, HELD), at + 2 * HOUR);
    expect(found).toMatchObject({ state: 'ok', anomalies: [], role: 'probe', lastProbe: { failed: 0 } });
    expect(found.denials.total).toBe(1);
    expect(status(probe(at, HELD), at + 2 * HOUR).state).toBe('attention');
  });

  test('is an alarm when it is silent, does not come to its end, or never came', () => {
    expect(of(probe(at, HELD), at + 27 * HOUR)).toMatchObject({ state: 'late', anomalies: [{ rule: 'late' }] });
    expect(of(probe(at, HELD), at + 3 * HOUR, { expectEvery: HOUR }).reasons[0]).toMatch(/^No probe for .*every 1 h/);
    expect(of([...probe(at, HELD), ...probe(at + 26 * HOUR)], at + 27 * HOUR).state).toBe('late');
    expect(of(probe(at), at + HOUR)).toMatchObject({ state: 'never', reasons: [expect.stringMatching(/^No probe/)] });
    // What it leaves by chance is no backup.
    expect(of([...NIGHTS], LAST + 5 * DAY).state).toBe('never');
  });

  test('is an alarm when a check does not hold, until that is acknowledged', () => {
    const failed = of([...probe(at, FAILED), ...probe(at + HOUR, HELD)], at + 2 * HOUR);
    expect(failed).toMatchObject({
      state: 'attention',
      anomalies: [{ rule: 'probe-failed' }],
      lastProbe: { failed: 0 },
    });
    expect(failed.reasons[0]).toContain('2 that do not hold: overwrite an object; SFTP');
    // Of another client, it is anybody's word.
    expect(status(probe(at, FAILED), at + HOUR).anomalies.map(({ rule }) => rule)).toEqual(['denied-delete']);
  });
});

describe('figures', () => {
  test('sizes: what came, less the share that was removed; by the ledger where there is one', () => {
    const pruned = [...NIGHTS, ...sessionLines(LAST + HOUR, { via: 'admin', removedPacks: 35, removedSnapshots: 7 })];
    const size = (lines: readonly HistoryLine[], more: Partial<Knowledge> = {}): unknown =>
      status(lines, LAST + 2 * HOUR, {}, more).size;
    expect(size(NIGHTS)).toMatchObject({ by: 'estimated' });
    const whole = status(NIGHTS, LAST).size?.bytes ?? 0;
    const half = status(pruned, LAST + 2 * HOUR).size?.bytes ?? 0;
    expect(whole).toBeGreaterThan(70 * 2 ** 20);
    expect(half / whole).toBeCloseTo(0.5, 2);
    expect(size(NIGHTS, { used: 7 })).toEqual({ bytes: 7, by: 'counted' });
    expect(size(nightly(MONDAY, 14, { init: false }))).toBeUndefined();
  });

  test('days, without a gap, the last one today', () => {
    const { days, arrivedLately } = status(NIGHTS, LAST + 2 * DAY);
    expect(days).toHaveLength(90);
    expect(days.at(-1)).toMatchObject({ day: '2026-03-17', added: 0, read: 0, snapshots: 0, denied: 0 });
    expect(days.at(-3)).toMatchObject({ day: '2026-03-15', snapshots: 1, read: 2000 });
    expect(arrivedLately).toBe(days.slice(-7).reduce((sum, { added }) => sum + added, 0));
  });

  test('sizes by day: unknown before the beginning, the same where nothing changed, less after a removal', () => {
    const night = 5 * 2 ** 20 + 1000 + 300;
    const prune = sessionLines(LAST + 2 * DAY, { via: 'admin', removedPacks: 35, removedSnapshots: 7 });
    const sizes = status([...NIGHTS, ...prune], LAST + 4 * DAY).days.map(({ day, size }) => [day.slice(5), size]);
    expect(sizes.slice(-19).map(([, size]) => size === undefined)).toEqual([true, ...Array<boolean>(18).fill(false)]);
    expect(sizes.slice(-18, -16)).toEqual([
      ['03-02', night + 605],
      ['03-03', 2 * night + 605],
    ]);
    expect(sizes[86]?.[1]).toBe(sizes[85]?.[1]);
    expect(Number(sizes[87]?.[1])).toBeLessThan(0.6 * Number(sizes[86]?.[1]));
    // The audit does not reach back to the repository's beginning.
    const unsized = status(nightly(MONDAY, 14, { init: false }), LAST).days;
    expect(unsized.filter(({ size }) => size !== undefined)).toEqual([]);
  });

  test('what was refused, newest first, the same in a row of one session once', () => {
    const also = [
      DENIED,
      DENIED,
      { ...DENIED, reason: 'cleanup-after-failed-save' },
      { ...DENIED, reason: 'overwrite' },
    ];
    const refused = (session: string, from: string): HistoryLine => ({
      ...{ ...NIGHTS[0], event: 'session-refused', reason: 'address', detail: '', session, from },
      time: new Date(LAST + 2 * HOUR).toISOString(),
    });
    const lines = [...sessionLines(LAST, { also }), refused('a', '192.0.2.9'), refused('b', '192.0.2.9')];
    const { refusals } = status([...NIGHTS, ...lines, refused('c', '192.0.2.8')], LAST + 3 * HOUR);
    expect(refusals).toMatchObject([
      { operation: 'session', reason: 'address', object: '192.0.2.8', count: 1 },
      { operation: 'session', reason: 'address', object: '192.0.2.9', count: 2 },
      { operation: 'remove', reason: 'overwrite', object: 'data/aa', count: 1, session: lines[0]?.['session'] },
      { operation: 'remove', reason: 'append-only', object: 'data/aa', count: 2 },
    ]);
  });

  test("denials by reason, restic's own clean-up not in the sum", () => {
    const also = [DENIED, DENIED, { ...DENIED, reason: 'cleanup-after-failed-save' }];
    const refused = {
      ...NIGHTS[0],
      event: 'session-refused',
      reason: 'too-many-sessions',
      detail: '',
      time: new Date(LAST).toISOString(),
    };
    const { denials } = status([...NIGHTS, refused, ...sessionLines(LAST + HOUR, { also })], LAST + 2 * HOUR);
    expect(denials).toEqual({
      total: 3,
      byReason: { 'append-only': 2, 'cleanup-after-failed-save': 1, 'too-many-sessions': 1 },
    });
    const later = status(sessionLines(LAST, { also }), LAST + 8 * DAY);
    expect(later.denials.total).toBe(0);
  });

  test('sessions: running where their process lives, lost where not, and what each added', () => {
    const one = sessionLines(LAST + HOUR, { killed: true, packs: 3, via: 'stdio' });
    const id = String(one[0]?.['session']);
    const lines = [...NIGHTS, ...one];
    const live = (running: boolean): ClientStatus =>
      status(lines, LAST + 2 * HOUR, {}, { live: running ? [{ id, via: 'stdio', started: new Date(LAST) }] : [] });
    expect(live(true).running).toMatchObject([
      { session: id, outcome: 'running', objects: 4, added: 3 * 2 ** 20 + 1000 },
    ]);
    expect(live(true).latest[0]).toMatchObject({ outcome: 'client-ended', snapshots: 1, objects: 7, bytesOut: 2000 });
    expect(live(false).running).toEqual([]);
    expect(live(false).latest[0]).toMatchObject({ session: id, outcome: 'lost', via: 'stdio' });
    const beginning = { live: [{ id: 'x', via: 'ssh', started: new Date(LAST) }] };
    expect(status(NIGHTS, LAST, {}, beginning).running).toMatchObject([{ session: 'x', outcome: 'running' }]);
  });
});

describe('a clock that was years ahead for a while', () => {
  /** One backup in that while; then the first line after it was set back. */
  const ahead = sessionLines(LAST + 4 * 365 * DAY, { packs: 5, snapshots: 1 });
  const back = (at: number): HistoryLine[] => sessionLines(at, {});
  const statusAfter = (at: number, now: number): ClientStatus => {
    const model = emptyModel();
    for (const line of [...inOrder(NIGHTS), ...ahead, ...back(at)]) addLine(model, line);
    const record = model.clients.get('appsrv') ?? emptyClient();
    const more = { live: [], used: undefined, scrub: undefined, unfinishedScrub: undefined };
    return assess(CLIENT, { record, repository: undefined, ...more }, new Date(now));
  };

  test('does not keep a client from being late, counted from then on', () => {
    const at = LAST + 2 * HOUR;
    expect(statusAfter(at, at + DAY).state).toBe('ok');
    expect(statusAfter(at, at + DAY).lastSnapshot?.at).toEqual(new Date(at));
    expect(statusAfter(at, at + 5 * DAY).state).toBe('late');
  });

  test('drops no day from before, and what came meanwhile counts to the day it was set back', () => {
    const at = LAST + 2 * HOUR;
    const { days } = statusAfter(at, at + HOUR);
    expect(days.filter(({ snapshots }) => snapshots > 0)).toHaveLength(14);
    expect(days.at(-1)?.snapshots).toBe(2);
  });
});
