/** Which of restic's commands have the repository held, and for how long its clients are waited for. */
import { expect, test } from '@jest/globals';
import { holdRequest } from '../../src/cli/restic-hold.ts';

const ask = (line: string, holdClient?: string | false, endSessions = false) =>
  holdRequest(line.split(' '), { holdClient, endSessions });
const TEN_MINUTES = { waitMs: 600_000, endSessions: false };

test.each([
  'prune',
  'forget --keep-last 1 --prune',
  '-q -p file -o a=b prune',
  '--password-file=x check --read-data',
  'key remove 1234',
  'key -v passwd',
  'repair index',
])('%s needs the repository alone', (line) => {
  expect(ask(line)).toEqual(TEN_MINUTES);
  expect(ask(line, false)).toBeUndefined();
  expect(ask(line, '90s', true)).toEqual({ waitMs: 90_000, endSessions: true });
});

test.each(['snapshots', 'backup /srv --tag prune', '-p prune snapshots', 'key add', 'check --no-lock', 'unlock', ''])(
  '%s does not, unless it is said',
  (line) => {
    expect(ask(line)).toBeUndefined();
    expect(ask(line, '')).toEqual(TEN_MINUTES);
    expect(ask(line, undefined, true)).toEqual({ waitMs: 600_000, endSessions: true });
  },
);

test.each(['10', 'soon', '-1s', '13h', '99999h', '2d'])('to wait for %s is refused', (text) => {
  expect(() => ask('prune', text)).toThrow(/must be a length of time with its unit, up to 12h/);
});

test('what contradicts itself is refused', () => {
  expect(() => ask('prune', false, true)).toThrow(/either --end-sessions or --no-hold-client/);
});
