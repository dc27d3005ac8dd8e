/**
 * A fleet with an SSH CA: no client's key stands in the config, and restic backs up with a certificate by each way in. At the forced command sshd has the CA
 * by the gateway's AuthorizedKeysCommand, by lines of authorized_keys, or by its own TrustedUserCAKeys with AuthorizedPrincipalsCommand.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { certify, generateAuthority, type CertifiedKey } from '../support/certificates.ts';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  restic,
  run,
  sshClientArgs,
  startProcess,
  startSshd,
  tempDir,
  type KeyFiles,
} from '../support/lab.ts';
import type { AuditLine } from '../support/stack.ts';
import { until } from '../support/store-calls.ts';
import { freshStore } from '../support/stores.ts';

let ca: KeyFiles;
let key: KeyFiles;
let good: CertifiedKey;
beforeAll(async () => {
  [ca, key] = await Promise.all([generateAuthority(), generateKey()]);
  good = await certify(ca, key, '-n', 'web-7', '-z', '7');
});

/** A gateway behind one of the ways in. */
interface Fleet {
  /** Changes the config, as a reload does. */
  write(changes: object): Promise<void>;
  args(certified: KeyFiles): string[];
  audit(): AuditLine[];
  close(): Promise<unknown>;
}

type Way = 'serve' | 'AuthorizedKeysCommand' | 'newest AuthorizedKeysCommand' | 'authorized_keys' | 'TrustedUserCAKeys';

