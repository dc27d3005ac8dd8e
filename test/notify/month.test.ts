/** A month of a site, look by look, by the monitor's own rules and a real receiver: what is told, and what is not. */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { NOTIFY_EVENTS, type NotifyTarget } from '../../src/config/notify.ts';
import type { ClientConfig } from '../../src/config/types.ts';
import { assess, type Knowledge } from '../../src/monitor/assess.ts';
import { emptyClient, emptyModel, repositoryKey } from '../../src/monitor/model.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import type { Trouble } from '../../src/notify/conditions.ts';
import type { Message } from '../../src/notify/message.ts';
import { openNotifier } from '../../src/notify/notifier.ts';
import { DAY, HOUR, inOrder, MONDAY, sessionLines, type HistoryLine, type Story } from '../support/audit-history.ts';
import { tempDir } from '../support/lab.ts';
import { receiveHttp } from '../support/notify-receivers.ts';
import { testClient } from '../support/test-client.ts';

/** Two weeks before, so that what is usual is known. */
const FIRST = MONDAY - 14 * DAY;
const END = MONDAY + 30 * DAY;
/** Each look takes all clients in: as often as it needs for what is wrong for a day to be seen. */
const LOOK_MS = 4 * HOUR;
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

interface Member {
  readonly config: ClientConfig;
  readonly lines: readonly HistoryLine[];
}

/** Made alike each time, so that a failure can be looked at. */
function jitter(seed: number): number {
  return ((Math.imul(seed + 1, 2_654_435_761) >>> 0) / 2 ** 32) * HOUR;
}

/** Backups at these times, some minutes more or less. */
function member(name: string, times: readonly number[], config: Partial<ClientConfig> = {}, story: Story = {}): Member {
  const lines = times.flatMap((time, index) =>
    sessionLines(time + jitter(index + name.length * 7), {
      ...{ client: name, init: index === 0, packs: 3, snapshots: 1, from: `192.0.2.${name.length}` },
      ...story,
    }),
  );
  return { config: testClient(name, config), lines };
}

function every(ms: number, from = FIRST, until = END): number[] {
  return Array.from({ length: Math.ceil((until - from) / ms) }, (_, index) => from + index * ms);
}

/** Servers by night, some by the hour, laptops that are off at weekends, a weekly one; and what honest people do with restic. */
function site(): Member[] {
  const members: Member[] = [];
  for (let index = 0; index < 35; index++)
    members.push(member(`server-${index}`, every(DAY, FIRST + 2 * HOUR), { expectEvery: 26 * HOUR }));
  for (let index = 0; index < 2; index++) members.push(member(`hourly-${index}`, every(HOUR, FIRST + index * 60_000)));
  for (let index = 0; index < 11; index++) {
    const weekdays = every(DAY, FIRST + 10 * HOUR).filter((time) => new Date(time).getUTCDay() % 6 !== 0);
    members.push(member(`laptop-${index}`, weekdays));
  }
  members.push(member('weekly', every(7 * DAY, FIRST + 3 * HOUR)));
  // One whose run fails now and then, and is repeated: restic cleans up after a failed save.
  const cleanUp = { event: 'denied', operation: 'remove', reason: 'cleanup-after-failed-save', object: 'data/aa' };
  members.push(member('flaky', every(DAY, FIRST + HOUR), { expectEvery: 26 * HOUR }, { also: [cleanUp] }));
  return members;
}

/** What a target was told from then on; the notifier is started anew each day. */
async function month(
  members: readonly Member[],
  more: (now: number) => { readonly knowledge?: (client: string) => Partial<Knowledge>; readonly problems?: Trouble[] },
): Promise<readonly Message[]> {
  const state = path.join(tempDir(), 'state');
  mkdirSync(state);
  const receiver = await receiveHttp();
  const target: NotifyTarget = {
    ...{ name: 'admins', channel: { type: 'webhook', url: { text: receiver.url }, format: 'json' } },
    ...{ events: NOTIFY_EVENTS, severity: 'warning', timeZone: 'UTC', reminders: [], digest: 1 },
  };
  const lines = inOrder(members.flatMap((one) => one.lines));
  const model = emptyModel();
  let [at, now] = [0, MONDAY];
  const clients = Object.fromEntries(members.map(({ config }) => [config.name, config]));
  const open = (): ReturnType<typeof openNotifier> =>
    openNotifier({
      ...{ targets: [target], state, gateway: 'gw1', log: SILENT, now: () => now },
      look: () => {
        const { knowledge = () => ({}), problems = [] } = more(now);
        const statuses = members.map(({ config }) =>
          assess(
            config,
            {
              record: model.clients.get(config.id) ?? emptyClient(),
              repository: model.repositories.get(repositoryKey(config.repository)),
              ...{ live: [], used: undefined, scrub: undefined, unfinishedScrub: undefined },
              ...knowledge(config.name),
            },
            new Date(now),
          ),
        );
        return Promise.resolve({ statuses, clients, problems });
      },
    });
  let notifier = open();
  for (; now < END; now += LOOK_MS) {
    for (let line = lines[at]; line !== undefined && Date.parse(String(line['time'])) <= now; line = lines[++at])
      addLine(model, line);
    await notifier.round();
    await notifier.settled();
    if ((now - MONDAY) % DAY === 0) {
      await notifier.close();
      notifier = open();
    }
  }
  await notifier.close();
  await receiver.close();
  rmSync(state, { recursive: true });
  return receiver.received.map(({ body }) => JSON.parse(body) as Message);
}

