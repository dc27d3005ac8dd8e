/** Names of objects and their keys in storage: what is a name, where each object lies, and that there is one way there and back. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  NAMED_TYPES,
  objectKey,
  parseNamedType,
  parseObjectKey,
  parseObjectName,
  SIZE_LIMITS,
  type ObjectName,
} from '../../src/core/object.ts';

const NAME = 'ab'.repeat(32) as ObjectName;

describe('names', () => {
  test.each([NAME, '0'.repeat(64), 'f'.repeat(64), '0123456789abcdef'.repeat(4)])('%s', (name) => {
    expect(parseObjectName(name)).toBe(name);
  });

  test.each([
    ['empty', ''],
    ['63 digits', 'a'.repeat(63)],
    ['65 digits', 'a'.repeat(65)],
    ['upper case', 'A'.repeat(64)],
    ['one letter in upper case', `${'a'.repeat(63)}A`],
    ['a letter beyond f', `${'a'.repeat(63)}g`],
    ['a line end after it', `${NAME}\n`],
    ['a line end in place of a digit', `${'a'.repeat(63)}\n`],
    ['blanks around it', ` ${NAME} `],
    ['a prefix', `0x${'a'.repeat(62)}`],
    ['a slash', `${'a'.repeat(31)}/${'a'.repeat(32)}`],
    ['dots', '.'.repeat(64)],
    ['a NUL after it', `${NAME}\0`],
    ['full-width digits', '０'.repeat(64)],
    ['Cyrillic а', 'а'.repeat(64)],
    ['two names', `${NAME}${NAME}`],
  ])('refuses %s', (_name, text) => {
    expect(parseObjectName(text)).toBeUndefined();
  });
});

describe('types', () => {
  test.each(NAMED_TYPES)('%s', (type) => {
    expect(parseNamedType(type)).toBe(type);
  });
  test.each(['', 'config', 'Data', 'data/', 'tmp', 'constructor', '__proto__', 'length', '0'])('refuses %j', (text) => {
    expect(parseNamedType(text)).toBeUndefined();
  });
});

describe("keys are those of restic's default layout", () => {
  const table = [
    [{ type: 'config' }, 'config'],
    [{ type: 'data', name: NAME }, `data/ab/${NAME}`],
    [{ type: 'index', name: NAME }, `index/${NAME}`],
    [{ type: 'keys', name: NAME }, `keys/${NAME}`],
    [{ type: 'locks', name: NAME }, `locks/${NAME}`],
    [{ type: 'snapshots', name: NAME }, `snapshots/${NAME}`],
  ] as const;

  test.each(table)('%j is at %s, and is found there', (ref, key) => {
    expect(objectKey(ref)).toBe(key);
    expect(parseObjectKey(key)).toEqual(ref);
  });

  test('the table has every type', () => {
    expect(table.map(([ref]) => ref.type)).toEqual(['config', ...NAMED_TYPES]);
    expect(Object.keys(SIZE_LIMITS).sort()).toEqual(['config', ...NAMED_TYPES].sort());
  });

  test.each([
    '',
    '/config',
    'config/',
    `config/${NAME}`,
    'Config',
    `data/${NAME}`,
    `data/cd/${NAME}`,
    `data/ab/cd/${NAME}`,
    `data/ab/${NAME}/`,
    `data//${NAME}`,
    `index/ab/${NAME}`,
    `index/${NAME}x`,
    `index/../${NAME}`,
    `index//${NAME}`,
    `/index/${NAME}`,
    `tmp/${NAME}`,
    `keys/${NAME.toUpperCase()}`,
    'keys/',
    'keys',
    `.restic-gateway/${NAME}`,
    'README',
  ])('%j is not an object of restic', (key) => {
    expect(parseObjectKey(key)).toBeUndefined();
  });
});

describe('whatever the text', () => {
  const names = fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdef')), minLength: 64, maxLength: 64 });
  const pieces = fc.constantFrom(...NAMED_TYPES, 'config', NAME, 'ab', '/', '..', '.', '', 'A', '\n');

  test('a key is read as an object only if that object lies at this key', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
          fc.string(),
        ),
        (key) => {
          const ref = parseObjectKey(key);
          if (ref !== undefined) expect(objectKey(ref)).toBe(key);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('every object is found at its key, and no two lie at the same', () => {
    const refs = fc.record({ type: fc.constantFrom(...NAMED_TYPES), name: names.map((name) => name as ObjectName) });
    fc.assert(
      fc.property(refs, refs, (one, other) => {
        expect(parseObjectName(one.name)).toBe(one.name);
        expect(parseObjectKey(objectKey(one))).toEqual(one);
        expect(objectKey(one) === objectKey(other)).toBe(one.type === other.type && one.name === other.name);
      }),
    );
  });
});
