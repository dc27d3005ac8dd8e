/** Certificates that no CA's program makes: malformed, cut off, nested and over-large ones, what is judged of them, and that nothing throws. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parseAuthorityKey } from '../../src/config/authority-key.ts';
import { readCertificate } from '../../src/core/ssh-certificate.ts';
import { certificatesOf } from '../../src/frontends/certificates.ts';
import { createAuthentication } from '../../src/frontends/ssh-auth.ts';
import { makeCertificate, pairInMemory, strings, type Saying } from '../support/certificates.ts';
import { testClient } from '../support/test-client.ts';

const CERTIFICATE = 'ssh-ed25519-cert-v01@openssh.com';

/** The certificates' judge of a config, with a CA whose key is in the test's hands. */
const hands = pairInMemory();
const mine = pairInMemory();
function judge(blob: Buffer): ReturnType<ReturnType<typeof certificatesOf>['judge']> {
  const line = `ssh-ed25519 ${hands.blob.toString('base64')}`;
  const clientsHere = { web: testClient('web', { principals: ['web-7'] }) };
  return certificatesOf({
    clients: clientsHere,
    trustedUserCAKeys: [parseAuthorityKey(line)],
    revokedCertificates: [],
  }).judge(blob, '127.0.0.1');
}
const isGood = (blob: Buffer): boolean => 'client' in judge(blob);

describe('a certificate of one’s own making', () => {
  beforeAll(() => {
    expect(isGood(makeCertificate(hands, mine))).toBe(true);
  });

  test('is refused wherever one bit of a good one is changed, one byte is missing or one is more, and nothing throws', () => {
    const good = makeCertificate(hands, mine, { options: strings('source-address', strings('127.0.0.1')) });
    expect(isGood(good)).toBe(true);
    for (let at = 0; at < good.length; at++) {
      const changed = Buffer.from(good);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
      expect([at, isGood(changed)]).toEqual([at, false]);
      expect([at, isGood(good.subarray(0, at))]).toEqual([at, false]);
      expect([at, isGood(Buffer.concat([good.subarray(0, at), good.subarray(at + 1)]))]).toEqual([at, false]);
    }
    expect(isGood(Buffer.concat([good, Buffer.alloc(1)]))).toBe(false);
  });

  const lengths = Buffer.from([0xff, 0xff, 0xff, 0xff]);
  test.each<[what: string, said: Partial<Saying>]>([
    ['whose CA is a certificate', { authority: makeCertificate(hands, hands) }],
    ['whose CA is a certificate of itself', { authority: makeCertificate(hands, mine) }],
    ['of a CA of its own', { authority: mine.blob }],
    ['signed by the type of a certificate', { signatureType: CERTIFICATE }],
    ['signed by another type', { signatureType: 'rsa-sha2-512' }],
    ['without a signature', { signature: Buffer.alloc(0) }],
    ['with a long signature', { signature: Buffer.alloc(65) }],
    ['of neither user nor host', { kind: 3 }],
    ['of a host', { kind: 2 }],
    ['of kind 0', { kind: 0 }],
    ['of another type', { type: 'ssh-ed25519-cert-v02@openssh.com' }],
    ['of the plain type', { type: 'ssh-ed25519' }],
    ['with a principal that has a comma', { principals: strings('x,web-7') }],
    ['with a principal that has more behind a NUL', { principals: strings('web-7\0x') }],
    ['with a principal that ends with a blank', { principals: strings('web-7 ', 'web-7\n') }],
    ['with an empty principal', { principals: strings('') }],
    ['with principals that are cut off', { principals: strings('web-7', 'web-7').subarray(0, 14) }],
    ['with a principal of 4 GiB', { principals: Buffer.concat([strings('web-7'), lengths]) }],
    ['with 257 principals', { principals: strings(...Array<string>(257).fill('web-7')) }],
    ['with options that are cut off', { options: strings('source-address', strings('127.0.0.1')).subarray(0, 20) }],
    ['with an option without its value', { options: strings('source-address') }],
    ['with one option twice', { options: strings(...twice('source-address', '127.0.0.1', '10.0.0.1')) }],
    [
      'with one option twice, the good one last',
      { options: strings(...twice('source-address', '10.0.0.1', '127.0.0.1')) },
    ],
    ['with one extension twice', { extensions: strings('permit-pty', '', 'permit-pty', '') }],
    ['with an empty list of addresses', { options: strings('source-address', strings('')) }],
    ['with a list of no addresses', { options: strings('source-address', strings('127.0.0.1,*')) }],
    ['with a list that is no string', { options: strings('source-address', '127.0.0.1') }],
    ['with two lists in one', { options: strings('source-address', strings('127.0.0.1', '10.0.0.1')) }],
    ['with an unknown option that holds addresses', { options: strings('x@example.com', strings('127.0.0.1')) }],
    ['with an option of no name', { options: strings('', '') }],
    ['with extensions that are cut off', { extensions: strings('permit-pty') }],
    [
      'with 257 extensions',
      { extensions: strings(...Array.from({ length: 514 }, (_, at) => (at % 2 ? '' : `${at}`))) },
    ],
    ['of 64 KiB', { nonce: Buffer.alloc(65_536) }],
    ['with its times the wrong way about', { validAfter: 2n ** 64n - 1n, validBefore: 0n }],
    ['that ended at the beginning of time', { validBefore: 0n }],
    ['with something behind it', { trailing: Buffer.of(0) }],
  ])('%s is refused, though signed', (_what, said) => {
    expect(isGood(makeCertificate(hands, mine, said))).toBe(false);
  });

  test('of a kind that there is not, is none at the forced command either, where sshd has judged it', () => {
    for (const kind of [0, 3, 2 ** 31]) expect(readCertificate(makeCertificate(hands, mine, { kind }))).toBeUndefined();
    expect(readCertificate(makeCertificate(hands, mine, { kind: 2 }))?.isForUsers).toBe(false);
  });

  test('of nothing but lengths and zeros comes to nothing at once', () => {
    for (const fill of [0, 1, 0xff, 0x41])
      for (const length of [0, 1, 3, 4, 5, 100, 32_768, 32_769, 300_000])
        expect(readCertificate(Buffer.alloc(length, fill))).toBeUndefined();
    const head = strings(CERTIFICATE, '', '');
    expect(readCertificate(Buffer.concat([head, Buffer.alloc(32_000)]))).toBeUndefined();
  });
});

describe('a certificate that is shown', () => {
  test('is verified in its connection’s turn, as keys are exchanged, and a key of the config does not wait', () => {
    const [turns, seen]: [(() => void)[], string[]] = [[], []];
    const authentication = createAuthentication(
      {
        find: () => void seen.push('key'),
        areCertified: () => true,
        certified: () => void seen.push('certificate'),
      },
      () => undefined,
      (work) => turns.push(work),
    );
    const attempt = (algo: string): void => {
      const asked = { method: 'publickey', key: { algo, data: Buffer.alloc(9) }, accept: () => undefined };
      authentication.attempt({ ...asked, reject: () => undefined } as never);
    };
    attempt(CERTIFICATE);
    attempt('ssh-ed25519');
    expect(seen).toEqual(['key']);
    for (const turn of turns) turn();
    expect(seen).toEqual(['key', 'certificate']);
  });
});

function twice(name: string, ...values: string[]): (string | Buffer)[] {
  return values.flatMap((value) => [name, strings(value)]);
}
