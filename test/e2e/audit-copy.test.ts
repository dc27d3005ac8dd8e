/** The audit's copy as an admin has it: `serve` makes it, `audit copy` goes on with it, `audit verify --copy` and `status` speak of it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, newBucket, run, s3, tempDir, type Outcome } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, secretFile } from '../support/stores.ts';

test('what serve has copied shows what is changed here afterwards', async () => {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const secretAccessKeyFile = secretFile(secretAccessKey);
  const key = await generateKey();
  const store = { type: 's3', bucket: await newBucket(), endpoint, region, accessKeyId, secretAccessKeyFile };
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory'), evidence: store },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
  });
  const { configFile, auditFile } = gateway;
  const command = (...args: string[]): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, ...args, '-c', configFile], { timeoutMs: 180_000 });
  const session = async (): Promise<void> => {
    const client = startStdio(['appsrv', '-c', configFile]);
    const { name, body } = sample();
    expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
    client.end();
    expect((await client.exited).status).toBe(0);
  };
  const change = (with_: (config: { audit: Record<string, unknown>; stores: { evidence: typeof store } }) => void) => {
    const config = parse(readFileSync(configFile, 'utf8')) as Parameters<typeof with_>[0];
    with_(config);
    writeFileSync(configFile, stringify(config));
  };

  expect(await command('audit', 'copy')).toMatchObject({ code: 2 });
  // Taken up while it runs, as any change is.
  change((config) => (config.audit['copy'] = { store: 'evidence', prefix: 'gw1' }));
  await gateway.process.waitForLine(/the config was read again/);
  await session();
  // What is left when it ends is copied as well.
  await gateway.stop();
  const good = await command('audit', 'verify', '--copy');
  expect(good).toMatchObject({ code: 0, stdout: expect.stringMatching(/^good: as its copy, \d/m) as unknown });
  expect(good.stdout).not.toContain('not copied yet');

  await session();
  expect((await command('audit', 'verify', '--copy')).stdout).toMatch(/note: .*bytes from here on are not copied yet/);
  expect(await command('audit', 'copy')).toMatchObject({
    ...{ code: 0, stdout: expect.stringMatching(/^evidence:gw1: copied /) as unknown },
  });
  expect(await command('audit', 'copy')).toMatchObject({ code: 0, stdout: 'evidence:gw1: nothing new\n' });

  // A word of the last line: nothing that follows could show it.
  const text = readFileSync(auditFile, 'utf8');
  const lines = text.split('\n').length - 1;
  writeFileSync(auditFile, text.replace(/client-ended(?![^]*client-ended)/, 'client-endet'));
  const changed = await command('audit', 'verify', '--copy', '--json');
  expect(changed.code).toBe(1);
  expect(JSON.parse(changed.stdout)).toMatchObject({
    copy: { problems: [expect.stringMatching(new RegExp(`:${lines}: it is not what was copied`)) as unknown] },
  });
  writeFileSync(auditFile, text);

  const port = await freePort();
  change((config) => (config.stores.evidence.endpoint = `http://127.0.0.1:${port}`));
  expect(await command('audit', 'copy')).toMatchObject({
    ...{ code: 1, stdout: '', stderr: expect.stringMatching(/^restic-gateway: .*ECONNREFUSED.*\n$/) as unknown },
  });
  expect((await command('status')).stderr).toMatch(/^the audit has not been copied to evidence since .*ECONNREFUSED/);
  // It keeps no one from backing up.
  await session();
});

test('audit show says which kinds of events there are', async () => {
  const outcome = await run(process.execPath, [GATEWAY, 'audit', 'show', '--kind', 'deny'], { timeoutMs: 180_000 });
  expect(outcome).toMatchObject({ code: 2, stdout: '' });
  expect(outcome.stderr).toMatch(/there is no such kind of event; there are: session-start, .*denied/);
});
