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

/** Figures that are written as words. */
const WORDS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];

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
  ['notifications', 'pinged every # minutes', MINUTE, 'config/notify.ts', 'PING_EVERY_MS'],
  ['notifications', 'at most # messages at once', 1, 'notify/plan.ts', 'BURST'],
  ['notifications', 'comes on Mondays at # (`digest`)', HOUR / MINUTE, 'notify/plan.ts', 'DIGEST_MINUTES'],
  ['retention', 'They are waited for: # minutes', MINUTE, 'cli/restic-hold.ts', 'WAIT_MS'],
  ['retention', 'and after # hours at the latest', HOUR, 'state/lock-holds.ts', 'LONGEST_HOLD_MS'],
  ['retention', 'locks older than # minutes', MINUTE, 'core/policy.ts', 'STALE_LOCK_MS'],
  ['s3', 'one request per object, # at a time', 1, 'retention/each-object.ts', 'AT_ONCE'],
  ['audit', '`state` directory, within # ms', 1, 'audit/heads.ts', 'NOTE_MS'],
  ['limits', 'at most # uploads of packs', 1, 'limits/store-calls.ts', 'packs: { each'],
  ['limits', 'uploads of packs, # downloads', 1, 'limits/store-calls.ts', 'downloads: { each'],
  ['limits', 'downloads, # lists and', 1, 'limits/store-calls.ts', 'lists: { each'],
  ['limits', 'lists and # other calls (lookups', 1, 'limits/store-calls.ts', 'small: { each'],
  ['limits', 'it may have # uploads', 1, 'limits/store-calls.ts', 'packs: { each: 6, alone'],
  ['limits', 'of that kind for # seconds', SECOND, 'limits/store-calls.ts', 'LATELY_MS'],
  ['limits', 'All clients together have # uploads', 1, 'limits/store-calls.ts', 'packs: { each: 6, alone: 32, all'],
  [
    'limits',
    'All clients together have 256 uploads, # downloads',
    1,
    'limits/store-calls.ts',
    'downloads: { each: 6, alone: 32, all',
  ],
  [
    'limits',
    'All clients together have 256 uploads, 256 downloads, # lists',
    1,
    'limits/store-calls.ts',
    'lists: { each: 2, alone: 4, all',
  ],
  ['limits', 'does not read a download for # to', SECOND, 'limits/store-calls.ts', 'UNREAD_MS'],
  ['limits', 'each has at most # concurrent lookups', 1, 'limits/store-calls.ts', 'small: { each'],
  ['limits', 'writes up to # lines at once', 1, 'limits/client-log.ts', 'INFO = { burst'],
  [
    'limits',
    'lines at once and # per hour about sessions',
    1,
    'limits/client-log.ts',
    'INFO = { burst: 400, perSecond',
  ],
  ['limits', 'start and end, and # at once', 1, 'limits/client-log.ts', 'TROUBLE = { burst'],
  ['limits', 'at once and # per hour about problems', 1, 'limits/client-log.ts', 'TROUBLE = { burst: 60, perSecond'],
  ['limits', "with bursts of # hours' worth. This prevents", HOUR, 'limits/throttles.ts', 'SMALL_OBJECTS_BURST_MS'],
  ['limits', "with bursts of # hours' worth. A run", 1, 'limits/counted-records.ts', 'SESSIONS_BURST_HOURS'],
  ['limits', '`more-denied` | # of each |', 1, 'limits/counted-records.ts', 'SUMMARIES: Allowance = { burst'],
  [
    'limits',
    '3 of each | # of each | reported later',
    1,
    'limits/counted-records.ts',
    'SUMMARIES: Allowance = { burst: 3, perHour',
  ],
  ['limits', 'the line that announced it | # |', 1, 'limits/counted-records.ts', 'FAILURES: Allowance = { burst'],
  [
    'limits',
    'the line that announced it | 500 | # |',
    1,
    'limits/counted-records.ts',
    'FAILURES: Allowance = { burst: 500, perHour',
  ],
  ['limits', 'written once per session, up to # bytes', 1, 'audit/jsonl-sink.ts', 'PEER_TEXT_BYTES'],
  ['limits', 'A quarantine holds at most # objects', 1, 'maintenance/manifest.ts', 'MOST_QUARANTINED'],
  ['limits', '`memory: { total: #MiB', KIB * KIB, 'limits/memory-limits.ts', 'DEFAULT_TOTAL'],
  [
    'limits',
    'part of both limits, at least 40 MiB and # MiB',
    KIB * KIB,
    'limits/memory-limits.ts',
    'LEAST_PER_CLIENT',
  ],
  ['limits', "client's `maxSessions`, at least # MiB", KIB * KIB, 'limits/memory-limits.ts', 'LEAST_PER_SESSION'],
  ['sizing', 'at most `memory.total` (# MiB by default)', KIB * KIB, 'limits/memory-limits.ts', 'DEFAULT_TOTAL'],
  [
    'audit-reference',
    '`session-refused` and then # per hour',
    1,
    'limits/counted-records.ts',
    'REFUSED: Allowance = { burst: 20, perHour',
  ],
  [
    'audit-reference',
    '`throttled` and then # per hour',
    1,
    'limits/counted-records.ts',
    'TROUBLE: Allowance = { burst: 100, perHour',
  ],
  [
    'audit-reference',
    'at most # lines per hour. `session` is an id',
    1,
    'limits/counted-records.ts',
    'SUMMARIES: Allowance = { burst: 3, perHour',
  ],
  [
    'audit-reference',
    'the name that the peer logged in with; it decides nothing; only in `session-start` and `session-refused`, cut at # bytes',
    1,
    'audit/jsonl-sink.ts',
    'PEER_TEXT_BYTES',
  ],
  ['audit-reference', 'It is cut at # bytes', 1, 'audit/jsonl-sink.ts', 'DETAIL_BYTES'],
  ['threat-model', '# packets and 256 KiB before login', 1, 'frontends/peer-guard.ts', 'LOGIN_PACKETS'],
  [
    'threat-model',
    'one key exchange, 200 packets and # KiB before login',
    KIB,
    'frontends/peer-guard.ts',
    'LOGIN_BYTES',
  ],
  ['threat-model', 'each has at most # lookups', 1, 'limits/store-calls.ts', 'small: { each'],
  ['threat-model', 'closed after # refusals', 1, 'frontends/ssh-auth.ts', 'MOST_REFUSALS'],
  ['threat-model', 'closed after 6 refusals, or # attempts', 1, 'frontends/ssh-auth.ts', 'MOST_ATTEMPTS'],
  ['threat-model', 'at most # per session, with 1 MiB', 1, 'restic/http2-session.ts', 'MAX_BODIES'],
  ['threat-model', 'reset after # minutes without a byte', MINUTE, 'restic/http2-session.ts', 'STALLED_MS'],
  ['threat-model', '| # at once and 10 per second', 1, 'frontends/peer-guard.ts', 'REQUESTS = { burst'],
  ['threat-model', '200 at once and # per second', 1, 'frontends/peer-guard.ts', 'REQUESTS = { burst: 200, perSecond'],
  ['limits', 'are limited to bursts of # and one per 10 s', 1, 'frontends/quiet-log.ts', 'ONE = { burst'],
  ['limits', 'and to bursts of # and one per second', 1, 'frontends/quiet-log.ts', 'ALL = { burst'],
  [
    'monitoring',
    'at least # MiB, or nine tenths',
    KIB * KIB,
    'monitor/anomalies.ts',
    'READ_HALF = { share: 0.5, least',
  ],
  [
    'monitoring',
    'nine tenths of it and at least # MiB',
    KIB * KIB,
    'monitor/anomalies.ts',
    'READ_ALL = { share: 0.9, least',
  ],
  ['monitoring', 'more than # times as much as on any day', 1, 'monitor/anomalies.ts', 'READ_FACTOR_UNSIZED'],
  ['monitoring', 'that came from at most # networks', 1, 'monitor/anomalies.ts', 'MOST_NETWORKS'],
  ['monitoring', 'is late after # times the second longest gap', 1, 'monitor/anomalies.ts', 'LATE_FACTOR'],
  ['monitoring', 'seen for a week and in # sessions', 1, 'monitor/anomalies.ts', 'KNOWN_SESSIONS'],
  ['monitoring', 'needs snapshots on at least # days', 1, 'monitor/reduce.ts', 'USUAL_DAYS'],
  ['monitoring', 'looks for anomalies every # seconds', SECOND, 'monitor/monitor.ts', 'LOOK_MS'],
  ['json', 'the last # days, the oldest first', 1, 'monitor/model.ts', 'KEPT_DAYS'],
  ['audit', 'After # minutes, or five intervals', MINUTE, 'audit/copying.ts', 'LATE_MS'],
  ['audit', 'After # minutes without a receiver', MINUTE, 'audit/forwarding.ts', 'LATE_MS'],
  ['audit', 'cut off less than # ms before', 1, 'audit/heads.ts', 'NOTE_MS'],
  ['s3', 'an object of # MiB, the size of', KIB * KIB, 'stores/s3/store-check.ts', 'PACK_BYTES'],
  ['probe', 'The probe opens # sessions at once', 1, 'probe/repository-checks.ts', 'RACERS'],
  ['../README', 'or of one older than # minutes', MINUTE, 'core/policy.ts', 'STALE_LOCK_MS'],
];

