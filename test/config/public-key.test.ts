/** A client is known by its key alone: what is no whole ssh-ed25519 public key is refused, with words that help and give nothing away. */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parsePublicKey } from '../../src/config/public-key.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { keyLine } from './samples.ts';

const [, BLOB = ''] = keyLine(1).split(' ');

/** A key in wire format, base64, from strings and numbers of zero bytes. */
function wire(...parts: readonly (string | number)[]): string {
  const strings = parts.map((part) => {
    const bytes = typeof part === 'number' ? Buffer.alloc(part) : Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return Buffer.concat(strings).toString('base64');
}

function refusal(line: string): string {
  try {
    parsePublicKey(line);
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    expect((error as GatewayError).code).toBe('invalid-config');
    return (error as GatewayError).message;
  }
  throw new Error('was accepted');
}

describe('a key that is right', () => {
  test('is taken apart', () => {
    expect(parsePublicKey(keyLine(1, 'app server, 2021'))).toEqual({
      type: 'ssh-ed25519',
      blob: BLOB,
      fingerprint: expect.stringMatching(/^SHA256:[A-Za-z0-9+/]{43}$/),
      comment: 'app server, 2021',
    });
  });

  test.each([
    ['without a comment', `ssh-ed25519 ${BLOB}`, ''],
    ['with blanks around it', `  ssh-ed25519 ${BLOB} a \n`, 'a'],
    ['with tabs between the parts', `ssh-ed25519\t${BLOB}\ta`, 'a'],
    ['with a comment of many words', `ssh-ed25519 ${BLOB}  a  b`, 'a b'],
    ['with a comment in letters beyond ASCII', `ssh-ed25519 ${BLOB} Zoë @ Köln`, 'Zoë @ Köln'],
  ])('%s', (_name, line, comment) => {
    expect(parsePublicKey(line)).toMatchObject({ blob: BLOB, comment });
  });
});

describe('against ssh-keygen', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'key-'));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  test('the fingerprint of a key that it made is the one that it prints', () => {
    const file = join(directory, 'id');
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'made here', '-f', file]);
    const key = parsePublicKey(readFileSync(`${file}.pub`, 'utf8'));
    const printed = execFileSync('ssh-keygen', ['-l', '-f', `${file}.pub`], { encoding: 'utf8' });
    expect(printed).toBe(`256 ${key.fingerprint} made here (ED25519)\n`);
  });

  test('what is taken here is taken there, with the same fingerprint', () => {
    const file = join(directory, 'any.pub');
    for (let round = 0; round < 5; round++) {
      const { publicKey } = generateKeyPairSync('ed25519');
      const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
      const blob = Buffer.concat([Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0\x20', 'latin1'), raw]).toString('base64');
      writeFileSync(file, `ssh-ed25519 ${blob}\n`);
      const printed = execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' });
      expect(printed.split(' ')[1]).toBe(parsePublicKey(`ssh-ed25519 ${blob}`).fingerprint);
    }
  });

  test.each(['rsa', 'ecdsa'])('a private key of type %s is recognised, and nothing of it is repeated', (type) => {
    const file = join(directory, type);
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', file]);
    const text = readFileSync(file, 'utf8');
    const message = refusal(text);
    expect(message).toMatch(/^this is a PRIVATE key: delete it here/);
    for (const line of text.split('\n').filter((each) => each.length > 8)) expect(message).not.toContain(line);
  });
});

