/** The lab itself: every peer that other tests rely on is there, is what it should be, and does what they take for granted. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { describe, expect, test } from '@jest/globals';
import {
  generateKey,
  lab,
  makeTree,
  newBucket,
  restic,
  run,
  s3,
  sameTree,
  sshClientArgs,
  startProcess,
  startSshd,
  tempDir,
} from '../support/lab.ts';

describe('the programs', () => {
  test.each([
    ['resticDebian', ['version'], /^restic 0\.\d+/],
    ['resticTrixie', ['version'], /^restic 0\.18\./],
    ['resticNewest', ['version'], /^restic 0\.(19|[2-9]\d)\./],
    ['rclone', ['version'], /^rclone v1\./],
    ['restServer', ['--version'], /rest-server 0\.\d+/],
    ['postgres', ['--version'], /^postgres \(PostgreSQL\) 1[5-9]/],
    ['ssh', ['-V'], /^OpenSSH_/],
    ['sshNewest', ['-V'], /^OpenSSH_1\d/],
    ['sshdNewest', ['-V'], /^OpenSSH_1\d/],
  ] as const)('%s tells its version', async (peer, args, version) => {
    const { code, stdout, stderr } = await run(lab()[peer], args);
    expect({ code, said: stdout + stderr }).toEqual({ code: 0, said: expect.stringMatching(version) });
  });
});

describe('processes', () => {
  /** Not so for a zombie, which has no command line any more. */
  const alive = (pid: number): boolean =>
    existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';

  test('run gives status, output and input', async () => {
    const script = 'cat; echo "$GREETING" >&2; pwd; exit 3';
    const cwd = tempDir();
    const outcome = await run('sh', ['-c', script], { input: 'in\n', env: { GREETING: 'hello' }, cwd });
    expect(outcome).toEqual({ code: 3, stdout: `in\n${cwd}\n`, stderr: 'hello\n' });
  });

  test('run says what cannot be started', async () => {
    await expect(run('/no/such/program', [])).rejects.toThrow('/no/such/program cannot be started');
  });

  test('run ends what does not end, with all that it started', async () => {
    const file = path.join(tempDir(), 'pids');
    const script = `(setsid sleep 1000 & echo $! >> ${file}); sleep 1000 & echo $! >> ${file}; echo waiting; wait`;
    await expect(run('bash', ['-c', script], { timeoutMs: 5000 })).rejects.toThrow('it said: waiting');
    const pids = readFileSync(file, 'utf8').trim().split('\n').map(Number);
    expect(pids.map((pid) => [pid, alive(pid)])).toEqual([
      [expect.any(Number), false],
      [expect.any(Number), false],
    ]);
  });

  test('startProcess waits for lines, reads memory and stops', async () => {
    const started = await startProcess('bash', ['-c', 'echo one; echo two >&2; trap "exit 7" TERM; sleep 1000 & wait']);
    await expect(started.waitForLine(/^two$/)).resolves.toBe('two');
    await expect(started.waitForLine(/^one$/)).resolves.toBe('one');
    await expect(started.waitForLine(/^three$/, 10)).rejects.toThrow('took over 10 ms before a line matched /^three$/');
    expect(started.rssBytes()).toBeGreaterThan(500_000);
    expect(await started.stop()).toBe(7);
    expect(await started.stop()).toBe(7);
    expect(alive(started.pid)).toBe(false);
    await expect(started.waitForLine(/^three$/)).rejects.toThrow('ended before a line matched /^three$/');
  });

  /** As sshd's sessions do: a session and an environment of its own, and the parent ends. */
  const leaveOne = 'env -i setsid sleep 1000 & echo "left $!";';

  test('stop ends what a program leaves to nobody', async () => {
    const started = await startProcess('bash', ['-c', `${leaveOne} trap "exit 7" TERM; while :; do sleep 0.1; done`]);
    const pid = Number(/\d+/.exec(await started.waitForLine(/^left/))?.[0]);
    expect(await started.stop()).toBe(7);
    expect(alive(pid)).toBe(false);
  });

  test('who holds the pipes of a program that has ended keeps nobody waiting', async () => {
    const started = await startProcess('bash', ['-c', leaveOne]);
    const { stdout } = await run('bash', ['-c', leaveOne]);
    expect(await started.exited).toBe(0);
    for (const line of [stdout, await started.waitForLine(/^left/)]) process.kill(Number(/\d+/.exec(line)?.[0]));
  });
});

