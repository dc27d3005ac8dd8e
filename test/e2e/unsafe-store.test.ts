/** A storage that ignores conditions, as a site meets it: what `serve` says, what restic hears, and that the accepted fallback serves. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  newBucket,
  restic,
  run,
  s3,
  sshClientArgs,
  tempDir,
  type Outcome,
} from '../support/lab.ts';
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
  const [key, metricsPort] = [await generateKey(), await freePort()];
  const running = await startGateway(tempDir(), {
    stores: {
      careless: {
        ...{ type: 's3', bucket: await newBucket({ versioning }), endpoint: proxy.endpoint, region, accessKeyId },
        ...{ secretAccessKeyFile: secretFile(secretAccessKey), ...store },
      },
    },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'careless' } } },
    metrics: { listen: `127.0.0.1:${metricsPort}` },
  });
  gateway = running;
  const program = [lab().ssh, ...sshClientArgs({ port: running.port, key, knownHosts: running.knownHosts })].join(' ');
  const ready = (): Promise<Response> => fetch(`http://127.0.0.1:${metricsPort}/readyz`);
  const target = { repo: 'rclone:x', options: { 'rclone.program': program }, password: 'secret' };
  return { running, ready, client: (...args: string[]): Promise<Outcome> => restic(lab().resticNewest, target, args) };
}

test('nothing is taken: serve says why at its start, and restic in one line without trying for long', async () => {
  const { running, ready, client } = await start({}, false);
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
  // A balancer sends nobody here; once the storage honours conditions, a SIGHUP has it tried at once.
  const unfit = await ready();
  expect([unfit.status, await unfit.text()]).toEqual([503, 'not ready: no store is safe to store in\n']);
  proxy?.heal();
  expect((await run(process.execPath, [GATEWAY, 'reload', '-c', running.configFile])).code).toBe(0);
  while ((await ready()).status !== 200) await sleep(50);
  expect(await client('init')).toMatchObject({ code: 0 });
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
