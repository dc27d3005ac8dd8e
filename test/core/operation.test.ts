/** Requests: for every method on every path the one operation that it stands for, or how it is refused. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { GatewayError, type ErrorCode } from '../../src/core/errors.ts';
import { NAMED_TYPES, objectKey, parseObjectKey, type NamedType, type ObjectName } from '../../src/core/object.ts';
import {
  LIST_V1_TYPE,
  LIST_V2_TYPE,
  MethodNotAllowed,
  parseOperation,
  resolveRange,
  type Operation,
  type RequestHead,
} from '../../src/core/operation.ts';

const NAME = '0123456789abcdef'.repeat(4) as ObjectName;

/** The operation, or the code it was refused with and, for a wrong method, those that are allowed. */
function outcome(head: RequestHead): Operation | ErrorCode | `405 ${string}` {
  try {
    return parseOperation(head);
  } catch (error) {
    if (error instanceof MethodNotAllowed) {
      expect(error.status).toBe(405);
      return `405 ${error.allow}`;
    }
    expect(error).toBeInstanceOf(GatewayError);
    return (error as GatewayError).code;
  }
}

const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'DELETE',
  'PUT',
  'PATCH',
  'OPTIONS',
  'TRACE',
  'CONNECT',
  'get',
  'Post',
  'DELETE ',
  '',
];

describe('every method on every path that there is', () => {
  const objects = 'DELETE, GET, HEAD, POST';
  const paths: [path: string, allow: string, Record<string, Operation | ErrorCode>][] = [
    ['/?create=true', 'POST', { POST: { kind: 'create-repository' } }],
    ['/', 'POST', { POST: 'invalid-request' }],
    ['/file-0', 'GET, HEAD', { GET: { kind: 'greet' }, HEAD: { kind: 'greet' } }],
    ['/file-18446744073709551615', 'GET, HEAD', { GET: { kind: 'greet' }, HEAD: { kind: 'greet' } }],
    [
      '/config',
      objects,
      {
        GET: { kind: 'load', ref: { type: 'config' } },
        HEAD: { kind: 'stat', ref: { type: 'config' } },
        POST: { kind: 'save', ref: { type: 'config' }, size: 5 },
        DELETE: { kind: 'remove', ref: { type: 'config' } },
      },
    ],
    ...NAMED_TYPES.flatMap((type): [string, string, Record<string, Operation>][] => {
      const ref = { type, name: NAME };
      return [
        [`/${type}/`, 'GET', { GET: { kind: 'list', type, version: 1 } }],
        [
          `/${type}/${NAME}`,
          objects,
          {
            GET: { kind: 'load', ref },
            HEAD: { kind: 'stat', ref },
            POST: { kind: 'save', ref, size: 5 },
            DELETE: { kind: 'remove', ref },
          },
        ],
      ];
    }),
  ];
  const cases = paths.flatMap(([path, allow, byMethod]) =>
    METHODS.map((method) => [method, path, byMethod[method] ?? (`405 ${allow}` as const)] as const),
  );

  test('the table is whole', () => {
    expect(paths).toHaveLength(5 + 2 * 5);
    expect(cases).toHaveLength(15 * 13);
  });

  test.each(cases)('%j %s', (method, path, expected) => {
    expect(outcome({ method, path, contentLength: '5' })).toEqual(expected);
  });
});

