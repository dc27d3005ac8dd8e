/** The key exchange as a patch for ssh2 itself (scripts/upstream): it applies to the pinned release and works with real OpenSSH. */
import { cpSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { lab, run, startProcess, tempDir } from '../support/lab.ts';

const ROOT = path.join(import.meta.dirname, '../..');
/** ssh2 and what it needs in JavaScript alone. */
const PACKAGES = ['ssh2', 'asn1', 'bcrypt-pbkdf', 'safer-buffer', 'tweetnacl'];

test('with the patch, ssh2 exchanges keys by mlkem768x25519-sha256 with itself and with OpenSSH, again and again', async () => {
  const directory = tempDir();
  for (const name of PACKAGES)
    cpSync(path.join(ROOT, 'node_modules', name), path.join(directory, 'node_modules', name), { recursive: true });
  const patch = path.join(ROOT, 'scripts/upstream/ssh2-mlkem768x25519.patch');
  const applied = await run('git', ['apply', patch], { cwd: path.join(directory, 'node_modules/ssh2') });
  expect(applied).toMatchObject({ code: 0, stderr: '' });
  mkdirSync(path.join(directory, 'bin'));
  const script = path.join(directory, 'bin/server.mjs');
  cpSync(path.join(import.meta.dirname, '../support/patched-ssh2-server.mjs'), script);

  const server = await startProcess(lab().nodeLts, [script]);
  const port = /\d+/.exec(await server.waitForLine(/listening on \d+/))?.[0] ?? '';
  expect(server.lines).toContain('own client: mlkem768x25519-sha256');
  const text = 'x'.repeat(256 * 1024);
  const quiet = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes', 'LogLevel=ERROR'];
  const options = [...quiet, 'RekeyLimit=64K'].flatMap((option) => ['-o', option]);
  const { code, stdout, stderr } = await run(
    lab().sshNewest,
    ['-F', 'none', ...options, '-p', port, 'x@127.0.0.1', 'x'],
    {
      input: text,
    },
  );
  expect({ code, stderr, same: stdout === text }).toEqual({ code: 0, stderr: '', same: true });
  const exchanges = server.lines.filter((line) => line === 'keys by mlkem768x25519-sha256').length;
  expect(exchanges).toBeGreaterThan(2);
  await server.stop();
});