describe('trees', () => {
  const shape = { files: 250, bytes: 5_000_001, seed: 'tree' };

  test('the same seed gives the same tree, of exactly the size asked for', async () => {
    const [a, b, c] = [tempDir(), tempDir(), tempDir()];
    await makeTree(a, shape);
    await makeTree(b, shape);
    await makeTree(c, { ...shape, seed: 'other' });
    const files = readdirSync(a, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const sizes = files.map((entry) => statSync(path.join(entry.parentPath, entry.name)).size);
    expect(files).toHaveLength(250);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(5_000_001);
    expect(new Set(sizes).size).toBeGreaterThan(50);
    await expect(sameTree(a, b)).resolves.toBe(true);
    await expect(sameTree(a, c)).rejects.toThrow('the trees differ');
  });

  test.each([
    ['a byte', 'printf X | dd of="$0/dir-0/file-7" bs=1 seek=9 conv=notrunc status=none'],
    ['a mode', 'chmod 701 "$0/dir-1/file-123"'],
    ['a file more', 'touch "$0/dir-2/file-7"'],
    ['a link', 'ln -s file-7 "$0/dir-0/link"'],
  ])('%s makes a difference', async (_what, script) => {
    const [a, b] = [tempDir(), tempDir()];
    await makeTree(a, { ...shape, bytes: 50_000 });
    await makeTree(b, { ...shape, bytes: 50_000 });
    expect((await run('sh', ['-c', script, b])).code).toBe(0);
    await expect(sameTree(a, b)).rejects.toThrow('the trees differ');
  });
});

describe('the S3 server', () => {
  const put = async (
    Bucket: string,
    Body: string,
    headers: { IfNoneMatch?: string } = {},
  ): Promise<number | undefined> => {
    const { endpoint, region, ...credentials } = s3();
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    try {
      return (await client.send(new PutObjectCommand({ Bucket, Key: 'key', Body, ...headers }))).$metadata
        .httpStatusCode;
    } catch (error) {
      return (error as { readonly $metadata: { readonly httpStatusCode?: number } }).$metadata.httpStatusCode;
    } finally {
      client.destroy();
    }
  };

  test.each([{}, { versioning: true }, { objectLock: true }])(
    'holds a conditional put to its word: %j',
    async (options) => {
      const bucket = await newBucket(options);
      expect(await put(bucket, 'first', { IfNoneMatch: '*' })).toBe(200);
      expect(await put(bucket, 'second', { IfNoneMatch: '*' })).toBe(412);
      expect(await put(bucket, 'third')).toBe(200);
    },
  );
});

describe('restic', () => {
  test.each(['resticDebian', 'resticTrixie', 'resticNewest'] as const)('%s backs up and restores', async (version) => {
    const [source, repo, target] = [tempDir(), tempDir(), tempDir()];
    await makeTree(source, { files: 20, bytes: 100_000, seed: version });
    const to = { repo: path.join(repo, 'repository'), password: 'secret' };
    for (const args of [['init'], ['backup', '.'], ['restore', 'latest', '--target', target]]) {
      const { code, stderr } = await restic(lab()[version], { ...to, cwd: source }, args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    }
    await expect(sameTree(source, target)).resolves.toBe(true);
    const wrong = await restic(lab()[version], { ...to, password: 'wrong' }, ['snapshots']);
    expect(wrong.code).not.toBe(0);
  });
});

describe('OpenSSH', () => {
  test('a generated key is what it says', async () => {
    const { publicLine, fingerprint } = await generateKey('some one');
    const [type, blob = '', ...comment] = publicLine.split(' ');
    const hash = createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=$/, '');
    expect([type, comment.join(' '), fingerprint]).toEqual(['ssh-ed25519', 'some one', `SHA256:${hash}`]);
  });

  test.each([
    { client: 'ssh', newest: false },
    { client: 'sshNewest', newest: false },
    { client: 'ssh', newest: true },
    { client: 'sshNewest', newest: true },
  ] as const)('sshd takes a generated key and no other: %j', async ({ client, newest }) => {
    const [key, stranger] = [await generateKey(), await generateKey()];
    const sshd = await startSshd({
      authorizedKeysLines: [`command="echo forced: $SSH_ORIGINAL_COMMAND" ${key.publicLine}`],
      newest,
    });
    const enter = (one: typeof key) => run(lab()[client], [...sshClientArgs({ ...sshd, key: one }), 'something']);
    expect(await enter(key)).toMatchObject({ code: 0, stdout: 'forced: something\n' });
    expect(await enter(stranger)).toMatchObject({ code: 255, stderr: expect.stringContaining('Permission denied') });
    await sshd.process.waitForLine(new RegExp(`Accepted key ED25519 ${key.fingerprint.replaceAll('+', '\\+')}`));
    await sshd.stop();
    expect(await enter(key)).toMatchObject({ code: 255, stderr: expect.stringContaining('Connection refused') });
  });

  test('sshd asks a command for the keys', async () => {
    const key = await generateKey();
    const script = path.join(tempDir(), 'keys');
    writeFileSync(script, `#!/usr/bin/env bash\necho "command=\\"node --version; echo $1\\" $1 $2"\n`, { mode: 0o755 });
    const sshd = await startSshd({ authorizedKeysCommand: `${script} %t %k` });
    const { code, stdout } = await run(lab().ssh, sshClientArgs({ ...sshd, key }));
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${process.version}\nssh-ed25519\n` });
  });

  test('the newest two agree on a post-quantum key exchange', async () => {
    const key = await generateKey();
    const sshd = await startSshd({ authorizedKeysLines: [key.publicLine], newest: true });
    const { code, stderr } = await run(lab().sshNewest, ['-v', ...sshClientArgs({ ...sshd, key }), 'true']);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('kex: algorithm: mlkem768x25519-sha256'),
    });
  });
});
