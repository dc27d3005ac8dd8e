/**
 * A prune's removals on a real S3 server, five at a time as restic does: with a trash, all are in it and none is elsewhere; without one, they
 * are gone. `scripts/removals` has it with many, and prints what the trash costs.
 */
import { expect, test } from '@jest/globals';
import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import { bucketUnderTest, storeOn } from '../support/s3-bucket.ts';
import { sample } from '../support/restic-client.ts';
import { startStack, type StackClient } from '../support/stack.ts';

const COUNT = Number(process.env['REMOVALS'] ?? 150);
const AT_ONCE = 5;
const DAY_MS = 86_400_000;

async function inTurn(names: readonly string[], work: (name: string) => Promise<void>): Promise<number> {
  const rest = [...names];
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let name = rest.pop(); name !== undefined; name = rest.pop()) await work(name);
    }),
  );
  return performance.now() - begun;
}

async function keysOf(sdk: S3Client, bucket: string, prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    const page = await sdk.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }));
    keys.push(...(page.Contents ?? []).map(({ Key = '' }) => Key));
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return keys;
}

test(`${COUNT} packs that are removed are in the trash, or gone where there is none`, async () => {
  const bucket = await bucketUnderTest();
  const stack = await startStack({ kept: { access: 'full', trashMs: DAY_MS }, gone: { access: 'full' } }, () =>
    storeOn(bucket),
  );
  const packs = Array.from({ length: COUNT }, () => sample(1000));
  const bodies = new Map(packs.map(({ name, body }) => [name, body]));
  const names = [...bodies.keys()];
  const removed = async (who: string): Promise<number> => {
    const client: StackClient = await stack.connect(who);
    await inTurn(names, async (name) => {
      const { status } = await client.request('POST', `/data/${name}`, { body: bodies.get(name) ?? Buffer.of() });
      expect(status).toBe(200);
    });
    const ms = await inTurn(names, async (name) => {
      expect((await client.request('DELETE', `/data/${name}`)).status).toBe(200);
    });
    client.close();
    return ms;
  };
  const without = await removed('gone');
  const withTrash = await removed('kept');
  const { bucket: name } = bucket.config;
  expect(await keysOf(bucket.sdk, name, 'gone/data/')).toEqual([]);
  expect(await keysOf(bucket.sdk, name, 'gone/.restic-gateway/trash/')).toEqual([]);
  expect(await keysOf(bucket.sdk, name, 'kept/data/')).toEqual([]);
  const trash = await keysOf(bucket.sdk, name, 'kept/.restic-gateway/trash/');
  expect(trash.map((key) => key.slice(key.lastIndexOf('/') + 1)).sort()).toEqual([...names].sort());
  await stack.close();
  bucket.sdk.destroy();
  if (process.env['REMOVALS'] !== undefined)
    process.stderr.write(`${COUNT} removals on S3: with a trash ${(withTrash / without).toFixed(2)} of without\n`);
}, 1_200_000);
