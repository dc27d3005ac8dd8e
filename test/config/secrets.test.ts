/** A secret comes from a place that nobody else can read, and what is wrong with it is told without a letter of it. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readSecret, readToken } from '../../src/config/secrets.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { asNobody } from './samples.ts';

const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'secret-'));
  chmodSync(root, 0o755);
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

function write(name: string, content: string | Buffer, mode = 0o600): string {
  const file = join(root, name);
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

function refusal(read: () => string): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    expect((error as GatewayError).code).toBe('invalid-config');
    return (error as GatewayError).message;
  }
  throw new Error('was accepted');
}

describe('a file', () => {
  test.each([
    ['of the secret alone', SECRET],
    ['with a line end', `${SECRET}\n`],
    ['with the line end of Windows', `${SECRET}\r\n`],
  ])('%s', (_name, content) => {
    expect(readSecret({ file: write('good', content) })).toBe(SECRET);
  });

  test.each([0o600, 0o400, 0o700])('of mode %o', (mode) => {
    expect(readSecret({ file: write('mode', SECRET, mode) })).toBe(SECRET);
  });

  test.each([
    [0o640, '0640'],
    [0o644, '0644'],
    [0o604, '0604'],
    [0o620, '0620'],
    [0o602, '0602'],
    [0o610, '0610'],
    [0o666, '0666'],
    [0o440, '0440'],
  ])('of mode %o is refused, with what to do', (mode, shown) => {
    const file = write('open', SECRET, mode);
    expect(refusal(() => readSecret({ file }))).toBe(
      `${file}: others than its owner can use this secret (mode ${shown}); run: chmod 600 ${file}`,
    );
  });

  test('that is a link is judged by what it leads to', () => {
    const link = join(root, 'link');
    symlinkSync(write('target', SECRET, 0o644), link);
    expect(refusal(() => readSecret({ file: link }))).toContain('(mode 0644)');
    chmodSync(join(root, 'target'), 0o600);
    expect(readSecret({ file: link })).toBe(SECRET);
  });

  test('whose name is the key itself is not named', () => {
    for (const file of [join(root, SECRET), SECRET]) {
      const said = refusal(() => readSecret({ file }));
      expect(said).toMatch(/looks like a key itself: write the key into a file/);
      expect(said).not.toContain(SECRET.slice(0, 8));
    }
    expect(refusal(() => readSecret({ file: join(root, 'secret') }))).toContain(
      `${root}/secret: there is no such file`,
    );
  });

  const several = 'holds several lines; it must hold the secret access key alone';
  const bytes = 'holds spaces or bytes that no secret access key has; it must hold the key alone';
  const empty = 'is empty; it must hold the secret access key';
  test.each<[string, string | Buffer, string]>([
    ['empty', '', empty],
    ['a line end alone', '\n', empty],
    ['two lines', `${SECRET}\n${SECRET}\n`, several],
    ['an empty line after it', `${SECRET}\n\n`, several],
    ['an id and a secret', `AKIA ${SECRET}`, bytes],
    ['a setting', `secret = ${SECRET}`, bytes],
    ['a blank after it', `${SECRET} `, bytes],
    ['a tab', `${SECRET}\t`, bytes],
    ['a byte order mark', `\ufeff${SECRET}`, bytes],
    ['UTF-16', Buffer.from(SECRET, 'utf16le'), bytes],
    ['a NUL', `${SECRET}\0`, bytes],
    ['random bytes', Buffer.from([0xff, 0xfe, 0x80, 0x81, 0x90]), bytes],
    ['far too much', 'x'.repeat(4097), 'is too long for a secret (over 4096 bytes)'],
  ])('%s', (_name, content, problem) => {
    const file = write('wrong', content);
    expect(refusal(() => readSecret({ file }))).toBe(`${file}: ${problem}`);
  });

  test('that is not there', () => {
    const file = join(root, 'none');
    expect(refusal(() => readSecret({ file }))).toBe(`${file}: there is no such file`);
  });

  test('under a file as if that were a directory', () => {
    const file = join(write('good', SECRET), 'secret');
    expect(refusal(() => readSecret({ file }))).toBe(`${file}: there is no such file`);
  });

  test('that is a directory', () => {
    const file = join(root, 'directory');
    mkdirSync(file);
    expect(refusal(() => readSecret({ file }))).toBe(`${file}: this is a directory; name the file in it`);
  });

  test('that is a pipe, which nobody will ever write to', () => {
    const file = join(root, 'pipe');
    execFileSync('mkfifo', ['-m', '600', file]);
    expect(refusal(() => readSecret({ file }))).toBe(`${file}: this is not a regular file`);
  });

  test('that is a device', () => {
    expect(refusal(() => readSecret({ file: '/dev/zero' }))).toBe('/dev/zero: this is not a regular file');
  });

  test('that this user may not read', () => {
    const file = write('locked', SECRET, 0o000);
    const message = asNobody(() => refusal(() => readSecret({ file })));
    expect(message).toMatch(
      /: the user \S+ \(uid \d+\) may not read this file; change its owner or mode, or run as another user$/,
    );
  });
});

describe('a variable', () => {
  const read = (value: string | undefined): string =>
    readSecret({ variable: 'S3_SECRET' }, value === undefined ? {} : { S3_SECRET: value });

  test('holds the secret', () => {
    expect(read(SECRET)).toBe(SECRET);
  });

  test.each<[string, string | undefined, string]>([
    ['not set', undefined, 'the environment variable S3_SECRET is not set'],
    ['empty', '', 'the environment variable S3_SECRET: is empty; it must hold the secret access key'],
    [
      'two lines',
      `${SECRET}\n${SECRET}`,
      'the environment variable S3_SECRET: holds several lines; it must hold the secret access key alone',
    ],
    [
      'blanks',
      ` ${SECRET}`,
      'the environment variable S3_SECRET: holds spaces or bytes that no secret access key has; it must hold the key alone',
    ],
  ])('%s', (_name, value, problem) => {
    expect(refusal(() => read(value))).toBe(problem);
  });

  test('is never one that every object has', () => {
    expect(refusal(() => readSecret({ variable: 'constructor' }, {}))).toBe(
      'the environment variable constructor is not set',
    );
  });

  test('is taken from the environment of the process by default', () => {
    process.env['RESTIC_GATEWAY_TEST_SECRET'] = SECRET;
    expect(readSecret({ variable: 'RESTIC_GATEWAY_TEST_SECRET' })).toBe(SECRET);
    delete process.env['RESTIC_GATEWAY_TEST_SECRET'];
  });

  test('whatever it holds: it comes out as it is, or nothing of it is told', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 8 }), (value) => {
        let secret;
        try {
          secret = read(value);
        } catch (error) {
          expect(error).toBeInstanceOf(GatewayError);
          expect((error as GatewayError).message).not.toContain(value);
          return;
        }
        expect(secret).toBe(value.replace(/\r?\n$/, ''));
      }),
      { numRuns: 1000 },
    );
  });
});

test('a token is told apart from a key, and must not be one that can be guessed', () => {
  expect(readToken({ file: write('token', 'x'.repeat(16)) })).toBe('x'.repeat(16));
  const short = write('short', 'x'.repeat(15));
  expect(refusal(() => readToken({ file: short }))).toBe(
    `${short}: is too short for a token (under 16 characters); make one with: openssl rand -hex 32`,
  );
  const words = write('words', 'two words');
  expect(refusal(() => readToken({ file: words }))).toBe(
    `${words}: holds spaces or bytes that no token has; it must hold the token alone`,
  );
  expect(refusal(() => readToken({ file: write('open', 'x'.repeat(32), 0o644) }))).toContain('chmod 600');
});
