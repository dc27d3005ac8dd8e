/** Clients in FIPS mode, whose OpenSSH has neither X25519 nor ed25519: not at our own server, but through sshd, as docs/ssh-algorithms.md says. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { generateKey, lab, restic, run, sshClientArgs, startSshd, tempDir, type KeyFiles } from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

/** All that such a client offers, or less: restic takes no commas in an option. */
const ONLY = [
  'KexAlgorithms=ecdh-sha2-nistp256',
  'HostKeyAlgorithms=ecdsa-sha2-nistp256',
  'PubkeyAcceptedAlgorithms=ecdsa-sha2-nistp256',
  'Ciphers=aes256-gcm@openssh.com',
].flatMap((option) => ['-o', option]);

let listed: KeyFiles;
let ecdsa: KeyFiles;
let yaml: { readonly stores: unknown; readonly clients: unknown };
beforeAll(async () => {
  [listed, ecdsa] = await Promise.all([generateKey(), ecdsaKey()]);
  yaml = {
    stores: { main: await freshStore('directory') },
    clients: { appsrv: { keys: [listed.publicLine], repository: { store: 'main' } } },
  };
});

async function ecdsaKey(): Promise<KeyFiles> {
  const privateFile = path.join(tempDir(), 'ecdsa');
  const publicFile = `${privateFile}.pub`;
  await run(lab().sshKeygen, ['-q', '-t', 'ecdsa', '-b', '256', '-N', '', '-f', privateFile]);
  const { stdout } = await run(lab().sshKeygen, ['-l', '-f', publicFile]);
  const fingerprint = /SHA256:\S{43}/.exec(stdout)?.[0] ?? '';
  return { privateFile, publicFile, publicLine: readFileSync(publicFile, 'utf8').trim(), fingerprint };
}

test('through sshd, restic backs up with an ECDSA key in the line of authorized_keys, and the audit names that key', async () => {
  const directory = tempDir();
  const config = path.join(directory, 'gateway.yaml');
  const auditFile = path.join(directory, 'audit.jsonl');
  const write = (disabled: boolean): void => {
    const { appsrv } = yaml.clients as { readonly appsrv: object };
    writeFileSync(
      config,
      stringify({ ...yaml, clients: { appsrv: { ...appsrv, disabled } }, audit: { file: auditFile } }),
    );
  };
  write(false);
  const { stdout } = await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', config]);
  const line = stdout.trim().replace(/ ssh-ed25519 \S+ .*$/, ` ${ecdsa.publicLine}`);
  expect(line).toContain('restrict ecdsa-sha2-nistp256 ');
  const sshd = await startSshd({ authorizedKeysLines: [line], hostKey: await ecdsaKey() });
  const program = [lab().ssh, ...ONLY, ...sshClientArgs({ ...sshd, key: ecdsa })].join(' ');
  const target = { repo: 'rclone:x', options: { 'rclone.program': program } };
  const { resticNewest } = lab();
  expect(await restic(resticNewest, target, ['init'])).toMatchObject({ code: 0 });
  expect(await restic(resticNewest, target, ['backup', config])).toMatchObject({ code: 0 });
  expect(readFileSync(auditFile, 'utf8')).toContain(`"key":"${ecdsa.fingerprint}"`);

  write(true);
  const refused = await restic(resticNewest, target, ['snapshots']);
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('client appsrv is disabled');
  await sshd.stop();
});

test('our own server says at once that there is no key exchange in common', async () => {
  const gateway = await startGateway(tempDir(), yaml);
  const { code, stderr } = await run(lab().ssh, [
    ...ONLY.slice(0, 2),
    ...sshClientArgs({ port: gateway.port, key: ecdsa, knownHosts: gateway.knownHosts }),
    'restic',
  ]);
  expect({ code, stderr }).toEqual({
    code: 255,
    stderr: expect.stringContaining('no matching key exchange method found'),
  });
  expect(await gateway.stop()).toBe(0);
});
