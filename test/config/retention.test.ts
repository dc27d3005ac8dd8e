/** The keys of retention: restic's own words and forms, what holds where several say something, and each way to get them wrong. */
import { describe, expect, test } from '@jest/globals';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { parseCalendarSpan, parseGroupBy, parseKept } from '../../src/config/retention.ts';
import type { ClientConfig } from '../../src/config/types.ts';
import { parseDurationOrNone } from '../../src/config/values.ts';

const DAY = 24 * 60 * 60 * 1000;

function outcome<T>(parse: (text: string) => T, text: string): { value: T } | { refused: string } {
  try {
    return { value: parse(text) };
  } catch (error) {
    return { refused: (error as Error).message };
  }
}

describe('a length of time by the calendar', () => {
  const none = { years: 0, months: 0, days: 0, hours: 0 };
  test.each([
    ['30d', { ...none, days: 30 }],
    ['2m', { ...none, months: 2 }],
    ['1y6m14d2h', { years: 1, months: 6, days: 14, hours: 2 }],
    ['2h1y', { ...none, years: 1, hours: 2 }],
    ['1d2d', { ...none, days: 2 }],
    ['0y36h', { ...none, hours: 36 }],
  ])('%s', (text, value) => {
    expect(outcome(parseCalendarSpan, text)).toEqual({ value });
  });
  test.each(['', '30', 'd', '0d', '0y0h', '-1d', '1.5d', '2w', '90s', '30 d', '30D', '1d ', '999999d', 'unlimited'])(
    'not %j',
    (text) => {
      expect(outcome(parseCalendarSpan, text)).toEqual({
        refused:
          'must be a length of time as restic writes it, of years, months, days and hours, such as 30d, 2m or 1y6m14d2h',
      });
    },
  );
});

test.each<[string, unknown]>([
  ['1', { value: 1 }],
  ['1000000', { value: 1_000_000 }],
  ['unlimited', { value: 'unlimited' }],
  ...['0', '-1', '1000001', '1.5', 'all', ''].map((text): [string, unknown] => [
    text,
    { refused: 'must be a whole number from 1 to 1000000, or unlimited' },
  ]),
])('a rule keeps %s', (text, result) => {
  expect(outcome(parseKept, text)).toEqual(result);
});

test.each<[string, unknown]>([
  ['host,paths', { value: ['host', 'paths'] }],
  ['tags,path,tag', { value: ['tags', 'paths'] }],
  ['', { value: [] }],
  ...['user', 'host paths', 'constructor', 'host;tags'].map((text): [string, unknown] => [
    text,
    { refused: 'must be host, paths, tags or several of them with commas between, or ""' },
  ]),
])('grouped by "%s"', (text, result) => {
  expect(outcome(parseGroupBy, text)).toEqual(result);
});

test('a time may be none', () => {
  expect([parseDurationOrNone('none'), parseDurationOrNone('14d')]).toEqual(['none', 14 * DAY]);
  const refused = 'must be a length of time with its unit, up to a year, such as 14d, or none';
  for (const text of ['', '0d', 'None', '2y']) expect(outcome(parseDurationOrNone, text)).toEqual({ refused });
});