describe('every other path, by any method', () => {
  const paths = [
    // Not of this world.
    '',
    '*',
    ' ',
    'config',
    '//',
    '/x',
    '/index.html',
    'http://gateway/config',
    '/file-',
    '/file-x',
    '/file--1',
    '/file-123456789012345678901',
    '/file-1/',
    '/file-1?x',
    '/file-١',
    // Queries and fragments.
    '/?create=false',
    '/?create=true&x=1',
    '/?x=1&create=true',
    '/?CREATE=true',
    '/?create=True',
    '/?create=true#',
    '/?',
    '//?create=true',
    '/repo/?create=true',
    '/config?',
    '/config?create=true',
    '/config#',
    `/data/${NAME}?x`,
    `/data/${NAME};x`,
    '/data/?create=true',
    // Slashes and dots.
    '/config/',
    '//config',
    '/./config',
    '/../config',
    '/config/.',
    '/data/../config',
    '/data/./',
    '/data/..',
    '/data//',
    `/data//${NAME}`,
    `//data/${NAME}`,
    `/data/${NAME}/`,
    `/data/${NAME}/..`,
    `/data/../keys/${NAME}`,
    `/test/../data/${NAME}`,
    `/other/data/${NAME}`,
    `/data/01/${NAME}`,
    '/data',
    '/..',
    '/.',
    `\\data\\${NAME}`,
    `/data\\${NAME}`,
    // Encodings of what would be right.
    '/%63onfig',
    '/config%00',
    '/config%2f',
    '/data%2f',
    `/data%2F${NAME}`,
    `/data/%2e%2e/keys/${NAME}`,
    '/%2e%2e/config',
    `/data/${NAME.replace('0', '%30')}`,
    `/data/${NAME}%20`,
    `/data/${NAME}+`,
    `/data/%252e`,
    // Names that are nearly right.
    `/data/ ${NAME.slice(1)}`,
    `/data/${NAME}\n`,
    `/data/${NAME}\0`,
    `/config\n`,
    '/config ',
    '\n/config',
    '/data/\n',
    // Types that are nearly right.
    '/Config',
    '/CONFIG',
    `/Data/${NAME}`,
    `/datas/${NAME}`,
    `/key/${NAME}`,
    `/lock/${NAME}`,
    '/tmp/',
    `/constructor/${NAME}`,
    `/__proto__/${NAME}`,
    `/config/${NAME}`,
    `/.restic-gateway/${NAME}`,
    // Look-alikes: Cyrillic а and о, a full-width slash, letters, dot leader, zero-width space, a ligature.
    '/cоnfig',
    `/dаta/${NAME}`,
    `／data/${NAME}`,
    `/data／${NAME}`,
    `/data/${NAME.replace('a', 'а')}`,
    `/data/${NAME.replace('0', '０')}`,
    '/con\u200bfig',
    '/conﬁg',
    '/‥/config',
    `/ｄａｔａ/${NAME}`,
    '/\ufeffconfig',
    // Long.
    `/data/${NAME.repeat(1000)}`,
    `/${'../'.repeat(1000)}etc/passwd`,
  ];

  test('no path is in the table twice', () => {
    expect(new Set(paths).size).toBe(paths.length);
  });

  test.each(paths.map((path) => [path.length > 100 ? `${path.slice(0, 40)}… (${path.length})` : path, path]))(
    '%j',
    (_name, path) => {
      for (const method of METHODS)
        expect([method, outcome({ method, path, contentLength: '5' })]).toEqual([method, 'invalid-request']);
    },
  );
});

/**
 * restic's own tests ask for `/data/foobar`, and from 0.17 on restic waits 15 minutes for a 400 to pass.
 */
describe('a plain name that no object has', () => {
  test.each([
    '/data/foobar',
    '/keys/x',
    '/locks/__proto__',
    `/data/${NAME.slice(1)}`,
    `/index/${NAME}0`,
    `/data/${NAME.toUpperCase()}`,
    `/snapshots/${NAME.replace('f', 'g')}`,
    `/data/${'n'.repeat(255)}`,
  ])('%s: not there to whoever reads, invalid to whoever writes', (path) => {
    expect(METHODS.map((method) => [method, outcome({ method, path, contentLength: '5' })])).toEqual(
      METHODS.map((method) => [method, method === 'GET' || method === 'HEAD' ? 'not-found' : 'invalid-request']),
    );
  });
});

describe('the answer to a list', () => {
  const v2 = { kind: 'list', type: 'keys', version: 2 };
  const v1 = { kind: 'list', type: 'keys', version: 1 };
  test.each<[string | undefined, object]>([
    [LIST_V2_TYPE, v2],
    [LIST_V2_TYPE.toUpperCase(), v2],
    [`${LIST_V2_TYPE};q=0.9`, v2],
    [` ${LIST_V2_TYPE} `, v2],
    [`${LIST_V1_TYPE}, ${LIST_V2_TYPE}`, v2],
    [`text/html,${LIST_V2_TYPE} ; q=1`, v2],
    [undefined, v1],
    ['', v1],
    ['*/*', v1],
    [LIST_V1_TYPE, v1],
    [`${LIST_V2_TYPE}0`, v1],
    [`x${LIST_V2_TYPE}`, v1],
    ['application/vnd.x.restic.rest.v3', v1],
    [',;,', v1],
  ])('%j', (accept, expected) => {
    expect(outcome({ method: 'GET', path: '/keys/', accept })).toEqual(expected);
  });
});

