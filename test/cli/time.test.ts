import { describe, expect, test } from '@jest/globals';
import { parseTime } from '../../src/cli/time.ts';

const NOW = new Date('2026-11-25T06:30:15.250Z');

describe('a moment on the command line', () => {
  test.each([
    ['now', '2026-11-25T06:30:15.250Z'],
    ['today', '2026-11-25T00:00:00.000Z'],
    ['yesterday', '2026-11-24T00:00:00.000Z'],
    ['90s', '2026-11-25T06:28:45.250Z'],
    ['5m', '2026-11-25T06:25:15.250Z'],
    ['5min', '2026-11-25T06:25:15.250Z'],
    ['2h', '2026-11-25T04:30:15.250Z'],
    ['7d', '2026-11-18T06:30:15.250Z'],
    ['1w', '2026-11-18T06:30:15.250Z'],
    ['2024-02-29', '2024-02-29T00:00:00.000Z'],
    ['2026-11-24T18:00', '2026-11-24T18:00:00.000Z'],
    ['2026-11-24 18:00', '2026-11-24T18:00:00.000Z'],
    ['2026-11-24T18:00:01.5Z', '2026-11-24T18:00:01.500Z'],
    ['2026-11-24T18:00+01:00', '2026-11-24T17:00:00.000Z'],
    ['2026-11-24 18:00:01 +01:00', '2026-11-24T17:00:01.000Z'],
    ['2026-11-24 18:00:01 UTC', '2026-11-24T18:00:01.000Z'],
  ])('%s is %s', (text, sharedTime) => {
    expect(parseTime(text, '--since', NOW).toISOString()).toBe(sharedTime);
  });

  test.each([
    '',
    'tomorrow',
    '2',
    '2y',
    '-2h',
    '2026-11',
    '2026-11-25T25:00',
    '25.11.2026',
    '2026-11-25T18:00:00.1234Z',
  ])('%j is refused with examples', (text) => {
    expect(() => parseTime(text, '--since', NOW)).toThrow(
      '--since must be a time such as 2h, 7d, yesterday, 2026-11-25 or 2026-11-25T18:00',
    );
  });

  test.each(['2026-02-30', '2026-13-01', '2026-02-29T10:00', '999999999w'])('%s is no day', (text) => {
    expect(() => parseTime(text, '--until', NOW)).toThrow('--until: there is no such day');
  });
});
