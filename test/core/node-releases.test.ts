/** What is said of the Node that runs, by its version and the day; and that every place which names the recommended one names the same. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { NODE_LINES, RECOMMENDED_LINE, runtimeTrouble } from '../../src/core/node-releases.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const on = (day: string): Date => new Date(`${day}T12:00:00Z`);

test.each([
  // A line's last day is a day with fixes.
  [{ version: '20.20.2' }, '2026-04-30', undefined],
  [{ version: '20.20.2' }, '2026-05-01', 'no longer gets fixes, since 2026-04-30; install Node.js 26'],
  [{ version: '25.9.0' }, '2026-11-26', 'no longer gets fixes, since 2026-06-01; install Node.js 26'],
  [{ version: '22.23.3' }, '2026-11-26', undefined],
  [{ version: '22.23.3' }, '2027-05-01', 'no longer gets fixes'],
  [{ version: '22.23.1' }, '2026-11-26', 'lacks fixes for known vulnerabilities in HTTP/2; update it to 22.23.2'],
  [{ version: '22.9.0' }, '2026-11-26', 'update it to 22.23.2'],
  [{ version: '24.18.1' }, '2026-11-26', undefined],
  [{ version: '24.18.0' }, '2026-11-26', 'update it to 24.18.1'],
  [{ version: '26.12.1' }, '2026-11-26', undefined],
  [{ version: '26.12.1' }, '2029-05-01', 'since 2029-04-30; install one that does'],
  [{ version: '27.0.0' }, '2031-01-01', undefined],
  // Debian goes on where nodejs.org has ended, for as long as it looks after that Debian, and from its updates on.
  [{ version: '20.19.2', debian: '20.19.2+dfsg-1+deb13u3' }, '2026-11-26', undefined],
  [{ version: '20.19.2', debian: '20.19.2+dfsg-1+deb13u12' }, '2028-08-09', undefined],
  [{ version: '20.19.2', debian: '20.19.2+dfsg-1+deb13u12' }, '2028-08-10', 'of Debian 13 no longer gets fixes'],
  [
    { version: '20.19.2', debian: '20.19.2+dfsg-1' },
    '2026-11-26',
    'lacks fixes for known vulnerabilities in HTTP/2; update it (apt',
  ],
  [{ version: '20.19.2', debian: '20.19.2+dfsg-1+deb13u2' }, '2026-11-26', 'to 20.19.2+dfsg-1+deb13u3 or newer'],
  // A package of Debian's testing or unstable has patches that its number does not show, and no promise beyond its line's.
  [{ version: '22.14.0', debian: '22.14.0+dfsg-2' }, '2026-11-26', undefined],
  [{ version: '20.18.1', debian: '20.18.1+dfsg-1' }, '2026-11-26', 'no longer gets fixes'],
])('%j on %s', (runtime, day, words) => {
  expect(runtimeTrouble(runtime, on(day))).toEqual(words === undefined ? undefined : expect.stringContaining(words));
});

test('whatever names the recommended Node names the same', () => {
  expect(NODE_LINES.has(RECOMMENDED_LINE)).toBe(true);
  const named = {
    'scripts/packaging/Dockerfile': /^ARG BASE=\S+\/node:(\d+)\./gm,
    'scripts/lab/setup': /^readonly NODE_LTS=(\d+)$/gm,
    '.github/workflows/ci.yml': /^ +image: node:(\d+)-/gm,
    'README.md': /Node\.js (\d+) \(LTS\)/g,
    'docs/install.md': /Node\.js (\d+) \(LTS\)/g,
    'docs/node.md': /Node\.js (\d+) \(LTS\)/g,
  };
  for (const [file, pattern] of Object.entries(named)) {
    const lines = [...read(file).matchAll(pattern)].map(([, line]) => Number(line));
    expect({ file, lines: [...new Set(lines)] }).toEqual({ file, lines: [RECOMMENDED_LINE] });
  }
});

test('docs/node.md has each line that still gets fixes, with its end', () => {
  const table = read('docs/node.md');
  for (const [line, { end, fixed }] of NODE_LINES)
    if (line % 2 === 0) {
      const row = table.split('\n').find((one) => one.startsWith(`| ${line} `)) ?? '';
      expect(row).toContain(end);
      if (fixed !== undefined) expect(row).toContain(fixed);
    }
});

// A test that fails by the calendar alone would stop all work on that day: it only says so.
test('the table is not out of date', () => {
  const { end = '' } = NODE_LINES.get(RECOMMENDED_LINE) ?? {};
  const nearEnd = new Date(Date.now() + 365 * 86_400_000).toISOString().slice(0, 10) > end;
  if (nearEnd)
    process.stderr.write(
      `Node.js ${RECOMMENDED_LINE}, which the gateway recommends, gets fixes until ${end}: renew src/core/node-releases.ts (docs/node.md)\n`,
    );
});
