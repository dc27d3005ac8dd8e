import { describe, expect, test } from '@jest/globals';
import { formatBytes, formatDuration, table } from '../../src/cli/terminal.ts';

describe('what the commands print for people', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [12.34 * 1024 ** 3, '12.3 GiB'],
    [3000 * 1024 ** 5, '3000.0 PiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test.each([
    [400, '0.4 s'],
    [9_960, '10 s'],
    [59_600, '1 min 0 s'],
    [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'],
    [273_600_000, '3 d 4 h'],
  ])('%d ms are %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test('a table keeps its columns in line and leaves nothing at the ends of its lines', () => {
    const text = table(
      [{ title: 'CLIENT' }, { title: 'SIZE', right: true }, { title: 'NOTE' }],
      [
        ['appsrv', '1.0 KiB', ''],
        ['a', '12.0 MiB', 'new'],
      ],
    );
    expect(text).toBe('CLIENT      SIZE  NOTE\nappsrv   1.0 KiB\na       12.0 MiB  new\n');
  });
});
