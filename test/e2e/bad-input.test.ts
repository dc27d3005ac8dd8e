/** What goes wrong at the start and in mid-run, as the admin and the user see it: one clear line each, and the right exit status. */
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { openSite } from '../support/sites.ts';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, lab, makeTree, restic, run, s3, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore, secretFile } from '../support/stores.ts';

/** Runs `serve` on a config; it must end by itself. */
async function serve(
  config: string | Readonly<Record<string, unknown>>,
  env: Record<string, string> = {},
): Promise<Outcome> {
  const directory = tempDir();
  const file = path.join(directory, 'gateway.yaml');
  const text =
    typeof config === 'string'
      ? config
      : stringify({
          listen: `127.0.0.1:${await freePort()}`,
          hostKeys: [(await generateKey()).privateFile],
          audit: { file: path.join(directory, 'audit.jsonl') },
          ...config,
        });
  writeFileSync(file, text);
  const outcome = await run(process.execPath, [GATEWAY, 'serve', '-c', file], { env, timeoutMs: 180_000 });
  expect(outcome.stderr).not.toMatch(/\n\s+at /);
  return outcome;
}

const client = async (store: string): Promise<Record<string, unknown>> => ({
  appsrv: { keys: [(await generateKey()).publicLine], repository: { store } },
});
const onS3 = (changes: Readonly<Record<string, unknown>>): Record<string, unknown> => {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const secret = secretFile(secretAccessKey);
  return {
    main: { type: 's3', bucket: 'bucket', endpoint, region, accessKeyId, secretAccessKeyFile: secret, ...changes },
  };
};

describe('serve does not start, exits with 2 and says what to do', () => {
  test.each([
    ['broken YAML', 'clients: {appsrv: [', /gateway\.yaml:1:\d+: /],
    ['an unknown key', 'stores: {}\nclients: {}\nquotas: 3\n', /gateway\.yaml:3:1: quotas: unknown key/],
    [
      'no store of that name',
      'stores: {}\nclients:\n  a: {keys: [], repository: {store: x}}\n',
      /3:37: clients\.a\.repository\.store: there is no such store/,
    ],
  ])('%s', async (_what, text, line) => {
    const { code, stderr } = await serve(text);
    expect(stderr).toMatch(line);
    expect(code).toBe(2);
  });

  test('two clients with one key', async () => {
    const keys = [(await generateKey()).publicLine];
    const store = await freshStore('directory');
    const { code, stderr } = await serve({
      stores: { main: store },
      clients: { a: { keys, repository: { store: 'main' } }, b: { keys, repository: { store: 'main' } } },
    });
    expect(stderr).toMatch(/clients\.b\.keys.*\ba\b/);
    expect(code).toBe(2);
  });

  test.each([
    [
      'a missing host key',
      () => '/nowhere/host_key',
      /hostKeys: \/nowhere\/host_key: there is no such file; make one with: ssh-keygen/,
    ],
    [
      'a host key of the wrong type',
      async () => {
        const file = path.join(tempDir(), 'rsa');
        await run('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', file]);
        return file;
      },
      /it is of type ssh-rsa; make one with: ssh-keygen/,
    ],
  ])('%s', async (_what, file, line) => {
    const store = await freshStore('directory');
    const { code, stderr } = await serve({
      hostKeys: [await file()],
      stores: { main: store },
      clients: await client('main'),
    });
    expect(stderr).toMatch(line);
    expect(code).toBe(2);
  });

  test('a client key of the wrong type', async () => {
    const store = await freshStore('directory');
    const { code, stderr } = await serve({
      stores: { main: store },
      clients: { appsrv: { keys: ['ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== old'], repository: { store: 'main' } } },
    });
    expect(stderr).toMatch(/ssh-keygen -t ed25519/);
    expect(code).toBe(2);
  });

  test('a secret that others can read', async () => {
    const secret = secretFile('hush-hush');
    chmodSync(secret, 0o644);
    const { code, stderr } = await serve({
      stores: onS3({ secretAccessKeyFile: secret }),
      clients: await client('main'),
    });
    expect(stderr).toMatch(/chmod 600/);
    expect(stderr).not.toContain('hush-hush');
    expect(code).toBe(2);
  });

  test('a port in use', async () => {
    const store = await freshStore('directory');
    const first = await startGateway(tempDir(), { stores: { main: store }, clients: await client('main') });
    const { code, stderr } = await serve({
      listen: `127.0.0.1:${first.port}`,
      stores: { main: store },
      clients: await client('main'),
    });
    expect(stderr).toMatch(/the port is in use by another program; stop that one or choose another port/);
    expect(code).toBe(2);
    await first.stop();
  });

  test('a bucket that is not there', async () => {
    const { code, stderr } = await serve({ stores: onS3({ bucket: 'no-such-bucket' }), clients: await client('main') });
    expect(stderr).toMatch(/no-such-bucket/);
    expect(code).toBe(2);
  });

  test('wrong credentials', async () => {
    const secret = secretFile('not-the-secret');
    const { code, stderr } = await serve({
      stores: onS3({ secretAccessKeyFile: secret }),
      clients: await client('main'),
    });
    expect(stderr).toMatch(/secret|credential|signature/i);
    expect(stderr).not.toContain('not-the-secret');
    expect(code).toBe(2);
  });

  test('a store directory that is not there', async () => {
    const { code, stderr } = await serve({
      stores: { main: { type: 'directory', path: '/nowhere/at/all' } },
      clients: await client('main'),
    });
    expect(stderr).toMatch(/\/nowhere\/at\/all/);
    expect(code).toBe(2);
  });
});

describe('storage that cannot be reached', () => {
  test('at the start: the gateway serves, says so, and works once it is back', async () => {
    const directory = tempDir();
    const port = await freePort();
    const gateway = await startGateway(directory, {
      stores: onS3({ endpoint: `http://127.0.0.1:${port}` }),
      clients: await client('main'),
    });
    await gateway.process.waitForLine(/cannot be reached|ECONNREFUSED|unavailable/i);
    await gateway.stop();
  });

  test('in mid-run: the client gets one line and an error, and nothing is taken for missing', async () => {
    const store = { type: 'directory', path: tempDir() };
    const site = await openSite('ssh server', {
      stores: { main: store },
      clients: { appsrv: { repository: { store: 'main' } } },
    });
    const as = (args: readonly string[]): Promise<Outcome> =>
      restic(lab().resticNewest, { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') } }, args);
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 3, bytes: 100_000, seed: 'mid-run' });
    expect((await as(['init'])).code).toBe(0);
    expect((await as(['backup', source])).code).toBe(0);
    // The disk goes away under the gateway.
    rmSync(store.path, { recursive: true });
    const failing = restic(
      lab().resticNewest,
      { repo: 'rclone:x', options: { 'rclone.program': site.program('appsrv') }, timeoutMs: 15_000 },
      ['init'],
    );
    // restic goes on trying for 15 minutes: it does not believe that the repository is gone, and makes no new one.
    await expect(failing).rejects.toThrow(
      /the storage behind the gateway refuses its credentials or bucket|behind the gateway/,
    );
    expect(readFileSync(path.join(site.directory, 'audit.jsonl'), 'utf8')).toMatch(
      /"event":"failed".*"reason":"store-misconfigured"/,
    );
    await site.close();
  });
});

test('a mistyped command is told, with the one that was meant', async () => {
  const { code, stderr, stdout } = await run(process.execPath, [GATEWAY, 'sevre']);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/did you mean "serve"\?/);
  expect(code).toBe(2);
});
