/**
 * Certificates at an sshd whose authorized_keys was written once and not again: what the config says by now holds all the same. sshd takes the first line that fits,
 * so it would also choose among clients.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { certify, generateAuthority, type CertifiedKey } from '../support/certificates.ts';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, run, sshClientArgs, startSshd, tempDir, type KeyFiles } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

let ca: KeyFiles;
let key: KeyFiles;
let plain: KeyFiles;
let certificate: CertifiedKey;
let sshd: Awaited<ReturnType<typeof startSshd>>;
let config: string;
let auditFile: string;
let yaml: { readonly clients: Record<string, object>; [other: string]: unknown };

beforeAll(async () => {
  const directory = tempDir();
  config = path.join(directory, 'gateway.yaml');
  auditFile = path.join(directory, 'audit.jsonl');
  [ca, key, plain] = await Promise.all([generateAuthority(), generateKey(), generateKey()]);
  certificate = await certify(ca, key, '-n', 'web-7', '-z', '7');
  yaml = {
    stores: { main: await freshStore('directory') },
    trustedUserCAKeys: [ca.publicLine],
    clients: {
      web: { keys: [], principals: ['web-7'], repository: { store: 'main' } },
      db: { keys: [plain.publicLine], principals: ['db'], repository: { store: 'main' } },
      byhand: { keys: [], repository: { store: 'main' } },
    },
    audit: { file: auditFile },
  };
  write({});
  const ask = await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', config]);
  const lines = ask.stdout.trim().split('\n');
  // Of an admin who has a CA for a client that the config knows nothing of.
  const [line = ''] = lines.filter((each) => each.includes('principals="web-7"'));
  const byHand = line.replace('stdio web ', 'stdio byhand ').replace('principals="web-7"', 'principals="byhand"');
  sshd = await startSshd({ authorizedKeysLines: [...lines, byHand] });
});

function write(changes: object): void {
  writeFileSync(config, stringify({ ...yaml, ...changes }));
}

/** What a login says, and what the audit has of it. */
async function login(by: KeyFiles) {
  const { stderr } = await run(lab().ssh, [...sshClientArgs({ ...sshd, key: by }), 'x'], { input: '' });
  const lines = existsSync(auditFile) ? readFileSync(auditFile, 'utf8').trimEnd().split('\n') : [];
  const events = lines.map((each) => JSON.parse(each) as Record<string, unknown>);
  writeFileSync(auditFile, '');
  const { event, client, reason } = events.find((each) => String(each['event']).startsWith('session-')) ?? {};
  return [event, client, reason, stderr.replace(/^restic-gateway: /, '').trim()];
}

const isIn = (client: string) => ['session-start', client, undefined, ''];
const isOut = (client: string, reason: string, said: RegExp) => [
  ...['session-refused', client, reason],
  expect.stringMatching(said),
];

describe('lines that were printed long ago', () => {
  test('let in whom they are for', async () => {
    write({});
    expect(await login(certificate)).toEqual(isIn('web'));
    expect(await login(plain)).toEqual(isIn('db'));
    expect(await login(await certify(ca, key, '-n', 'byhand'))).toEqual(
      isOut('byhand', 'principal-removed', /none of its principals/),
    );
  });

  test('a certificate for two clients is nobody’s, whichever line comes first', async () => {
    write({});
    for (const principals of ['web-7,db', 'db,web-7'])
      expect(await login(await certify(ca, key, '-n', principals))).toEqual(
        isOut('web', 'several-clients', /its principals are those of several clients/),
      );
  });

  test('the last CA is removed, and its line lets nobody in who has principals', async () => {
    write({ trustedUserCAKeys: [] });
    expect(await login(certificate)).toEqual(isOut('web', 'ca-removed', /its CA is not, or no longer, trusted/));
    // A certificate that is larger than the gateway reads.
    const large = await certify(ca, key, '-n', 'web-7', '-O', `extension:x@example.com=${'x'.repeat(34_000)}`);
    expect(await login(large)).toEqual(isOut('web', 'certificate-unreadable', /cannot read this certificate/));
    // Where the config says nothing of certificates, sshd decides.
    expect(await login(await certify(ca, key, '-n', 'byhand'))).toEqual(isIn('byhand'));
  });

  test('what is revoked stays out, by whatever it is named and whether or not the config has a CA', async () => {
    const byHand = await certify(ca, key, '-n', 'byhand', '-z', '9', '-I', 'the id');
    for (const revoked of ['id:the id', 'serial:9', key.fingerprint, ca.fingerprint]) {
      write({ trustedUserCAKeys: [], revokedCertificates: [revoked] });
      expect([revoked, ...(await login(byHand))]).toEqual([
        revoked,
        ...isOut('byhand', 'certificate-revoked', /this certificate of client byhand was revoked/),
      ]);
    }
    write({ revokedCertificates: [plain.fingerprint] });
    expect(await login(plain)).toEqual(isOut('db', 'key-revoked', /this key of client db was revoked/));
    const ask = await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', config]);
    expect(ask.stdout).not.toContain(plain.publicLine.split(' ')[1]);
  });

  test('a certificate that has expired opens no session on a connection that was made before', async () => {
    write({});
    const expired = await certify(ca, key, '-n', 'web-7', '-V', '-2h:-1h');
    const authInfo = path.join(tempDir(), 'auth');
    writeFileSync(authInfo, `publickey ssh-ed25519-cert-v01@openssh.com ${expired.certificate.toString('base64')}\n`);
    const { code, stderr } = await run(process.execPath, [GATEWAY, 'stdio', 'web', '-c', config], {
      env: { SSH_USER_AUTH: authInfo, SSH_CONNECTION: '127.0.0.1 1 127.0.0.1 22' },
      input: '',
    });
    expect([code, stderr]).toEqual([1, expect.stringContaining('the certificate of client web has expired')]);
  });
});