const SITE = site();

test('fifty honest clients: nothing but the weekly summary', async () => {
  const told = await month(SITE, () => ({}));
  expect(told.filter(({ kind }) => kind !== 'digest')).toEqual([]);
  expect(told.map(({ title }) => title)).toEqual(
    Array.from({ length: 5 }, () => 'weekly summary: 50 of 50 clients OK'),
  );
});

test('ten incidents among them: each is told once, and its end once', async () => {
  const day = (count: number): number => MONDAY + count * DAY;
  const attacks: readonly (readonly [client: string, at: number, also: HistoryLine, more?: Story])[] = [
    ['server-1', day(3), { event: 'denied', operation: 'remove', reason: 'append-only', object: 'snapshots/aa' }],
    ['server-2', day(5), { event: 'denied', operation: 'save', reason: 'overwrite', object: 'data/aa' }],
    ['server-3', day(7), { event: 'denied', operation: 'save', reason: 'key-added', object: 'keys/aa' }],
    ['server-4', day(8), { event: 'denied', operation: 'read', reason: 'unknown' }, { from: '198.51.100.7' }],
    ['laptop-1', day(9), { event: 'denied', operation: 'read', reason: 'unknown' }, { snapshots: 40 }],
  ];
  const members = SITE.map((one): Member => {
    const { name } = one.config;
    const extra = attacks.filter(([client]) => client === name);
    const lines = [
      ...one.lines,
      ...extra.flatMap(([client, at, also, more]) =>
        sessionLines(at + 15 * HOUR, { client, from: `192.0.2.${client.length}`, also: [also], ...more }),
      ),
    ];
    // Its backups stop for four days.
    if (name === 'server-0')
      return { ...one, lines: lines.filter(({ time }) => !isBetween(String(time), day(10), day(14))) };
    return { ...one, lines };
  });
  const problem = (kind: Trouble['kind']): Trouble => ({ kind, urgent: true, words: kind });
  const told = await month(members, (now) => ({
    knowledge: (client) => ({
      ...(client === 'server-5' &&
        now >= day(12) && {
          scrub: {
            ...{ finished: new Date(day(now < day(19) ? 12 : 19)), quick: false, objects: 9, bytes: 9, found: [] },
            findings: now < day(19) ? 2 : 0,
          },
        }),
      ...(client === 'server-6' &&
        now >= day(4) && {
          extended: { at: new Date(now), objects: 9, renewed: 1, failed: now < day(6) ? 3 : 0, complete: true },
        }),
    }),
    problems: [
      ...(now >= day(15) && now < day(16) ? [problem('audit-copy')] : []),
      ...(now >= day(17) && now < day(18) ? [problem('config')] : []),
    ],
  }));
  const changes = told.filter(({ kind }) => kind === 'change').flatMap(({ items }) => items);
  const found = changes.map(({ state, client = 'gateway', rule }) => `${client} ${rule} ${state}`);
  const incidents = [
    ...['server-0 late', 'server-1 denied-delete', 'server-2 overwrite', 'server-3 key-upload', 'server-4 new-address'],
    ...['laptop-1 snapshot-burst', 'server-5 scrub', 'server-6 retention', 'gateway audit-copy', 'gateway config'],
  ];
  expect([...found].sort()).toEqual(incidents.flatMap((one) => [`${one} new`, `${one} over`]).sort());
  expect(new Set(told.map(({ id }) => id)).size).toBe(told.length);
});

function isBetween(time: string, from: number, to: number): boolean {
  const at = Date.parse(time);
  return at >= from && at < to;
}