async function openFleet(way: Way): Promise<Fleet> {
  const directory = tempDir();
  const file = path.join(directory, 'gateway.yaml');
  const auditFile = path.join(directory, 'audit.jsonl');
  const yaml = {
    stores: { main: await freshStore('directory') },
    trustedUserCAKeys: [ca.publicLine],
    clients: {
      web: { keys: [], principals: ['web-7'], repository: { store: 'main' } },
      db: { keys: [], principals: ['db'], repository: { store: 'main' } },
    },
  };
  const audit = (): AuditLine[] =>
    readFileSync(auditFile, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as AuditLine);
  if (way === 'serve') {
    const gateway = await startGateway(directory, yaml);
    return {
      write: async (changes) => {
        const own = parse(readFileSync(gateway.configFile, 'utf8')) as object;
        writeFileSync(gateway.configFile, stringify({ ...own, ...yaml, revokedCertificates: [], ...changes }));
        expect(await run(process.execPath, [GATEWAY, 'reload', '-c', gateway.configFile])).toMatchObject({ code: 0 });
      },
      args: (certified) => sshClientArgs({ port: gateway.port, key: certified, knownHosts: gateway.knownHosts }),
      audit,
      close: gateway.stop,
    };
  }
  const write = (changes: object): Promise<void> => {
    writeFileSync(file, stringify({ ...yaml, ...changes, audit: { file: auditFile } }));
    return Promise.resolve();
  };
  await write({});
  const ask = `${process.execPath} ${GATEWAY}`;
  const keysCommand = `${ask} authorized-keys -c ${file} --type %t --key %k`;
  const principalsCommand = `/usr/bin/env "PATH=${process.env['PATH'] ?? ''}" ${ask} authorized-principals -c ${file} --key %k`;
  const authorities = path.join(directory, 'cas');
  writeFileSync(authorities, `${ca.publicLine}\n`);
  const sshd = await startSshd({
    newest: way === 'newest AuthorizedKeysCommand',
    // Who is refused again and again would not be heard any more.
    ...(way === 'newest AuthorizedKeysCommand' && { settings: ['PerSourcePenalties no'] }),
    ...(way === 'authorized_keys' && {
      authorizedKeysLines: (await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', file])).stdout
        .trim()
        .split('\n'),
    }),
    ...(way.endsWith('AuthorizedKeysCommand') && { authorizedKeysCommand: keysCommand }),
    ...(way === 'TrustedUserCAKeys' && {
      settings: [
        `TrustedUserCAKeys ${authorities}`,
        `AuthorizedPrincipalsCommandUser ${userInfo().username}`,
        `AuthorizedPrincipalsCommand ${principalsCommand}`,
      ],
    }),
  });
  const ssh = (certified: KeyFiles): string[] => sshClientArgs({ ...sshd, key: certified });
  return { write, args: ssh, audit, close: () => sshd.stop() };
}

describe.each<[Way]>([
  ['serve'],
  ['AuthorizedKeysCommand'],
  ['newest AuthorizedKeysCommand'],
  ['authorized_keys'],
  ['TrustedUserCAKeys'],
])('by %s', (way) => {
  test('restic backs up with a certificate, others get nothing, and a reload takes its right away', async () => {
    const fleet = await openFleet(way);
    const { resticNewest, ssh } = lab();
    const target = (certified: KeyFiles) => ({
      repo: 'rclone:x',
      options: { 'rclone.program': [ssh, ...fleet.args(certified)].join(' ') },
    });
    expect(await restic(resticNewest, target(good), ['init'])).toMatchObject({ code: 0 });
    expect(await restic(resticNewest, target(good), ['backup', key.publicFile])).toMatchObject({ code: 0 });
    const names = { key: key.fingerprint, ca: ca.fingerprint, keyId: 'web-7', serial: '7' };
    expect(fleet.audit().at(0)).toMatchObject({ event: 'session-start', client: 'web', ...names });

    /** Whether it gets a session, and what it says. */
    const attempt = async (certified: KeyFiles) => {
      const before = fleet.audit().filter(({ event }) => event === 'session-start').length;
      const { stderr } = await run(ssh, [...fleet.args(certified), 'x'], { input: '' });
      return { in: fleet.audit().filter(({ event }) => event === 'session-start').length > before, stderr };
    };
    const stranger = await generateAuthority();
    const refused = [
      [stranger, '-n', 'web-7'],
      [ca, '-n', `web-8,${userInfo().username}`],
      [ca, '-n', 'web-7', '-V', '-2h:-1h'],
      [ca, '-n', 'web-7', '-O', 'source-address=10.0.0.0/8'],
      [ca, '-n', 'web-7', '-O', 'force-command=id'],
    ] as const;
    // What our own server refuses, test/attacks tries; and one sshd is like the other.
    const some = way === 'serve' || way === 'newest AuthorizedKeysCommand' ? refused.slice(0, 1) : refused;
    for (const [authority, ...options] of some) {
      const { in: isIn, stderr } = await attempt(await certify(authority, key, ...options));
      expect([options, isIn, stderr]).toEqual([options, false, expect.stringContaining('Permission denied')]);
    }
    // A line of authorized_keys is taken by its first principal; a command sees them all.
    if (way !== 'authorized_keys') expect((await attempt(await certify(ca, key, '-n', 'db,web-7'))).in).toBe(false);

    // What is revoked later: lines of authorized_keys still have it, and then the gateway itself refuses it.
    await fleet.write({ revokedCertificates: ['serial:7'] });
    const revoked = await attempt(good);
    expect([revoked.in, revoked.stderr]).toEqual([
      false,
      expect.stringMatching(way === 'authorized_keys' ? /was revoked/ : /Permission denied/),
    ]);
    await fleet.write({});
    expect((await attempt(good)).in).toBe(true);

    // The last CA, and with it the session that runs.
    const before = fleet.audit().filter(({ event }) => event === 'session-start').length;
    const held = await startProcess('bash', [
      ...['-c', 'exec "$0" "$@" < <(exec sleep 300)'],
      ...[ssh, ...fleet.args(good), 'x'],
    ]);
    await until(() => fleet.audit().filter(({ event }) => event === 'session-start').length > before);
    await fleet.write({ trustedUserCAKeys: [] });
    await held.exited;
    expect(held.lines.join('\n')).toMatch(/CA is (not, or )?no longer,? trusted/);
    await fleet.close();
    expect(fleet.audit().at(-1)).toMatchObject({ event: 'session-end', client: 'web', reason: 'revoked' });
  });
});

test('who runs authorized-keys or authorized-principals by hand is told why a certificate is refused', async () => {
  const file = path.join(tempDir(), 'gateway.yaml');
  const web = { keys: [], principals: ['web-7', 'web-8'], repository: { store: 'main' } };
  const yaml = {
    stores: { main: await freshStore('directory') },
    clients: { web },
    trustedUserCAKeys: [ca.publicLine],
  };
  writeFileSync(file, stringify(yaml));
  const ask = (...words: string[]) => run(process.execPath, [GATEWAY, ...words, '-c', file]);
  const bytes = (certified: CertifiedKey): string => certified.certificate.toString('base64');
  const type = 'ssh-ed25519-cert-v01@openssh.com';

  const all = await ask('authorized-principals');
  expect(all.stdout.split('\n').map((line) => line.split(' ').at(-1))).toEqual(['web-7', 'web-8', '']);
  expect((await ask('authorized-keys')).stdout).toMatch(
    /,restrict,cert-authority,principals="web-7,web-8" ssh-ed25519 \S+ web\n$/,
  );
  const one = await ask('authorized-principals', '--key', bytes(good));
  expect(one).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^command=".* stdio web .*",restrict web-7\n$/),
    stderr: '',
  });

  const bad = bytes(await certify(ca, key, '-n', 'web-7', '-V', '-2h:-1h'));
  const expired = { code: 0, stdout: '', stderr: 'restic-gateway: this certificate is refused: it has expired\n' };
  expect(await ask('authorized-principals', '--key', bad)).toMatchObject(expired);
  expect(await ask('authorized-keys', '--type', type, '--key', bad)).toMatchObject(expired);
  const junk = await ask('authorized-keys', '--type', type, '--key', bad.slice(0, 100));
  expect([junk.code, junk.stdout]).toEqual([0, '']);
  expect(junk.stderr).toContain('it is malformed, or not signed by one of trustedUserCAKeys');
});
