/** The table of errors: the status of each, and that no word to a client says more than it should. */
import { describe, expect, test } from '@jest/globals';
import { asGatewayError, ERROR_TABLE, GatewayError, isGatewayError, type ErrorCode } from '../../src/core/errors.ts';

const CODES = Object.keys(ERROR_TABLE) as ErrorCode[];

describe('the table', () => {
  test('has these statuses, on which restic acts', () => {
    const statuses = Object.fromEntries(CODES.map((code) => [code, ERROR_TABLE[code].status]));
    expect(statuses).toEqual({
      'invalid-request': 400,
      'content-mismatch': 400,
      'incomplete-upload': 400,
      'client-gone': 400,
      denied: 403,
      'already-exists': 403,
      'session-refused': 403,
      retained: 403,
      protected: 403,
      'too-many-locks': 403,
      'held-by-admin': 423,
      'not-found': 404,
      'method-not-allowed': 405,
      'length-required': 411,
      'too-large': 413,
      'range-not-satisfiable': 416,
      'too-many-requests': 429,
      'too-many-objects': 429,
      'too-many-failures': 429,
      'invalid-config': 500,
      usage: 500,
      internal: 500,
      'store-failed': 502,
      'store-lost': 502,
      'store-misconfigured': 502,
      'store-unavailable': 503,
      'audit-unavailable': 503,
      'state-unavailable': 503,
      'shutting-down': 503,
      'store-timeout': 504,
      'store-full': 507,
      'quota-exceeded': 507,
      'store-unsafe': 507,
    });
  });

  test('a failure of the storage is never one of the client, and never "not there"', () => {
    const store = CODES.filter((code) => code.startsWith('store-'));
    expect(store).toHaveLength(7);
    for (const code of store) expect(ERROR_TABLE[code].status).toBeGreaterThanOrEqual(500);
  });

  test.each(CODES)('%s is told in one plain line', (code) => {
    expect(ERROR_TABLE[code].clientMessage).toMatch(/^[A-Za-z0-9 ,;'-]{15,100}$/);
  });

  test('no two are told alike', () => {
    expect(new Set(CODES.map((code) => ERROR_TABLE[code].clientMessage)).size).toBe(CODES.length);
  });
});

describe('an error', () => {
  test.each(CODES)('%s has its status and line from the table, whatever its detail', (code) => {
    const error = new GatewayError(code, { detail: 'PUT https://s3.example.com/databucket: AccessDenied' });
    expect(error).toMatchObject({
      code,
      status: ERROR_TABLE[code].status,
      clientMessage: ERROR_TABLE[code].clientMessage,
    });
    expect(error.clientMessage).not.toContain('databucket');
    expect(error.message).toBe('PUT https://s3.example.com/databucket: AccessDenied');
  });

  test('without a detail its message is the line, and without a cause it has none', () => {
    const error = new GatewayError('store-full');
    expect(error.message).toBe(ERROR_TABLE['store-full'].clientMessage);
    expect('cause' in error).toBe(false);
    expect(error.name).toBe('GatewayError');
    expect(error).toBeInstanceOf(Error);
  });

  test('keeps its cause', () => {
    const cause = new Error('ECONNRESET');
    expect(new GatewayError('store-failed', { cause }).cause).toBe(cause);
  });

  test('is known by its code', () => {
    expect(isGatewayError(new GatewayError('not-found'), 'not-found')).toBe(true);
    expect(isGatewayError(new GatewayError('store-failed'), 'not-found')).toBe(false);
    expect(isGatewayError({ code: 'not-found', status: 404 }, 'not-found')).toBe(false);
    expect(isGatewayError(undefined, 'not-found')).toBe(false);
  });
});

describe('whatever is thrown', () => {
  test('a GatewayError stays itself', () => {
    const error = new GatewayError('denied');
    expect(asGatewayError(error)).toBe(error);
  });

  test.each<[string, unknown, string]>([
    ['an error', new TypeError('x is not a function'), 'x is not a function'],
    ['a string', 'oops', 'oops'],
    ['nothing', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a number', 404, '404'],
    // What looks like a "not there" of a library must not become one of ours.
    ['an object with a code', Object.assign(new Error('NoSuchKey'), { code: 'not-found', status: 404 }), 'NoSuchKey'],
  ])('%s becomes an internal failure that keeps it', (_name, thrown, message) => {
    expect(asGatewayError(thrown)).toMatchObject({ code: 'internal', status: 500, message });
    expect(asGatewayError(thrown).cause).toBe(thrown);
    expect(asGatewayError(thrown).clientMessage).toBe('the gateway failed; its audit says why');
  });
});
