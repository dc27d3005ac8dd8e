/** Which pings are sent, which process notifies, and what becomes of files of its own that are damaged. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { NOTIFY_EVENTS, type NotifyTarget } from '../../src/config/notify.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import type { Look, Notifier } from '../../src/notify/notifier.ts';
import { openNotifier } from '../../src/notify/notifier.ts';
import { isOwner, leaveOwner } from '../../src/notify/owner.ts';
import { notifyProblems } from '../../src/notify/problems.ts';
import { HOUR, MONDAY } from '../support/audit-history.ts';
import { tempDir } from '../support/lab.ts';
import { standing } from '../support/many-clients.ts';
import { receiveHttp, type HttpReceiver } from '../support/notify-receivers.ts';

const MINUTE = 60_000;
let state: string;
let receiver: HttpReceiver;
let notifier: Notifier;
let now: number;
let seen: Look;
let logged: string[];

beforeEach(async () => {
  state = path.join(tempDir(), 'state');
  mkdirSync(state);
  receiver = await receiveHttp();
  now = MONDAY + 12 * HOUR;
  seen = { statuses: [], clients: {}, problems: [] };
  logged = [];
});
afterEach(async () => {
  await notifier.close();
  await receiver.close();
});

const say = (_fields: unknown, words: string): void => {
  logged.push(words);
};

function open(...targets: Partial<NotifyTarget>[]): void {
  notifier = openNotifier({
    targets: targets.map((given) => ({
      ...{ name: 'admins', channel: { type: 'webhook', url: { text: `${receiver.url}/hook` }, format: 'json' } },
      ...{ events: NOTIFY_EVENTS, severity: 'warning', timeZone: 'UTC', reminders: [] },
      ...given,
    })),
    ...{ state, gateway: 'gw1', log: { info: say, warn: say, error: say }, now: () => now },
    look: () => Promise.resolve(seen),
  });
}
const pinging = (place: string, more: Partial<NotifyTarget> = {}): Partial<NotifyTarget> => ({
  ...{ name: 'switch', channel: { type: 'ping', url: { text: `${receiver.url}${place}` }, every: 5 * MINUTE } },
  ...more,
});

/** Looks once, after a while. @returns the paths of what was sent */
async function after(
  ms: number,
  statuses: readonly ClientStatus[] | undefined,
  problems: Look['problems'] = [],
): Promise<string[]> {
  now += ms;
  seen = { statuses, clients: {}, problems };
  const before = receiver.received.length;
  await notifier.round();
  await notifier.settled();
  return receiver.received.slice(before).map(({ path: at }) => at);
}

function client(given: Partial<ClientStatus> = {}, name = 'appsrv'): ClientStatus {
  return { ...standing(now, name)[1], state: 'ok', reasons: [], ...given };
}
const snapshot = (at: number): Partial<ClientStatus> => ({ lastSnapshot: { at: new Date(at), session: 's' } });
const late = (): Partial<ClientStatus> => ({
  state: 'late',
  anomalies: [
    {
      ...{ id: 'late-1', rule: 'late', at: new Date(now), last: new Date(now), count: 1 },
      ...{ what: 'No snapshot.', advice: 'Look.' },
    },
  ],
});
const running: Partial<ClientStatus> = {
  running: [
    {
      ...{ session: 's2', via: 'ssh', start: new Date(MONDAY), outcome: 'running', added: 5, objects: 1, snapshots: 0 },
      ...{ removed: 0, bytesIn: 0, bytesOut: 0, denied: 0, failed: 0 },
    },
  ],
};