describe('a key that is not right', () => {
  const damaged = 'the key is cut off or damaged; paste the whole line of the .pub file';
  const otherInside =
    'the line says ssh-ed25519, but the key in it is of another type; paste the whole line of the .pub file';
  const notAKey = 'not a public key; paste the one line of a .pub file, which begins with ssh-ed25519';
  const privateKey =
    'this is a PRIVATE key: delete it here, consider it disclosed and make a new one; what belongs here is the line of its .pub file';
  const utf16 =
    'the key is not UTF-8 text: > in Windows PowerShell writes UTF-16; convert its file: iconv -f UTF-16 -t UTF-8 FILE';
  const special =
    'there is a no-break or another special space in the key, as web pages and chats put them; type plain spaces';
  const quoted = 'there are quotes around the key itself; begin the line with ssh-ed25519';
  const make = 'make one with: ssh-keygen -t ed25519';

  test.each([
    ['nothing', '', notAKey],
    ['words', 'my key', notAKey],
    ['a fingerprint', 'SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQbaodk4r4Cn3Lj1s', notAKey],
    [
      'an RFC 4716 file',
      '---- BEGIN SSH2 PUBLIC KEY ----\nComment: "a"\nAAAA',
      'this is a public key in the format of RFC 4716; convert it: ssh-keygen -i -f FILE',
    ],
    [
      'a PEM file',
      '-----BEGIN PUBLIC KEY-----\nMCow',
      'this is a public key in a PEM file; take the one that ssh-keygen writes: ssh-keygen -y -f PRIVATE_KEY_FILE',
    ],
    ['a file in UTF-16, read as UTF-8', Buffer.from(`\ufeffssh-ed25519 ${BLOB}`, 'utf16le').toString(), utf16],
    ['a no-break space after the type', `ssh-ed25519\u00a0${BLOB} a`, special],
    ['a no-break space after the key', `ssh-ed25519 ${BLOB}\u00a0a`, special],
    ['a space without width in the key', `ssh-ed25519 AAAA\u200b${BLOB.slice(4)}`, special],
    ['quotes', `"ssh-ed25519 ${BLOB}"`, quoted],
    ['quotes of a word processor', `\u201cssh-ed25519 ${BLOB}\u201d`, quoted],
    ['the name of a file', '/root/.ssh/id_ed25519.pub', notAKey],
    ['the key without its type', BLOB, 'the type is missing; begin the line with ssh-ed25519'],
    ['the type alone', 'ssh-ed25519', damaged],
    ['a type in capitals', `SSH-ED25519 ${BLOB}`, notAKey],
    ['RSA', 'ssh-rsa AAAAB3NzaC1yc2E= a', `only ssh-ed25519 keys are taken, not ssh-rsa; ${make}`],
    ['DSA', 'ssh-dss AAAA', `only ssh-ed25519 keys are taken, not ssh-dss; ${make}`],
    ['ECDSA', 'ecdsa-sha2-nistp256 AAAA', `only ssh-ed25519 keys are taken, not ecdsa-sha2-nistp256; ${make}`],
    [
      'a hardware key',
      'sk-ssh-ed25519@openssh.com AAAA',
      `only ssh-ed25519 keys are taken, not sk-ssh-ed25519@openssh.com; ${make}`,
    ],
    [
      'a hardware ECDSA key',
      'sk-ecdsa-sha2-nistp256@openssh.com AAAA',
      `only ssh-ed25519 keys are taken, not sk-ecdsa-sha2-nistp256@openssh.com; ${make}`,
    ],
    [
      'a certificate',
      'ssh-ed25519-cert-v01@openssh.com AAAA',
      'certificates do not stand here, only plain ssh-ed25519 keys; name the CA in trustedUserCAKeys, and principals of the client',
    ],
    [
      'options before the key',
      `command="rclone serve restic --stdio",restrict ${keyLine(1)}`,
      'options before the key are not used here; begin the line with ssh-ed25519',
    ],
    [
      'one option before the key',
      `restrict ${keyLine(1)}`,
      'options before the key are not used here; begin the line with ssh-ed25519',
    ],
    ['two keys in one text', `${keyLine(1)}\n${keyLine(2)}`, 'a public key is one line without control characters'],
    [
      'an escape sequence in the comment',
      `${keyLine(1)} \x1b[2J`,
      'a public key is one line without control characters',
    ],
    ['a NUL', `${keyLine(1)}\0`, 'a public key is one line without control characters'],
    ['a line separator', `${keyLine(1)} a\u2028b`, 'a public key is one line without control characters'],
    [
      'a comment that turns its direction',
      `${keyLine(1)} \u202eevil`,
      'a public key is one line without control characters',
    ],
    ['a key cut off', `ssh-ed25519 ${BLOB.slice(0, -4)}`, damaged],
    ['a key cut off in its type', `ssh-ed25519 ${BLOB.slice(0, 12)}`, damaged],
    ['a key cut off within a byte', `ssh-ed25519 ${BLOB.slice(0, -1)}`, damaged],
    ['a key with bytes after it', `ssh-ed25519 ${BLOB}AAAA`, damaged],
    ['base64 with padding that is not needed', `ssh-ed25519 ${BLOB}=`, damaged],
    ['base64 for URLs', `ssh-ed25519 ${BLOB.slice(0, -2)}-_`, damaged],
    ['base64 with a stray character', `ssh-ed25519 ${BLOB.slice(0, 30)}*${BLOB.slice(30)}`, damaged],
    ['a key of 31 bytes', `ssh-ed25519 ${wire('ssh-ed25519', 31)}`, damaged],
    ['a key of 33 bytes', `ssh-ed25519 ${wire('ssh-ed25519', 33)}`, damaged],
    ['51 bytes with another length inside', `ssh-ed25519 ${wire('ssh-ed25519', 28, 0)}`, damaged],
    ['another type inside', `ssh-ed25519 ${wire('ssh-rsa', 3, 128)}`, otherInside],
    ['a third string inside', `ssh-ed25519 ${wire('ssh-ed25519', 32, 1)}`, damaged],
    ['a length that lies', `ssh-ed25519 ${Buffer.from('\xff\xff\xff\xff', 'latin1').toString('base64')}`, damaged],
    ['the first line of a private key', '-----BEGIN OPENSSH PRIVATE KEY-----', privateKey],
    ['the body of a private key', 'b3BlbnNzaC1rZXktdjEAAAAABG5vbmU=', privateKey],
    ["PuTTY's private key", 'PuTTY-User-Key-File-3: ssh-ed25519', privateKey],
    ['a private key folded into one line', '-----BEGIN OPENSSH PRIVATE KEY----- b3Blbn -----END', privateKey],
  ])('%s', (_name, line, message) => {
    expect(refusal(line)).toBe(message);
  });
});

describe('whatever the text', () => {
  const lines = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .tuple(fc.constantFrom('ssh-ed25519 ', 'ssh-rsa ', ''), fc.base64String(), fc.string())
      .map((parts) => parts.join('')),
    // A good line with one character changed, lost or added.
    fc
      .tuple(fc.nat({ max: BLOB.length + 20 }), fc.string({ maxLength: 1 }), fc.constantFrom(0, 1))
      .map(([at, put, gone]) => keyLine(1).slice(0, at) + put + keyLine(1).slice(at + gone)),
  );

  test('only GatewayError is thrown, and what is accepted comes out as it went in', () => {
    let accepted = 0;
    fc.assert(
      fc.property(lines, (line) => {
        let key;
        try {
          key = parsePublicKey(line);
        } catch (error) {
          expect(error).toBeInstanceOf(GatewayError);
          return;
        }
        accepted++;
        expect(line.trim().split(/[ \t]+/)).toEqual(
          [key.type, key.blob, ...key.comment.split(' ')].filter((part) => part !== ''),
        );
        expect(Buffer.from(key.blob, 'base64')).toHaveLength(51);
        expect(parsePublicKey(`${key.type} ${key.blob} ${key.comment}`)).toEqual(key);
      }),
      { numRuns: 2000 },
    );
    expect(accepted).toBeGreaterThan(0);
  });
});
