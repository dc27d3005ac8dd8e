/**
 * Someone has the key of a client that may thin out its own backups, and forgets what it can: as long as that shows as an anomaly, nothing is
 * purged that could bring it back, whoever removed it: not by age, not by the admin's timers that go on forgetting and pruning.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { onTrash, openClientMaintenance, type OpenedMaintenance } from '../../src/client-maintenance.ts';
import type { PurgeCounts } from '../../src/maintenance/trash-work.ts';
import { purgeTrash, restoreTrash } from '../../src/maintenance/trash.ts';
import { sample } from '../support/restic-client.ts';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { startStack, type Stack } from '../support/stack.ts';

const DAY_MS = 86_400_000;
const SIGNAL = new AbortController().signal;

interface Stored {
  readonly key: string;
  readonly body: Buffer;
}
const some = (type: string): Stored => {
  const { name, body } = sample(300);
  return { key: `${type}/${name}`, body };
};

describe.each(['directory', 's3', 's3 with versioning'])('on %s', (kind) => {
  let stack: Stack;
  let opened: OpenedMaintenance;
  beforeAll(async () => {
    const clients = { appsrv: { removals: 'deferred', trashMs: 14 * DAY_MS, maxSessions: 100 } } as const;
    if (kind === 'directory') stack = await startStack(clients);
    else {
      const bucket = await bucketUnderTest({ versioning: kind !== 's3' });
      bucket.sdk.destroy();
      stack = await startStack(clients, () => storeOn(bucket));
    }
    opened = await openClientMaintenance(stack.config, 'appsrv');
  });
  afterAll(async () => {
    await opened.maintenance.close();
    await stack.close();
  });

  const session = async (via: 'ssh' | 'admin', method: string, objects: readonly Stored[]): Promise<void> => {
    const client = await stack.connect('appsrv', { via });
    for (const { key, body } of objects)
      expect((await client.request(method, `/${key}`, method === 'POST' ? { body } : {})).status).toBe(200);
    client.close();
    await client.served.ended;
  };
  const there = async (objects: readonly Stored[]): Promise<readonly number[]> => {
    const client = await stack.connect('appsrv', { via: 'admin' });
    const statuses: number[] = [];
    for (const { key } of objects) statuses.push((await client.request('GET', `/${key}`)).status);
    client.close();
    return statuses;
  };
  /** As on a day when all of it is old enough. */
  const purge = (isHeld: boolean): Promise<PurgeCounts> =>
    onTrash(opened, SIGNAL, (work) =>
      purgeTrash(work, {
        before: new Date(Date.now() + 10 * 60_000),
        may: (by) => by === 'admin' || !isHeld,
        gently: false,
      }),
    );

  test('the client forgets, the admin prunes what then seems unused: none of it is purged while the anomaly is open', async () => {
    const [snapshot, index, pack] = [some('snapshots'), some('index'), some('data')];
    await session('ssh', 'POST', [pack, index, snapshot]);
    await session('ssh', 'DELETE', [snapshot]);
    await session('admin', 'DELETE', [index, pack]);
    const held = await purge(true);
    expect({ objects: held.objects, waits: held.waiting > 0 }).toEqual({ objects: 0, waits: true });
    await onTrash(opened, SIGNAL, (work) => restoreTrash(work, 'all'));
    expect(await there([snapshot, index, pack])).toEqual([200, 200, 200]);

    await session('ssh', 'DELETE', [snapshot, index, pack]);
    expect(await purge(false)).toMatchObject({ waiting: 0, retained: 0, denied: false });
    await onTrash(opened, SIGNAL, (work) => restoreTrash(work, 'all'));
    expect(await there([snapshot, index, pack])).toEqual([404, 404, 404]);
  });
});
