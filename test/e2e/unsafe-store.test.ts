/** A storage that ignores conditions, as a site meets it: what `serve` says, what restic hears, and that the accepted fallback serves. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, lab, newBucket, restic, s3, sshClientArgs, tempDir, type Outcome } from '../support/lab.ts';
import { secretFile } from '../support/stores.ts';

let proxy: FaultProxy | undefined;
let gateway: RunningGateway | undefined;
afterEach(async () => {
  await gateway?.stop();
  await proxy?.close();
});

/** A gateway for such a storage, and restic at its client. */
async function start(store: Readonly<Record<string, unknown>>, versioning: boolean) {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  proxy = await startFaultProxy(endpoint);
  proxy.set({ method: 'PUT', fault: { kind: 'drop-condition', secret: { accessKeyId, secretAccessKey } } });
  const key = await generateKey();
  const running = await startGateway(tempDir(), {
    stores: {
      careless: {
        ...{ type: 's3', bucket: await newBucket({ versioning }), endpoint: proxy.endpoint, region, accessKeyId },
        ...{ secretAccessKeyFile: secretFile(secretAccessKey), ...store },
      },
    },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'careless' } } },
  });
  gateway = running;
  const program = [lab().ssh, ...sshClientArgs({ port: running.port, key, knownHosts: running.knownHosts })].join(' ');
  const target = { repo: 'rclone:x', options: { 'rclone.program': program }, password: 'secret' };
  return { running, client: (...args: string[]): Promise<Outcome> => restic(lab().resticNewest, target, args) };
}

test('nothing is taken: serve says why at its start, and restic in one line without trying for long', async () => {
  const { running, client } = await start({}, false);
  await running.process.waitForLine(
    /store careless does not honour If-None-Match.*conditionalWrites: versioned/,
    30_000,
  );
  const { code, stderr } = await client('init');
  expect(code).not.toBe(0);
  expect(stderr.match(/may overwrite backups, so nothing is stored; tell its admin/g)).toHaveLength(1);
  const audit = readFileSync(running.auditFile, 'utf8');
  expect(audit).toMatch(/"store-unsafe"/);
  expect(audit).not.toMatch(/"event":"create"/);
  proxy?.heal();
});

test('conditionalWrites: versioned serves it, and serve says so at each start', async () => {
  const { running, client } = await start({ conditionalWrites: 'versioned' }, true);
  await running.process.waitForLine(/as conditionalWrites: versioned accepts/);
  const file = path.join(tempDir(), 'file');
  writeFileSync(file, 'content');
  for (const args of [['init'], ['backup', file], ['check', '--read-data']]) {
    const { code, stderr } = await client(...args);
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
  }
});
