/** The admin's real restic on a bucket with Object Lock: forget and prune do their work, say what it is worth, and nothing is gone. */
import path from 'node:path';
import { DeleteObjectCommand, ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from '@jest/globals';
import { openSite } from '../support/sites.ts';
import { lab, makeTree, newBucket, restic, s3, tempDir } from '../support/lab.ts';
import { secretFile } from '../support/stores.ts';

test('prune hides and says so, a client hears nothing of it, and the backup can be brought back', async () => {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const Bucket = await newBucket({ objectLock: true });
  const sdk = new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true });
  const site = await openSite('ssh server', {
    stores: {
      main: {
        ...{ type: 's3', bucket: Bucket, endpoint, region, accessKeyId },
        secretAccessKeyFile: secretFile(secretAccessKey),
        objectLock: { mode: 'compliance', days: 1 },
      },
    },
    clients: { appsrv: { repository: { store: 'main' } } },
  });
  const source = path.join(tempDir(), 'source');
  await makeTree(source, { files: 5, bytes: 2_000_000, seed: 'lock' });
  const target = {
    repo: 'rclone:x',
    options: { 'rclone.program': site.program('appsrv') },
    password: 'secret',
  };
  for (const args of [['init'], ['backup', source]]) {
    const { code, stderr } = await restic(lab().resticNewest, target, args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  }

  const pruned = await site.admin('appsrv', ['forget', '--unsafe-allow-remove-all', '--tag', '', '--prune'], 'secret');
  expect(pruned.code).toBe(0);
  const lines = (pruned.stderr + pruned.stdout).match(
    /the bucket keeps old versions: what is removed is hidden, not gone/g,
  );
  expect(lines).toHaveLength(1);
  expect((await restic(lab().resticNewest, target, ['snapshots', '--json'])).stdout.trim()).toBe('[]');

  // As docs/s3.md has it: the markers on everything but locks go.
  const { DeleteMarkers = [], Versions = [] } = await sdk.send(new ListObjectVersionsCommand({ Bucket }));
  const hidden = DeleteMarkers.filter(({ Key = '' }) => !Key.includes('/locks/'));
  expect(hidden.length).toBeGreaterThan(1);
  for (const { Key, VersionId } of Versions.filter((version) => /\/(data|snapshots)\//.test(version.Key ?? '')))
    await expect(sdk.send(new DeleteObjectCommand({ Bucket, Key, VersionId }))).rejects.toMatchObject({
      name: 'AccessDenied',
    });
  for (const { Key, VersionId } of hidden) await sdk.send(new DeleteObjectCommand({ Bucket, Key, VersionId }));
  const checked = await restic(lab().resticNewest, target, ['check', '--read-data']);
  expect(checked.code).toBe(0);
  expect(JSON.parse((await restic(lab().resticNewest, target, ['snapshots', '--json'])).stdout)).toHaveLength(1);
  sdk.destroy();
  await site.close();
});