describe('the check of each client', () => {
  test('start, success, fail and back, over a restart', async () => {
    open(pinging('/ping/{client}'));
    const first = snapshot(now - HOUR);
    expect(await after(0, [client(first)])).toEqual([]);
    expect(await after(MINUTE, [client({ ...first, ...running })])).toEqual(['/ping/appsrv/start']);
    expect(await after(MINUTE, [client({ ...first, ...running })])).toEqual([]);
    const second = snapshot(now);
    expect(await after(MINUTE, [client(second)])).toEqual(['/ping/appsrv']);
    expect(await after(MINUTE, [client(second)])).toEqual([]);
    expect(await after(MINUTE, [client({ ...second, ...late() })])).toEqual(['/ping/appsrv/fail']);
    await notifier.close();
    open(pinging('/ping/{client}'));
    expect(await after(MINUTE, [client({ ...second, ...late() })])).toEqual([]);
    expect(await after(MINUTE, [client(snapshot(now))])).toEqual(['/ping/appsrv']);
  });

  test('its first snapshot is news, one from before the check is not', async () => {
    open(pinging('/{client}'));
    expect(await after(0, [client({ state: 'never' }), client(snapshot(now - HOUR), 'old')])).toEqual([]);
    expect(await after(MINUTE, [client(snapshot(now)), client(snapshot(now - HOUR), 'old')])).toEqual(['/appsrv']);
  });

  test('what could not be sent is sent later', async () => {
    open(pinging('/{client}'));
    await after(0, [client(snapshot(now - HOUR))]);
    receiver.answer = { status: 503 };
    const fresh = client(snapshot(now));
    expect(await after(MINUTE, [fresh])).toEqual(['/appsrv']);
    expect(logged.join()).toMatch(/switch was not notified, and is tried again: .* 503/);
    receiver.answer = { status: 200 };
    expect(await after(1000, [fresh])).toEqual([]);
    expect(await after(10_000, [fresh])).toEqual(['/appsrv']);
    expect(await after(MINUTE, [fresh])).toEqual([]);
    expect(logged.join()).toMatch(/notifications reach switch again/);
  });

  test('one whose check is not there keeps no other one waiting', async () => {
    const gone = await receiveHttp();
    gone.answer = (path) => ({ status: path.startsWith('/a') ? 404 : 200 });
    open({
      ...{ name: 'switch', channel: { type: 'ping', url: { text: `${gone.url}/{client}` }, every: 5 * MINUTE } },
    });
    const both = (at: number): ClientStatus[] => ['a', 'b'].map((name) => client(snapshot(at), name));
    await after(0, both(now - HOUR));
    await after(MINUTE, both(now));
    expect(gone.received.map(({ path: at }) => at)).toEqual(['/a', '/b']);
    expect(logged).toEqual([expect.stringMatching(/switch refuses the ping of a: .* 404/)]);
    await after(MINUTE, both(now - MINUTE));
    expect(gone.received).toHaveLength(2);
    await gone.close();
  });

  test('of a client that goes to and fro: a few', async () => {
    open(pinging('/{client}'));
    let sent = 0;
    for (let minute = 0; minute < 120; minute++)
      sent += (await after(MINUTE, [client(minute % 2 === 0 ? late() : {})])).length;
    expect(sent).toBeLessThanOrEqual(5 + 2 * 3);
  });

  test('one client by name, and a name that is that of a member of objects', async () => {
    open(pinging('/uuid', { clients: ['constructor'] }));
    await after(0, [client({}, 'constructor'), client()]);
    expect(await after(MINUTE, [client(late(), 'constructor'), client(late())])).toEqual(['/uuid/fail']);
  });
});

test("the gateway's own check: at an interval, and at once when something is wrong", async () => {
  open(pinging('/own?x=1'));
  const problem = { kind: 'audit-copy', urgent: true, words: 'late' } as const;
  expect(await after(0, [])).toEqual(['/own?x=1']);
  expect(await after(4 * MINUTE, [])).toEqual([]);
  expect(await after(MINUTE, [])).toEqual(['/own?x=1']);
  expect(await after(MINUTE, [], [problem])).toEqual(['/own/fail?x=1']);
  expect(await after(MINUTE, [client(late())], [])).toEqual(['/own?x=1']);
});

