/** A year of honest backups, thinned out side by side: the gateway's rules keep what restic's own do, and say the same reasons. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import type { RetentionPolicy } from '../../src/config/types.ts';
import { bundleProgram } from '../support/module-process.ts';
import { lab, restic, run, tempDir } from '../support/lab.ts';
import { writeSnapshots, type WrittenSnapshot } from '../support/written-snapshots.ts';

/** With a summer time: of an hour in the north, and of half an hour in the south, half an hour off UTC's own besides. */
const ZONES = ['Europe/Berlin', 'Australia/Lord_Howe'] as const;
const HOUR = 3_600_000;
const NEWEST = Date.parse('2026-11-26T21:17:00Z');

/** restic's words, each a pair of rule and value. */
const POLICIES: readonly (readonly (readonly [string, string])[])[] = [
  [['keep-last', '10']],
  [
    ['keep-daily', '30'],
    ['keep-weekly', '12'],
    ['keep-monthly', '24'],
    ['keep-last', '10'],
    ['keep-within', '30d'],
  ],
  [
    ['keep-hourly', '48'],
    ['keep-yearly', '3'],
  ],
  [['keep-weekly', 'unlimited']],
  [
    ['keep-monthly', '5'],
    ['group-by', ''],
  ],
  [
    ['keep-daily', '400'],
    ['group-by', 'host'],
  ],
  [
    ['keep-daily', '7'],
    ['keep-hourly', 'unlimited'],
    ['group-by', 'host,tags'],
  ],
  [['keep-within', '1m']],
  [
    ['keep-within-hourly', '2d12h'],
    ['keep-within-daily', '1m'],
    ['keep-within-weekly', '3m'],
    ['keep-within-monthly', '1y'],
  ],
  [
    ['keep-within-yearly', '10y'],
    ['keep-within-daily', '1y6m14d2h'],
    ['group-by', 'paths'],
  ],
];

