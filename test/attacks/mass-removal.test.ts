/** Whoever has the key of a client that may remove backups does so: it shows, however it is done, and is not purged unseen. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ClientConfig } from '../../src/config/types.ts';
import type { Principal } from '../../src/core/principal.ts';
import { openMonitor } from '../../src/monitor/monitor.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { sample } from '../support/restic-client.ts';
import { startStack, type Stack } from '../support/stack.ts';
import type { STORES } from '../support/stores.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };
const FULL = { access: 'full', trashMs: 14 * DAY_MS } as const;

let stack: Stack;
afterEach(() => stack.close());

async function start(kind: (typeof STORES)[number], client: Partial<ClientConfig>): Promise<void> {
  if (kind === 'directory') {
    stack = await startStack({ appsrv: client });
    return;
  }
  const bucket = await bucketUnderTest();
  bucket.sdk.destroy();
  stack = await startStack({ appsrv: client }, () => storeOn(bucket));
}

/** One session that adds or removes objects, one after the other. */
async function session(via: Principal['via'], method: 'POST' | 'DELETE', objects: readonly Stored[]): Promise<void> {
  const client = await stack.connect('appsrv', { via });
  for (const { key, body } of objects) {
    const { status } = await client.request(method, `/${key}`, method === 'POST' ? { body } : {});
    expect([key, status]).toEqual([key, 200]);
  }
  client.close();
  await client.served.ended;
}

interface Stored {
  readonly key: string;
  readonly body: Buffer;
}

const some = (type: string, count: number, size = 300): Stored[] =>
  Array.from({ length: count }, () => {
    const { name, body } = sample(size);
    return { key: `${type}/${name}`, body };
  });

async function asked<T>(ask: (monitor: ReturnType<typeof openMonitor>) => Promise<T>): Promise<T> {
  const monitor = openMonitor({ config: stack.config, log: SILENT, watch: false });
  try {
    return await ask(monitor);
  } finally {
    await monitor.close();
  }
}
const status = async (): Promise<ClientStatus> => {
  const found = await asked((monitor) => monitor.status('appsrv'));
  if (found === undefined) throw new Error('there is no appsrv');
  return found;
};
const rules = async (): Promise<readonly string[]> => (await status()).anomalies.map(({ rule }) => rule);

describe.each([
  ['directory', 'ssh', FULL],
  ['s3', 'stdio', FULL],
] as const)('on %s, by %s', (kind, via, client) => {
  test('more than a third of the snapshots, in several sessions: it shows until an admin has seen it', async () => {
    await start(kind, client);
    const [config, snapshots] = [{ key: 'config', body: Buffer.from('config') }, some('snapshots', 16)];
    await session(via, 'POST', [config, ...snapshots]);
    await session(via, 'DELETE', snapshots.slice(0, 4));
    expect(await rules()).toEqual([]);
    await session(via, 'DELETE', snapshots.slice(4, 7));
    const found = await status();
    expect(found).toMatchObject({ state: 'attention', purgeHeld: true });
    expect(found.anomalies.map(({ rule }) => rule)).toEqual(['mass-removal']);
    expect(found.anomalies[0]?.what).toContain('7 of 16 snapshots');
    expect(found.removals).toMatchObject([
      { by: 'client', snapshots: 3, bytes: 900 },
      { by: 'client', snapshots: 4, bytes: 1200 },
    ]);
    expect(await asked((monitor) => monitor.report())).toBe(1);
    expect(await asked((monitor) => monitor.acknowledge('appsrv'))).toBe(1);
    expect(await status()).toMatchObject({ state: 'ok', purgeHeld: false });
  });

  test('no snapshot, but the data, the few large packs among many small ones', async () => {
    await start(kind, client);
    const [large, small] = [some('data', 3, 2 * 2 ** 20), some('data', 40, 100)];
    await session(via, 'POST', [{ key: 'config', body: Buffer.from('config') }, ...small, ...large]);
    await session(via, 'DELETE', small.slice(0, 10));
    expect(await rules()).toEqual([]);
    await session(via, 'DELETE', large);
    expect(await rules()).toEqual(['mass-removal']);
  });
});

test('the admin removes as much: it is counted as theirs, and wakes nobody', async () => {
  await start('directory', FULL);
  const snapshots = some('snapshots', 16);
  await session('ssh', 'POST', [{ key: 'config', body: Buffer.from('config') }, ...snapshots]);
  await session('admin', 'DELETE', snapshots.slice(0, 15));
  expect(await status()).toMatchObject({
    ...{ state: 'ok', purgeHeld: false },
    removedLately: { byAdmin: { snapshots: 15, bytes: 15 * 300 }, byClient: { objects: 0 } },
    removals: [{ by: 'admin', snapshots: 15 }],
  });
});