describe('ranges', () => {
  const load = (range: string | undefined): unknown => outcome({ method: 'GET', path: '/config', range });

  test.each<[string | undefined, object | undefined]>([
    [undefined, undefined],
    ['bytes=0-', { first: 0 }],
    ['bytes=5-', { first: 5 }],
    ['bytes=0-0', { first: 0, last: 0 }],
    ['bytes=0-499', { first: 0, last: 499 }],
    ['bytes=00-007', { first: 0, last: 7 }],
    ['bytes=999999999999999-999999999999999', { first: 999999999999999, last: 999999999999999 }],
  ])('%j', (header, range) => {
    expect(load(header)).toEqual({ kind: 'load', ref: { type: 'config' }, ...(range && { range }) });
  });

  test.each([
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=-5',
    'bytes=5',
    'bytes=5-4',
    'bytes=a-b',
    'bytes=0-1,2-3',
    'bytes=0-,5-',
    'bytes=0-1, ',
    'bytes = 0-1',
    'bytes= 0-1',
    'bytes=0 - 1',
    'bytes=0-1 ',
    ' bytes=0-1',
    'bytes=0-1\n',
    'bytes=+0-1',
    'bytes=-1-5',
    'bytes=0--1',
    'bytes=0.5-1',
    'bytes=0x0-0x1',
    'bytes=1e3-',
    'bytes=0-1e3',
    'bytes=1000000000000000-',
    'bytes=0-1000000000000000',
    'bytes=99999999999999999999-',
    'BYTES=0-1',
    'items=0-1',
    '0-1',
    'none',
    'bytes=٠-١',
    'bytes=0-1/2',
    'bytes 0-1/2',
  ])('refuses %j, and never answers with the whole', (header) => {
    expect(load(header)).toBe('range-not-satisfiable');
  });

  test('on anything but a load, a range means nothing (RFC 9110, 14.2)', () => {
    const range = 'bytes=5-4';
    expect(outcome({ method: 'HEAD', path: '/config', range })).toEqual({ kind: 'stat', ref: { type: 'config' } });
    expect(outcome({ method: 'GET', path: '/keys/', range })).toEqual({ kind: 'list', type: 'keys', version: 1 });
    expect(outcome({ method: 'POST', path: '/config', range, contentLength: '1' })).toMatchObject({ kind: 'save' });
  });

  test.each([
    // first, last, size → first, length
    [0, undefined, 10, 0, 10],
    [0, 9, 10, 0, 10],
    [0, 0, 10, 0, 1],
    [9, 9, 10, 9, 1],
    [9, undefined, 10, 9, 1],
    [3, 5, 10, 3, 3],
    [3, 10, 10, 3, 7],
    [3, 999_999_999_999_999, 10, 3, 7],
    [0, undefined, 1, 0, 1],
  ])('%d-%d of %d bytes begins at %d and has %d', (first, last, size, begins, length) => {
    const range = last === undefined ? { first } : { first, last };
    expect(resolveRange(range, size)).toEqual({ first: begins, length });
  });

  test.each([
    [10, undefined, 10],
    [10, 20, 10],
    [11, undefined, 10],
    [999_999_999_999_999, undefined, 10],
  ])('%d-%d of %d bytes is not satisfiable', (first, last, size) => {
    const range = last === undefined ? { first } : { first, last };
    expect(() => resolveRange(range, size)).toThrow(
      expect.objectContaining({ code: 'range-not-satisfiable', status: 416 }),
    );
  });

  test('what a range covers is what a slice of the content is', () => {
    const content = Buffer.from(Array.from({ length: 50 }, (_, index) => index));
    fc.assert(
      fc.property(fc.nat({ max: 60 }), fc.option(fc.nat({ max: 60 })), fc.nat({ max: 50 }), (first, extra, size) => {
        const whole = content.subarray(0, size);
        const last = extra === null ? undefined : first + extra;
        const slice = whole.subarray(first, last === undefined ? undefined : last + 1);
        const range = last === undefined ? { first } : { first, last };
        if (size === 0) expect(resolveRange(range, 0)).toEqual({ first: 0, length: 0 });
        else if (slice.length === 0) expect(() => resolveRange(range, size)).toThrow(GatewayError);
        else {
          const part = resolveRange(range, size);
          expect(whole.subarray(part.first, part.first + part.length)).toEqual(slice);
        }
      }),
    );
  });
});