/** `2026-07-01T12:00:00+02:00`, as restic writes the time of a machine in that zone. */
function zoned(ms: number, timeZone: string): string {
  const parts = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' }).format(ms);
  const local = parts.replace(' ', 'T');
  const minutes = Math.round((Date.parse(`${local}Z`) - ms) / 60_000);
  const two = (number: number): string => String(number).padStart(2, '0');
  return `${local}+${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

function year(zone: string): readonly WrittenSnapshot[] {
  const nightly = Array.from({ length: 370 }, (_, index) => ({
    time: zoned(NEWEST - index * 24 * HOUR - (index % 7) * 60_000, zone),
    ...{ hostname: 'appsrv', paths: ['/srv'] },
  }));
  const hourly = Array.from({ length: 24 * 40 }, (_, index) => ({
    time: zoned(NEWEST - index * HOUR - 61_000, zone),
    ...{ hostname: 'dbsrv', paths: ['/var/lib/db'], tags: ['db'] },
  }));
  // Through the end of the summer time in Berlin, twice in some hours.
  const often = Array.from({ length: 60 }, (_, index) => ({
    time: zoned(Date.parse('2026-10-25T04:00:00Z') - index * 20 * 60_000, zone),
    ...{ hostname: 'dbsrv', paths: ['/etc', '/var/lib/db'], tags: ['db', 'night'] },
  }));
  // Through both changes of the year in Lord Howe.
  const changes = ['2026-04-04T15:00:00Z', '2026-10-03T15:30:00Z'].flatMap((at) =>
    Array.from({ length: 30 }, (_, index) => ({
      time: zoned(Date.parse(at) + (15 - index) * 10 * 60_000, zone),
      ...{ hostname: 'mail', paths: ['/var/mail'] },
    })),
  );
  const twoPaths = Array.from({ length: 120 }, (_, index) => ({
    time: zoned(NEWEST - index * 72 * HOUR - 125_000, zone),
    ...{ hostname: 'notebook', paths: index % 2 === 0 ? ['/home'] : ['/work', '/home'] },
  }));
  return [...nightly, ...hourly, ...often, ...changes, ...twoPaths];
}

/** As a config has it. */
function policyOf(rules: (typeof POLICIES)[number]): RetentionPolicy | undefined {
  const client = { keys: [], repository: { store: 's' }, retention: Object.fromEntries(rules) };
  const config = { stores: { s: { type: 'directory', path: '/' } }, clients: { c: client } };
  return parseConfig(stringify(config), '/gateway.yaml').clients['c']?.retention;
}

interface Outcome {
  readonly [id: string]: readonly string[];
}

describe.each([
  [ZONES[0], ['resticDebian', 'resticTrixie', 'resticNewest']],
  [ZONES[1], ['resticNewest']],
] as const)('in %s', (TZ, versions: readonly ('resticDebian' | 'resticTrixie' | 'resticNewest')[]) => {
  let repository: string;
  const snapshots = year(TZ);
  /** For each policy, by the gateway's rules, without what it keeps beside them. */
  let ours: readonly Outcome[];
  beforeAll(async () => {
    repository = path.join(tempDir(), 'repository');
    const { code, stderr } = await restic(lab().resticDebian, { repo: repository }, ['init']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const ids = writeSnapshots(repository, 'password', snapshots);
    const program = await bundleProgram(`
    import { readFileSync } from 'node:fs';
    import { selectSnapshots } from './src/retention/select.ts';
    const { snapshots, policies, now } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
    const given = snapshots.map(({ id, time, hostname: host, paths, tags = [] }) =>
      ({ id, host, paths, tags, claimed: new Date(time), arrived: new Date(time), accepted: false }));
    const outcomes = policies.map((policy) => {
      const { groups } = selectSnapshots(given, { policy, now: new Date(now) });
      return Object.fromEntries(groups.flatMap(({ kept }) => kept.map(({ snapshot, reasons }) =>
        [snapshot.id, reasons.filter((reason) => !reason.startsWith('one of the newest'))]).filter(([, reasons]) => reasons.length > 0)));
    });
    process.stdout.write(JSON.stringify(outcomes));
  `);
    const input = path.join(tempDir(), 'input.json');
    const given = snapshots.map((snapshot, index) => ({ id: ids[index], ...snapshot }));
    writeFileSync(input, JSON.stringify({ snapshots: given, policies: POLICIES.map(policyOf), now: NEWEST + HOUR }));
    const answer = await run(process.execPath, [program, input], { env: { TZ } });
    expect({ code: answer.code, stderr: answer.stderr }).toEqual({ code: 0, stderr: '' });
    ours = JSON.parse(answer.stdout) as readonly Outcome[];
  });

  const cases = versions.flatMap((which) =>
    POLICIES.map((rules, index) => [which, rules.map((rule) => rule.join(' ')).join(', '), index] as const)
      // 0.14 has no such word.
      .filter(([, name]) => which !== 'resticDebian' || !name.includes('unlimited')),
  );
  test.each(cases)('%s: %s', async (which, _name, index) => {
    const old = which === 'resticDebian';
    const options = (POLICIES[index] ?? []).flatMap(([rule, value]) => [`--${rule}`, value]);
    const { code, stdout, stderr } = await restic(lab()[which], { repo: repository, env: { TZ } }, [
      'forget',
      '--dry-run',
      '--json',
      '--no-lock',
      ...options,
    ]);
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    const groups = JSON.parse(stdout) as {
      readonly keep: readonly { readonly id: string }[] | null;
      readonly remove: readonly { readonly id: string }[] | null;
      readonly reasons: readonly { readonly matches: readonly string[] }[];
    }[];
    const theirs = Object.fromEntries(
      groups.flatMap(({ keep, reasons }) => (keep ?? []).map(({ id }, at) => [id, reasons[at]?.matches])),
    );
    const removed = groups.flatMap(({ remove }) => remove ?? []).length;
    expect(Object.keys(theirs).length + removed).toBe(snapshots.length);
    if (old) expect(theirs).toEqual(asOld(ours[index] ?? {}));
    else expect(theirs).toEqual(ours[index]);
  });
});

/** restic 0.14 does not keep the oldest of all while a rule has some left. */
function asOld(outcome: Outcome): Outcome {
  const reasons = (said: readonly string[]): readonly string[] =>
    said.filter((reason) => !reason.startsWith('oldest '));
  return Object.fromEntries(
    Object.entries(outcome).flatMap(([id, said]) => (reasons(said).length === 0 ? [] : [[id, reasons(said)]])),
  );
}