const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);

/** The first number after a name of the program: `NAME = 4 * 3_600_000`, `name: 20`. */
function constant(file: string, name: string): number {
  const [, product] = new RegExp(`\\b${escaped(name)}(?: =|:) ([0-9_* ]+(?:MIB)?)`).exec(read(`src/${file}`)) ?? [];
  if (product === undefined) throw new Error(`src/${file} has no ${name}`);
  return product
    .replaceAll('_', '')
    .replace('MIB', `${KIB * KIB}`)
    .replaceAll('**', '^')
    .split('*')
    .map((factor) => factor.split('^').map(Number))
    .reduce((all, [base = NaN, power = 1]) => all * base ** power, 1);
}

test.each(FIGURES)('%s: %s', (page, sentence, unit, file, name) => {
  const prose = read(`docs/${page}.md`).replaceAll(/\s+/g, ' ');
  const number = `([0-9][0-9,]*|${WORDS.join('|')})`;
  const [, written = ''] = new RegExp(escaped(sentence).replace('#', number)).exec(prose) ?? [];
  const figure = WORDS.includes(written) ? WORDS.indexOf(written) : Number(written.replaceAll(',', '') || NaN);
  expect({ sentence, figure: figure * unit }).toEqual({
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
  expect(read('docs/install.md')).toContain(`above \`drainSeconds\` (${config.drainSeconds})`);
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
