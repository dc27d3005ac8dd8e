/** What stands in a quarantine's manifest becomes paths and lines of a terminal, and whoever may write to the storage may have written it. */
import { describe, expect, test } from '@jest/globals';
import {
  isQuarantineId,
  MOST_MANIFEST_BYTES,
  MOST_QUARANTINED,
  parseManifest,
} from '../../src/maintenance/manifest.ts';
import { inQuarantines } from '../../src/maintenance/quarantine.ts';

const ID = '20261126T210000Z-0a1b2c';
const KEY = `.restic-gateway/quarantine/${ID}/manifest.json`;
const NAME = 'ab'.repeat(32);
const OBJECT = {
  key: `data/ab/${NAME}`,
  size: 42,
  arrived: '2026-11-26T20:00:00.123Z',
  session: '20261126T195959Z-0123456789',
};
const GOOD = {
  ...{ v: 1, id: ID, client: 'appsrv', selection: '--since 2h', made: '2026-11-26T21:00:00.000Z' },
  ...{ state: 'quarantined', objects: [OBJECT] },
};
const read = (value: unknown, key = KEY) => parseManifest(JSON.stringify(value), key);

test('what an undo writes is read as it is', () => {
  expect(read(GOOD)).toEqual(GOOD);
  expect(read({ ...GOOD, more: 'of a later version' })).toEqual(GOOD);
});

test('a quarantine of as many objects as it may have, each as long as it may be, is short enough to be read', () => {
  const longest = {
    ...OBJECT,
    size: Number.MAX_SAFE_INTEGER,
    arrived: '2026-11-26T20:00:00.123456789Z',
    session: 's'.repeat(100),
  };
  expect(read({ ...GOOD, objects: [longest] })).toBeDefined();
  const bytes = JSON.stringify({ ...GOOD, selection: 'x'.repeat(300), objects: [] }).length + 1;
  expect(bytes + MOST_QUARANTINED * (JSON.stringify(longest).length + 1)).toBeLessThan(MOST_MANIFEST_BYTES);
});

test('of more objects, an undo makes several, in the same order', () => {
  const objects = Array.from({ length: 2 * MOST_QUARANTINED + 1 }, (_, index) => ({ ...OBJECT, size: index }));
  const parts = inQuarantines(objects);
  expect(parts.map(({ length }) => length)).toEqual([MOST_QUARANTINED, MOST_QUARANTINED, 1]);
  expect(parts.flat().every(({ size }, index) => size === index)).toBe(true);
  expect(inQuarantines([])).toEqual([]);
});

describe('nothing else is', () => {
  test.each<[string, unknown]>([
    ['another version', { ...GOOD, v: 2 }],
    ['an id that leads elsewhere', { ...GOOD, id: '../../other' }],
    ['the id of another quarantine', { ...GOOD, id: '20261126T210000Z-0a1b2d' }],
    ['a client that is no name', { ...GOOD, client: 'a\u001b[2J' }],
    ['a selection that steers a terminal', { ...GOOD, selection: '--since \u009b31m' }],
    ['a selection that turns writing about', { ...GOOD, selection: '--since \u202e2h' }],
    ['a state that there is not', { ...GOOD, state: 'gone' }],
    ['a time that is none', { ...GOOD, made: 'yesterday' }],
    ['no list', { ...GOOD, objects: { length: 1 } }],
    ['no section', [GOOD]],
    ['nothing', null],
    ...[
      { key: '../../../etc/passwd' },
      { key: `data/cd/${NAME}` },
      { key: 'config' },
      { key: 7 },
      { size: -1 },
      { size: 1e300 },
      { size: '42' },
      { arrived: '\u001b]0;x\u0007' },
      { session: 'a b' },
    ].map((change): [string, unknown] => [
      `an object with ${JSON.stringify(change)}`,
      { ...GOOD, objects: [OBJECT, { ...OBJECT, ...change }] },
    ]),
  ])('%s', (_what, value) => {
    expect(read(value)).toBeUndefined();
  });

  test('text that is no JSON', () => {
    expect(parseManifest('{"v":1', KEY)).toBeUndefined();
  });
});

test.each([
  [ID, true],
  ['../x', false],
  ['----', false],
  [`${ID}/..`, false],
  [`${ID}\n`, false],
])('as an id, %j: %s', (id, good) => {
  expect(isQuarantineId(id)).toBe(good);
});
