/** `init`: from nothing to a gateway that serves, and back to nothing when something is wrong. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { freePort, lab, newBucket, run, s3, startProcess, tempDir } from '../support/lab.ts';
import { secretFile } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

const init = (file: string, ...args: string[]) => run(process.execPath, [GATEWAY, 'init', '-c', file, ...args]);

describe('init', () => {
  test('a directory: config, host key and directories, which serve as they are', async () => {
    const base = path.join(tempDir(), 'etc');
    const file = path.join(base, 'gateway.yaml');
    const done = await init(file, '--dir', path.join(base, 'store'), '--listen', `127.0.0.1:${await freePort()}`);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toContain(`restic-gateway serve -c ${file}`);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    const key = path.join(base, 'ssh_host_ed25519_key');
    expect(statSync(key).mode & 0o777).toBe(0o600);
    const listed = await run(lab().sshKeygen, ['-l', '-f', key]);
    expect(done.stdout).toContain(/SHA256:\S{43}/.exec(listed.stdout)?.[0]);
    expect((await run(lab().sshKeygen, ['-y', '-f', key])).stdout).toBe(readFileSync(`${key}.pub`, 'utf8'));
    const added = await run(process.execPath, [GATEWAY, 'client', 'add', 'first', '--generate', '-c', file], {
      cwd: base,
    });
    expect(added.code).toBe(0);
    const serve = await startProcess(process.execPath, [GATEWAY, 'serve', '-c', file]);
    await serve.waitForLine(/listening on .* for 1 client/);
    expect(await serve.stop()).toBe(0);
    expect(readFileSync(file, 'utf8')).toContain('# Who may back up');

    const before = readFileSync(file, 'utf8');
    const again = await init(file, '--dir', path.join(base, 'other'));
    expect(again.code).toBe(2);
    expect(again.stderr).toContain('exists already and is kept');
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect(existsSync(path.join(base, 'other'))).toBe(false);
  });

  test('a bucket, tried before anything counts; a host key that is there is kept', async () => {
    const { endpoint, accessKeyId, secretAccessKey } = s3();
    const base = tempDir();
    const file = path.join(base, 'gateway.yaml');
    const key = path.join(base, 'ssh_host_ed25519_key');
    await run(lab().sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const before = readFileSync(key, 'utf8');
    const access = ['--endpoint', endpoint, '--access-key-id', accessKeyId];
    const bucket = await newBucket();

    const wrong = await init(file, '--s3', bucket, ...access, '--secret-access-key-file', secretFile('wrong'));
    expect(wrong.code).not.toBe(0);
    expect(wrong.stderr).toMatch(/the store does not work: .*; nothing was made/);
    const missing = await init(
      file,
      '--s3',
      'no-such-bucket-here',
      ...access,
      '--secret-access-key-file',
      secretFile(secretAccessKey),
    );
    expect(missing.stderr).toMatch(/the store does not work/);
    expect(readdirSync(base).sort()).toEqual(['ssh_host_ed25519_key', 'ssh_host_ed25519_key.pub']);

    const secret = secretFile(secretAccessKey);
    const done = await init(file, '--s3', bucket, ...access, '--secret-access-key-file', secret);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toContain(`kept the host key ${key}`);
    expect(readFileSync(key, 'utf8')).toBe(before);
    const written = parse(readFileSync(file, 'utf8')) as { stores: unknown };
    expect(written.stores).toEqual({
      main: { type: 's3', bucket, endpoint, accessKeyId, secretAccessKeyFile: secret },
    });
  });

  test('on a terminal it asks, and does not show the secret', async () => {
    const { endpoint, accessKeyId, secretAccessKey } = s3();
    const base = tempDir();
    const file = path.join(base, 'gateway.yaml');
    const answers = [
      'S#',
      's3',
      await newBucket(),
      'nowhere',
      endpoint,
      accessKeyId,
      secretAccessKey,
      'port 22',
      '127.0.0.1:0',
    ];
    const questions = [
      'or a directory',
      'the answer is s3 or dir',
      'Bucket',
      'Endpoint',
      'write a URL',
      'Access key id',
      'Secret',
      'Listen',
      'write HOST:PORT',
    ];
    const pairs = questions.map(
      (question, index) => [new RegExp(`${question}[^]*: $`), `${answers[index] ?? ''}\r`] as const,
    );
    const done = await onTerminal([process.execPath, GATEWAY, 'init', '-c', file], pairs);
    expect({ code: done.code, said: done.shown }).toMatchObject({ code: 0 });
    expect(done.shown).not.toContain(secretAccessKey);
    const secret = path.join(base, 'main.secret');
    expect(readFileSync(secret, 'utf8').trim()).toBe(secretAccessKey);
    expect(statSync(secret).mode & 0o777).toBe(0o600);
    expect((await run(process.execPath, [GATEWAY, 'check', '-c', file])).code).toBe(0);
  });

  test('without an answer and without a terminal it says what is missing', async () => {
    const base = path.join(tempDir(), 'none');
    const file = path.join(base, 'gateway.yaml');
    for (const [args, message] of [
      [[], /--s3 BUCKET or --dir PATH/],
      [['--s3', 'bucket'], /--region REGION for AWS, --endpoint URL/],
      [['--s3', 'bucket', '--dir', base], /give one store/],
      [['--dir', base, '--region', 'x'], /--region belongs to a bucket/],
      [['--s3', 'bucket', '--region', 'x', '--access-key-id', 'y'], /--secret-access-key-file FILE beside it/],
      [['--dir', base, '--listen', 'nowhere:x:y'], /listen: /],
    ] as const) {
      const refused = await init(file, ...args);
      expect(refused.stderr).toMatch(message);
      expect(refused.code).toBe(2);
      expect(existsSync(base)).toBe(false);
    }
  });
});
