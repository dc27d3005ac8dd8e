/**
 * A client that floods the admin with notifications. Whoever holds its key makes its state go to and fro, so that the one message that counts is
 * overlooked among hundreds, comes too late, or is lost since the chat has shut the gateway out; or has its own words do something there.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { NOTIFY_EVENTS, type NotifyTarget, type WebhookChannel } from '../../src/config/notify.ts';
import { assess } from '../../src/monitor/assess.ts';
import { emptyClient, emptyModel } from '../../src/monitor/model.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import { openNotifier, type Notifier } from '../../src/notify/notifier.ts';
import { DAY, HOUR, MONDAY, sessionLines, type Story } from '../support/audit-history.ts';
import { tempDir } from '../support/lab.ts';
import { receiveHttp, type HttpReceiver } from '../support/notify-receivers.ts';
import { testClient } from '../support/test-client.ts';

const MINUTE = 60_000;
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

let receiver: HttpReceiver;
let notifier: Notifier;
afterEach(async () => {
  await notifier.close();
  await receiver.close();
});

/** A gateway with the attacker `mallory` and the honest `alice`, as its admin hears of them. */
async function site(format: WebhookChannel['format'] = 'json') {
  const state = path.join(tempDir(), 'state');
  mkdirSync(state);
  receiver = await receiveHttp();
  const target: NotifyTarget = {
    ...{ name: 'admins', channel: { type: 'webhook', url: { text: receiver.url }, format } },
    ...{ events: NOTIFY_EVENTS, severity: 'warning', timeZone: 'UTC', reminders: [DAY] },
  };
  const clients = { mallory: testClient('mallory', { expectEvery: MINUTE }), alice: testClient('alice') };
  const model = emptyModel();
  let now = MONDAY;
  notifier = openNotifier({
    ...{ targets: [target], state, gateway: 'gw1', log: SILENT, now: () => now },
    look: () => {
      const none = { repository: undefined, live: [], used: undefined, scrub: undefined, unfinishedScrub: undefined };
      const statuses = Object.values(clients).map((one) =>
        assess(one, { record: model.clients.get(one.id) ?? emptyClient(), ...none }, new Date(now)),
      );
      return Promise.resolve({ statuses, clients, problems: [] });
    },
  });
  return {
    does: (client: string, story: Story) => {
      for (const line of sessionLines(now, { client, minutes: 0, ...story })) addLine(model, line);
    },
    /** Lets time pass, with a look at its end. @returns what the admin was told at it */
    passes: async (ms: number): Promise<readonly string[]> => {
      now += ms;
      const before = receiver.received.length;
      await notifier.round();
      await notifier.settled();
      return receiver.received.slice(before).map(({ body }) => body);
    },
  };
}

const denied = { event: 'denied', operation: 'remove', reason: 'append-only', object: 'snapshots/aa' };

test('to and fro each two minutes for six hours: a few messages, and an attack on top is told at once', async () => {
  const { does, passes } = await site();
  let told = 0;
  for (let time = 0; time < 6 * HOUR; time += 2 * MINUTE) {
    does('mallory', { snapshots: 1 });
    told += (await passes(10_000)).length + (await passes(110_000)).length;
  }
  expect(told).toBeGreaterThan(5);
  expect(told).toBeLessThanOrEqual(5 + 6 * 3);
  // What is critical is another matter, of the same client and of others.
  does('mallory', { also: [denied] });
  expect((await passes(10_000)).join()).toMatch(/denied-delete.*mallory|mallory.*denied-delete/);
  does('alice', { also: [denied] });
  expect((await passes(10_000)).join()).toMatch(/denied-delete.*alice|alice.*denied-delete/);
});

test.each(['slack', 'mattermost', 'teams'] as const)('words of the client do nothing in %s', async (format) => {
  const { does, passes } = await site(format);
  const object =
    'snapshots/<!channel> @all [look](http://evil.example.com) <http://evil.example.com|here>\u001b[2J\r\n';
  does('mallory', { also: [{ event: 'denied', operation: 'save', reason: 'overwrite', object }] });
  const body = (await passes(10_000)).join();
  expect(body).toContain('mallory');
  expect(body.length).toBeLessThan(8000);
  if (format === 'slack') expect(body).not.toMatch(/[<>]/);
  else expect(body).not.toMatch(/@(?!\u200b)|(?<!\\)\]\(/);
});