function parse({ client = '', store = '', defaults = '' }: { client?: string; store?: string; defaults?: string }): {
  client?: ClientConfig | undefined;
  problems?: string[];
} {
  const text = [
    `stores: { s: { type: directory, path: /srv/s${store && `, ${store}`} } }`,
    `clients: { c: { keys: [], repository: { store: s }${client && `, ${client}`} } }`,
    ...(defaults === '' ? [] : [`defaults: { ${defaults} }`]),
  ].join('\n');
  try {
    return { client: parseConfig(text, '/etc/gateway.yaml').clients['c'] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { problems: error.problems.map(({ path, message }) => `${path}: ${message}`) };
  }
}

describe('what holds for a client', () => {
  const rules = (given: Parameters<typeof parse>[0]): unknown => {
    const { client, problems } = parse(given);
    const { protectMs, trashMs, removals, retention } = client ?? {};
    return problems ?? [protectMs, trashMs, removals, retention?.['keep-daily']];
  };
  test.each<[string, Parameters<typeof parse>[0], unknown[]]>([
    ['nothing said', {}, [undefined, 14 * DAY, 'refused', undefined]],
    ['retention protects', { client: 'retention: { keep-daily: 7 }' }, [14 * DAY, 14 * DAY, 'refused', 7]],
    ['also that of the defaults', { defaults: 'retention: { keep-daily: 7 }' }, [14 * DAY, 14 * DAY, 'refused', 7]],
    [
      'the client before the defaults',
      { client: 'retention: { keep-daily: 3 }', defaults: 'retention: { keep-daily: 7 }, trash: 2d' },
      [14 * DAY, 2 * DAY, 'refused', 3],
    ],
    [
      'the store before the defaults',
      { store: 'protect: 3d, trash: none', defaults: 'protect: 5d, trash: 5d' },
      [3 * DAY, undefined, 'refused', undefined],
    ],
    [
      'the client before its store',
      { client: 'protect: none, trash: 1d', store: 'protect: 3d, trash: 3d' },
      [undefined, DAY, 'refused', undefined],
    ],
    ['protection without retention', { client: 'protect: 2d' }, [2 * DAY, 14 * DAY, 'refused', undefined]],
    [
      'no protection with retention',
      { client: 'protect: none, retention: { keep-daily: 7 }' },
      [undefined, 14 * DAY, 'refused', 7],
    ],
    [
      'deferred removals without protection',
      { client: 'removals: deferred, protect: none' },
      [undefined, 14 * DAY, 'deferred', undefined],
    ],
    [
      'a default that is not for several clients of a repository',
      { client: 'shared: true', defaults: 'removals: deferred' },
      [undefined, 14 * DAY, 'refused', undefined],
    ],
    ['deferred removals', { client: 'removals: deferred' }, [14 * DAY, 14 * DAY, 'deferred', undefined]],
    ['deferred by default', { defaults: 'removals: deferred' }, [14 * DAY, 14 * DAY, 'deferred', undefined]],
    [
      'a default that is not for its access',
      { client: 'access: full, trash: none', defaults: 'removals: deferred' },
      [undefined, undefined, 'refused', undefined],
    ],
    [
      'the client refuses again',
      { client: 'removals: refused, trash: none', defaults: 'removals: deferred' },
      [undefined, undefined, 'refused', undefined],
    ],
  ])('%s', (_name, given, wanted) => {
    expect(rules(given)).toEqual(wanted);
  });
});

describe('what is wrong', () => {
  const trash =
    'removals: deferred needs a trash to move things to; give trash a time such as 14d, or write removals: refused';
  test.each<[string, Parameters<typeof parse>[0], string[]]>([
    [
      'no rule',
      { client: 'retention: { group-by: host }' },
      ['clients.c.retention: needs a rule, such as keep-daily: 30'],
    ],
    [
      'a slip',
      { client: 'retention: { keep-dayly: 3 }' },
      ['clients.c.retention.keep-dayly: unknown key; did you mean "keep-daily"?'],
    ],
    [
      'camel case',
      { defaults: 'retention: { keepDaily: 3 }' },
      ['defaults.retention.keepDaily: unknown key; did you mean "keep-daily"?'],
    ],
    [
      'tags',
      { client: 'retention: { keep-daily: 3, keep-tag: x }' },
      [
        'clients.c.retention.keep-tag: is not a rule here: tags are set by the client, who could keep or drop snapshots by them',
      ],
    ],
    [
      'none of a rule',
      { client: 'retention: { keep-last: 0 }' },
      ['clients.c.retention.keep-last: must be a whole number from 1 to 1000000, or unlimited'],
    ],
    [
      'retention as a word',
      { client: 'retention: none' },
      [
        expect.stringContaining(
          'clients.c.retention: must be a section with keep-last, keep-hourly',
        ) as unknown as string,
      ],
    ],
    [
      'another word for removals',
      { client: 'removals: defered' },
      ['clients.c.removals: must be "refused" or "deferred"; did you mean "deferred"?'],
    ],
    [
      'deferred with full access',
      { client: 'access: full, removals: deferred' },
      ['clients.c.removals: "deferred" is for access append-only; with access full, remove this line'],
    ],
    [
      'deferred with read-only access',
      { client: 'access: read-only, removals: deferred' },
      ['clients.c.removals: "deferred" is for access append-only; with access read-only, remove this line'],
    ],
    [
      'deferred where several share the repository',
      { client: 'shared: true, removals: deferred' },
      [
        'clients.c.removals: "deferred" is for a repository of one client, who thins out its own backups; with shared: true, remove this line',
      ],
    ],
    ['deferred without a trash', { client: 'removals: deferred, trash: none' }, [`clients.c.trash: ${trash}`]],
    [
      'deferred where the store has none',
      { client: 'removals: deferred', store: 'trash: none' },
      [`clients.c.removals: ${trash}`],
    ],
    ['deferred by default without a trash', { defaults: 'removals: deferred, trash: none' }, [`clients.c: ${trash}`]],
    ['defaults of what is each client’s own', { defaults: 'access: full' }, ['defaults.access: unknown key']],
  ])('%s', (_name, given, problems) => {
    expect(parse(given)).toEqual({ problems });
  });
});
