/** The figures that the prose names are those of the program: each sentence with the constant that it is about. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { parseConfig } from '../../src/config/load.ts';
import { keyLine } from '../config/samples.ts';
import { ROOT } from '../support/doc-fences.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const KIB = 1024;

/** Page, sentence around its figure, the figure's unit, and where the program has it: a file of src and a constant or a property there. */
const FIGURES: readonly (readonly [page: string, sentence: string, unit: number, file: string, name: string])[] = [
  ['limits', 'bursts of # for sessions and', 1, 'limits/counted-records.ts', 'REFUSED: Allowance = { burst'],
  ['limits', 'for sessions and # for requests', 1, 'limits/counted-records.ts', 'TROUBLE: Allowance = { burst'],
  [
    'audit-reference',
    'a burst of # lines of `session-refused`',
    1,
    'limits/counted-records.ts',
    'REFUSED: Allowance = { burst',
  ],
  ['audit-reference', 'a burst of # lines of `denied`', 1, 'limits/counted-records.ts', 'TROUBLE: Allowance = { burst'],
  ['limits', '`sessions: #/h` (the default)', 1, 'limits/counted-records.ts', 'SESSIONS'],
  ['limits', '`requests: #/s` (the default)', 1, 'limits/throttles.ts', 'REQUESTS'],
  ['limits', 'with bursts of # seconds', SECOND, 'limits/throttles.ts', 'REQUESTS_BURST_MS'],
  ['limits', '`smallObjects: #/h` (the default)', 1, 'limits/throttles.ts', 'SMALL_OBJECTS'],
  ['limits', 'how many objects under # MiB', KIB * KIB, 'limits/throttles.ts', 'SMALL_BYTES'],
  ['limits', 'once every # locks', 1, 'limits/lock-limit.ts', 'PER_LIST'],
  ['limits', 'If # of a kind are waiting', 1, 'limits/store-calls.ts', 'MOST_WAITING'],
  ['limits', 'younger than # minutes', MINUTE, 'core/policy.ts', 'STALE_LOCK_MS'],
  ['limits', 'send # packets', 1, 'frontends/peer-guard.ts', 'LOGIN_PACKETS'],
  ['limits', 'packets and # KiB, and try', KIB, 'frontends/peer-guard.ts', 'LOGIN_BYTES'],
  ['limits', '`unauthenticated` slots (#)', 1, 'frontends/limits.ts', 'unauthenticated'],
  ['limits', '`unauthenticatedPerAddress` (#)', 1, 'frontends/limits.ts', 'unauthenticatedPerAddress'],
  ['limits', '`loginSeconds` (#)', 1, 'frontends/limits.ts', 'loginSeconds'],
  ['limits', '| channels of a connection | #', 1, 'frontends/limits.ts', 'channels'],
  ['monitoring', 'More than # snapshots in one clock hour', 1, 'monitor/anomalies.ts', 'BURST_HOUR'],
  ['monitoring', 'or more than # on one day', 1, 'monitor/anomalies.ts', 'BURST_DAY'],
  ['monitoring', 'if it reads # GiB on one day', KIB ** 3, 'monitor/anomalies.ts', 'READ_LEAST_UNSIZED'],
  ['retention', 'They are waited for: # minutes', MINUTE, 'cli/restic-hold.ts', 'WAIT_MS'],
  ['retention', 'and after # hours at the latest', HOUR, 'state/lock-holds.ts', 'LONGEST_HOLD_MS'],
  ['retention', 'locks older than # minutes', MINUTE, 'core/policy.ts', 'STALE_LOCK_MS'],
  ['audit', '`state` directory, within # ms', 1, 'audit/heads.ts', 'NOTE_MS'],
];

const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);

/** The first number after a name of the program: `NAME = 4 * 3_600_000`, `name: 20`. */
function constant(file: string, name: string): number {
  const [, product] = new RegExp(`\\b${escaped(name)}(?: =|:) ([0-9_* ]+)`).exec(read(`src/${file}`)) ?? [];
  if (product === undefined) throw new Error(`src/${file} has no ${name}`);
  return product
    .replaceAll('_', '')
    .replaceAll('**', '^')
    .split('*')
    .map((factor) => factor.split('^').map(Number))
    .reduce((all, [base = NaN, power = 1]) => all * base ** power, 1);
}

test.each(FIGURES)('%s: %s', (page, sentence, unit, file, name) => {
  const prose = read(`docs/${page}.md`).replaceAll(/\s+/g, ' ');
  const [, figure] = new RegExp(escaped(sentence).replace('#', '([0-9][0-9,]*)')).exec(prose) ?? [];
  expect({ sentence, figure: Number(figure?.replaceAll(',', '')) * unit }).toEqual({
    sentence,
    figure: constant(file, name),
  });
});

test('the defaults that the prose names are those of a config without them', () => {
  const config = parseConfig(
    `hostKeys: [k]\nstores: {s: {type: directory, path: /x}}\nclients: {a: {keys: ['${keyLine(1)}'], repository: {store: s}}}\n`,
    '/gateway.yaml',
  );
  const limits = read('docs/limits.md');
  expect(limits).toContain(`\`maxLocks: ${config.clients['a']?.maxLocks}\` (the default)`);
  expect(limits).toContain(`\`maxSessions\` of a client (${config.clients['a']?.maxSessions} by default)`);
  expect(limits.replaceAll(/\s+/g, ' ')).toContain(
    `\`maxSessions\` at the top of the config (${config.maxSessions} by default)`,
  );
  expect(read('docs/operate.md')).toContain(`\`drainSeconds\` (${config.drainSeconds} by default)`);
  expect(config.audit.maxSize).toBe(100 * KIB * KIB);
  expect(read('docs/audit.md')).toContain('`maxSize` (100 MiB by default');
});

test('the units that the reference names are taken', () => {
  const client = (line: string): string =>
    `stores: {s: {type: directory, path: /x}}\nclients: {a: {keys: ['${keyLine(1)}'], repository: {store: s}, ${line}}}\n`;
  const reference = read('docs/reference.md');
  const below = (start: string): string => reference.split('\n').find((line) => line.startsWith(start)) ?? '';
  const times = [...below('- Times:').matchAll(/`(\d+\w+)`/g)].map(([, time = '']) => `expectEvery: ${time}`);
  const sizes = [...below('- Sizes:').matchAll(/`(\d[\w. ]+)`/g)].map(([, size = '']) => `quota: ${size}`);
  expect([times.length, sizes.length]).toEqual([6, 3]);
  for (const line of [...times, ...sizes]) expect(() => parseConfig(client(line), '/gateway.yaml')).not.toThrow();
});