test('while the audit cannot be read, nothing of the clients is over', async () => {
  open({});
  expect(await after(0, [client(late())])).toEqual(['/hook']);
  const blind = { kind: 'audit-unreadable', urgent: true, words: 'cannot be read' } as const;
  expect(await after(MINUTE, undefined, [blind])).toEqual([]);
  expect(await after(3 * MINUTE, undefined, [blind])).toEqual(['/hook']);
  const { items } = JSON.parse(receiver.received.at(-1)?.body ?? '') as { items: { state: string; rule: string }[] };
  expect(items.map(({ state: how, rule }) => `${how} ${rule}`)).toEqual(['new audit-unreadable']);
});

test('a target that is not reached for an hour is a problem, which the others are told', async () => {
  open({}, { name: 'others', channel: { type: 'webhook', url: { text: `${receiver.url}/others` }, format: 'json' } });
  const { port } = receiver;
  await receiver.close();
  const config = { state, notify: { admins: {}, others: {} } } as never;
  await after(0, [client(late())]);
  expect(await notifyProblems(config, now)).toEqual([]);
  for (let minutes = 0; minutes <= 60; minutes += 5) await after(5 * MINUTE, [client(late())]);
  const problems = await notifyProblems(config, now);
  expect(problems).toMatchObject([{ target: 'admins', words: expect.stringMatching(/not reached admins since/) }, {}]);
  receiver = await receiveHttp(port);
  const troubles = problems.map((one) => ({ ...one, kind: 'notify', urgent: true }) as const);
  await after(15 * MINUTE, [client(late())], troubles);
  const told = receiver.received.map(({ path: at, body }) => [
    at,
    (JSON.parse(body) as { items: { key: string }[] }).items.map(({ key }) => key),
  ]);
  expect(told).toEqual([
    ['/hook', ['late-1/appsrv', 'gateway/notify/others']],
    ['/others', ['late-1/appsrv', 'gateway/notify/admins']],
  ]);
  expect(await notifyProblems(config, now)).toEqual([]);
});

test.each([
  ['torn', (text: string) => text.slice(0, -20)],
  ['of another shape', () => '{"sent":1,"digest":1}'],
  ['with more in it', (text: string) => text.replace('{', '{"more":1,')],
  ['not its own', () => '[]'],
])('a file that is %s counts for nothing: all is told once more', async (_what, damage) => {
  open({});
  expect(await after(0, [client(late())])).toEqual(['/hook']);
  await notifier.close();
  const file = path.join(state, 'notify', 'told-admins.json');
  writeFileSync(file, damage(readFileSync(file, 'utf8')));
  open({});
  expect(await after(MINUTE, [client(late())])).toEqual(['/hook']);
  expect(await after(MINUTE, [client(late())])).toEqual([]);
});

test('where nothing can be written, nothing is told again and again', async () => {
  writeFileSync(path.join(state, 'notify'), 'not a directory');
  open({});
  expect(await after(0, [client(late())])).toEqual(['/hook']);
  for (let count = 0; count < 3; count++) expect(await after(MINUTE, [client(late())])).toEqual([]);
  expect(logged.filter((words) => words.includes('what admins was told is not kept'))).toHaveLength(1);
});

test('one process notifies: another one once it is gone', async () => {
  open({});
  expect(await isOwner(state)).toBe(false);
  expect(await isOwner(state)).toBe(true);
  const file = path.join(state, 'notify', 'owner.json');
  // The first process of the machine, which runs as long as this one.
  writeFileSync(file, JSON.stringify({ pid: 1, begun: 0 }));
  expect([await isOwner(state), await isOwner(state)]).toEqual([false, false]);
  await leaveOwner(state);
  expect(readFileSync(file, 'utf8')).toContain('"pid":1');
  writeFileSync(file, JSON.stringify({ pid: 0x7fff_fffe, begun: 1 }));
  expect([await isOwner(state), await isOwner(state)]).toEqual([false, true]);
});
