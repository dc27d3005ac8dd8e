/** `check --live` as an admin runs it: what holds, what does not and what cannot be tried, in words, in JSON and in the exit status. */
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { generateKey, run, s3, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore, secretFile } from '../support/stores.ts';

const proxy = await startFaultProxy(s3().endpoint);
afterAll(() => proxy.close());

async function check(stores: Readonly<Record<string, unknown>>, ...options: readonly string[]): Promise<Outcome> {
  const directory = tempDir();
  const [first = ''] = Object.keys(stores);
  const config = {
    stores,
    clients: { appsrv: { keys: [(await generateKey()).publicLine], repository: { store: first } } },
    audit: { file: path.join(directory, 'audit.jsonl') },
  };
  const file = path.join(directory, 'gateway.yaml');
  writeFileSync(file, stringify(config));
  const outcome = await run(process.execPath, [GATEWAY, 'check', '-c', file, ...options]);
  // It looks on, and is often run by another user than the gateway's.
  expect(existsSync(config.audit.file)).toBe(false);
  return outcome;
}

test('both kinds of store, in good order', async () => {
  const [bucket, directory] = [await freshStore('s3'), await freshStore('directory')];
  const { code, stdout, stderr } = await check({ bucket, directory }, '--live');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const rows = stdout.split('\n').map((line) => line.split(/ {2,}/).slice(0, 3).join(', '));
  expect(rows.slice(rows.indexOf('STORE, WHAT, RESULT'))).toEqual([
    'STORE, WHAT, RESULT',
    'bucket, never overwrites, holds',
    'bucket, checks content, holds',
    'bucket, keeps packs, holds',
    'bucket, versioning, note',
    'bucket, Object Lock, note',
    'directory, never overwrites, holds',
    'directory, durable, holds',
    'directory, keeps packs, holds',
    'directory, one file system, holds',
    'directory, free space, holds',
    'directory, permissions, holds',
    '',
  ]);
  expect(readdirSync(directory['path'] ?? '')).toEqual([]);
});

test('without --live no store is tried', async () => {
  const { code, stdout } = await check({ gone: { type: 'directory', path: '/nowhere' } });
  expect(code).toBe(0);
  expect(stdout).toMatch(/: good, 1 client, 1 store\n(warning: Node\.js .*\n)?(note: SSH .*\n)?$/);
});

test('a storage that ignores conditions does not pass', async () => {
  const { accessKeyId, secretAccessKey } = s3();
  const fault = { kind: 'drop-condition', secret: { accessKeyId, secretAccessKey } } as const;
  proxy.set({ method: 'PUT', fault });
  const careless = { ...(await freshStore('s3')), endpoint: proxy.endpoint };
  const { code, stdout } = await check({ careless }, '--live');
  proxy.heal();
  expect(code).toBe(1);
  expect(stdout).toMatch(/careless {2}never overwrites {2}fails .*If-None-Match is ignored/);
  expect(stdout).toMatch(/\n1 thing must be put right\n$/);
});

describe('a store that cannot be tried does not pass, and does not keep others from being tried', () => {
  test.each([
    ['a wrong secret', () => ({ secretAccessKeyFile: secretFile('wrong') }), /secret access key does not belong/],
    ['a missing bucket', () => ({ bucket: 'no-such-bucket' }), /the bucket no-such-bucket does not exist/],
    ['an endpoint where nobody is', () => ({ endpoint: 'http://127.0.0.1:9' }), /cannot be reached/],
  ])('%s', async (_, change, message) => {
    const wrong = { ...(await freshStore('s3')), ...change() };
    const { code, stdout, stderr } = await check({ wrong, right: await freshStore('directory') }, '--live', '--json');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    const { good, checks } = JSON.parse(stdout) as {
      good: boolean;
      checks: { store: string; what: string; outcome: string; detail: string }[];
    };
    expect(good).toBe(false);
    expect(checks.filter(({ outcome }) => outcome === 'fails')).toEqual([
      { store: 'wrong', what: 'reached', outcome: 'fails', detail: expect.stringMatching(message) as unknown },
    ]);
    expect(checks.some(({ store }) => store === 'right')).toBe(true);
  });

  test('a directory that is missing', async () => {
    const { code, stdout } = await check({ local: { type: 'directory', path: '/nowhere/at/all' } }, '--live');
    expect(code).toBe(1);
    expect(stdout).toMatch(/local {2}reached {2}fails {3}the store's directory \/nowhere\/at\/all is missing/);
  });

  test('a directory that any user can write to', async () => {
    const local = await freshStore('directory');
    chmodSync(local['path'] ?? '', 0o777);
    const { code, stdout } = await check({ local }, '--live');
    expect(code).toBe(1);
    expect(stdout).toMatch(/permissions +fails +any user can replace repositories in it \(mode 0777\): chmod o-w/);
  });
});

test('where serve could not write its audit or state, check --live does not say good', async () => {
  const directory = tempDir();
  const inTheWay = path.join(directory, 'file');
  writeFileSync(inTheWay, '');
  const file = path.join(directory, 'gateway.yaml');
  const keys = [(await generateKey()).publicLine];
  const config = {
    stores: { local: await freshStore('directory') },
    clients: { appsrv: { keys, repository: { store: 'local' } } },
  };
  const live = (): Promise<Outcome> => run(process.execPath, [GATEWAY, 'check', '--live', '-c', file]);

  writeFileSync(file, stringify({ ...config, audit: { file: path.join(inTheWay, 'audit.jsonl') } }));
  const noAudit = await live();
  expect(noAudit.code).not.toBe(0);
  expect(noAudit.stdout).not.toContain('good');
  expect(noAudit.stderr).toContain(`the audit ${path.join(inTheWay, 'audit.jsonl')} cannot be written`);

  const audit = { file: path.join(directory, 'audit.jsonl') };
  writeFileSync(file, stringify({ ...config, audit, state: path.join(inTheWay, 'state') }));
  const noState = await live();
  expect(noState.code).not.toBe(0);
  expect(noState.stdout).not.toContain('good');
  expect(noState.stderr).toContain(`state ${path.join(inTheWay, 'state')} cannot be written`);

  writeFileSync(file, stringify({ ...config, audit, state: path.join(directory, 'state') }));
  expect(await live()).toMatchObject({ code: 0 });
  expect(existsSync(path.join(directory, 'state'))).toBe(false);
});

test('where serve could not listen, check --live does not say good; its own serve has the port rightly', async () => {
  const directory = tempDir();
  const keys = [(await generateKey()).publicLine];
  const gateway = await startGateway(directory, {
    stores: { local: await freshStore('directory') },
    clients: { appsrv: { keys, repository: { store: 'local' } } },
  });
  expect(await run(process.execPath, [GATEWAY, 'check', '--live', '-c', gateway.configFile])).toMatchObject({
    code: 0,
  });

  const another = path.join(directory, 'another.yaml');
  writeFileSync(another, readFileSync(gateway.configFile));
  const taken = await run(process.execPath, [GATEWAY, 'check', '--live', '-c', another]);
  expect(taken).toMatchObject({ code: 2, stdout: '' });
  expect(taken.stderr).toContain(`listen: 127.0.0.1:${gateway.port}: the port is in use by another program`);
  expect(await run(process.execPath, [GATEWAY, 'check', '-c', another])).toMatchObject({ code: 0 });
  await gateway.stop();
  expect(await run(process.execPath, [GATEWAY, 'check', '--live', '-c', another])).toMatchObject({ code: 0 });
});
