/** What is chosen from the audit. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { selectEvents, selectSessions, type Selection } from '../../src/audit/select.ts';
import { tempDir } from '../support/lab.ts';

const ANY: Selection = { client: undefined, session: undefined, since: undefined, until: undefined, kind: undefined };

async function sample(): Promise<string> {
  const file = path.join(tempDir(), 'audit.jsonl');
  const line = (minute: number, event: string, session: string, client: string, more = {}): string =>
    `${JSON.stringify({ time: `2026-11-25T06:0${minute}:00.000Z`, event, session, client, via: 'ssh', ...more })}\n`;
  await writeFile(
    file,
    line(0, 'session-start', 'a', 'one', { from: '192.0.2.1' }) +
      line(1, 'session-start', 'b', 'two') +
      '{"time":"2026-11-25T06:01:30.000Z","ev\n' +
      line(2, 'denied', 'a', 'one') +
      line(3, 'session-end', 'a', 'one', {
        reason: 'client-ended',
        bytesIn: 5,
        bytesOut: 6,
        denied: 1,
        durationMs: 9,
      }) +
      line(4, 'session-refused', 'c', 'two', { reason: 'expired' }),
  );
  return file;
}

test.each<readonly [Partial<Selection>, number, readonly string[]]>([
  [{}, 10, ['session-start', 'session-start', 'denied', 'session-end', 'session-refused']],
  [{}, 2, ['session-end', 'session-refused']],
  [{ client: { name: 'two', id: 'two' } }, 10, ['session-start', 'session-refused']],
  [{ session: 'a', kind: 'denied' }, 10, ['denied']],
  [{ since: new Date('2026-11-25T06:02Z'), until: new Date('2026-11-25T06:03Z') }, 10, ['denied', 'session-end']],
])('events: %j, %d at most', async (selection, limit, kinds) => {
  const events = await selectEvents([await sample()], { ...ANY, ...selection }, limit);
  expect(events.map((event) => event['event'])).toEqual(kinds);
});

test('sessions, those without an end too', async () => {
  const file = await sample();
  const sessions = await selectSessions([file], ANY, 10);
  expect(sessions.map(({ session, outcome }) => [session, outcome])).toEqual([
    ['a', 'client-ended'],
    ['b', 'open'],
    ['c', 'refused: expired'],
  ]);
  expect(sessions[0]).toMatchObject({ from: '192.0.2.1', bytesIn: 5, bytesOut: 6, denied: 1, durationMs: 9 });
  expect((await selectSessions([file], ANY, 1)).map(({ session }) => session)).toEqual(['c']);
});

test('sessions in the order in which they began, though the clock was set back between them', async () => {
  const file = path.join(tempDir(), 'audit.jsonl');
  const line = (time: string, event: string, session: string, more = {}): string =>
    `${JSON.stringify({ time, event, session, client: 'one', via: 'ssh', ...more })}\n`;
  await writeFile(
    file,
    line('2031-01-01T00:00:00.000Z', 'session-start', 'ahead') +
      line('2026-11-25T06:00:00.000Z', 'session-start', 'first') +
      line('2026-11-25T06:01:00.000Z', 'session-start', 'second') +
      line('2026-11-25T06:02:00.000Z', 'session-end', 'first', { reason: 'client-ended' }),
  );
  expect((await selectSessions([file], ANY, 10)).map(({ session }) => session)).toEqual(['ahead', 'first', 'second']);
  expect((await selectSessions([file], ANY, 1)).map(({ session }) => session)).toEqual(['second']);
});