describe('the length of an upload', () => {
  const save = (headers: Partial<RequestHead>): unknown => outcome({ method: 'POST', path: '/config', ...headers });

  test.each([
    ['0', 0],
    ['1', 1],
    ['007', 7],
    ['16777216', 16_777_216],
    ['999999999999999', 999_999_999_999_999],
  ])('%s', (contentLength, size) => {
    expect(save({ contentLength })).toEqual({ kind: 'save', ref: { type: 'config' }, size });
    expect(save({ contentLength, contentEncoding: 'identity' })).toMatchObject({ size });
  });

  test.each([
    '',
    '-1',
    '+1',
    '1.0',
    '1e3',
    '0x10',
    '5, 5',
    ' 5',
    '5 ',
    '5\n',
    '1000000000000000',
    'NaN',
    '٥',
    'chunked',
  ])('refuses %j', (contentLength) => {
    expect(save({ contentLength })).toBe('invalid-request');
  });

  test('must be declared', () => {
    expect(save({})).toBe('length-required');
  });

  test.each(['gzip', 'Identity', '', 'identity, gzip', 'aws-chunked'])(
    'an upload encoded as %j is refused',
    (contentEncoding) => {
      expect(save({ contentLength: '5', contentEncoding })).toBe('invalid-request');
    },
  );

  test('means nothing on other operations', () => {
    expect(outcome({ method: 'GET', path: '/config', contentLength: 'x', contentEncoding: 'gzip' })).toMatchObject({
      kind: 'load',
    });
  });
});

describe('whatever the request', () => {
  /** The one path of an operation, written from what it says. */
  function pathOf(operation: Operation): RegExp | string {
    switch (operation.kind) {
      case 'greet':
        return /^\/file-\d+$/;
      case 'create-repository':
        return '/?create=true';
      case 'list':
        return `/${operation.type}/`;
      case 'stat':
      case 'load':
      case 'save':
      case 'remove': {
        const { ref } = operation;
        return ref.type === 'config' ? '/config' : `/${ref.type}/${ref.name}`;
      }
    }
  }

  const pieces = [
    '/',
    'config',
    ...NAMED_TYPES,
    NAME,
    'file-',
    '12',
    '?create=true',
    '..',
    '.',
    '%2e',
    'A',
    '\n',
    '\0',
    'é',
  ];
  const paths = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(fc.constantFrom(...pieces), { maxLength: 6 }).map((parts) => parts.join('')),
    // An object's path with one place changed.
    fc
      .tuple(
        fc.constantFrom<NamedType>(...NAMED_TYPES),
        fc.nat({ max: 72 }),
        fc.string({ maxLength: 1 }),
        fc.nat({ max: 1 }),
      )
      .map(([type, at, put, gone]) => {
        const path = `/${type}/${NAME}`;
        return path.slice(0, at) + put + path.slice(at + gone);
      }),
  );
  const values = fc.option(
    fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('5', 'bytes=0-', 'bytes=3-4', 'identity', LIST_V2_TYPE)),
    { nil: undefined },
  );
  const heads: fc.Arbitrary<RequestHead> = fc.record({
    method: fc.oneof(fc.constantFrom(...METHODS), fc.string()),
    path: paths,
    range: values,
    accept: values,
    contentLength: fc.oneof(fc.constant('5'), values),
    contentEncoding: fc.oneof(fc.constant(undefined), values),
  });

  test('only the five refusals are thrown; an operation has exactly the path that it was asked by, and one object', () => {
    const refusals = ['invalid-request', 'not-found', 'length-required', 'range-not-satisfiable'];
    let understood = 0;
    fc.assert(
      fc.property(heads, (head) => {
        const result = outcome(head);
        if (typeof result === 'string') {
          expect(result.startsWith('405 ') || refusals.includes(result)).toBe(true);
          return;
        }
        understood++;
        const path = pathOf(result);
        if (typeof path === 'string') expect(head.path).toBe(path);
        else expect(head.path).toMatch(path);
        if ('ref' in result) expect(parseObjectKey(objectKey(result.ref))).toEqual(result.ref);
        if ('size' in result) expect(Number.isSafeInteger(result.size) && result.size >= 0).toBe(true);
        if ('range' in result) {
          expect(Number.isSafeInteger(result.range.first)).toBe(true);
          expect(result.range.last ?? Number.MAX_SAFE_INTEGER).toBeGreaterThanOrEqual(result.range.first);
        }
      }),
      { numRuns: 5000 },
    );
    expect(understood).toBeGreaterThan(0);
  });
});
