/** The S3 store keeps the contract on a real radosgw. Raw access is by the AWS SDK, which shares no code with the store. */
import { GetObjectCommand, paginateListObjectsV2, PutObjectCommand } from '@aws-sdk/client-s3';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';
import { describeRepositoryStore } from './repository-store.ts';

describeRepositoryStore('S3', async () => {
  const { config, secret, sdk } = await bucketUnderTest();
  const Bucket = config.bucket;
  const [storage, peer] = [createS3Storage(config, secret), createS3Storage(config, secret)];
  const below = (prefix: string): string => (prefix === '' ? '' : `${prefix}/`);
  return {
    storage,
    peer,
    rawRead: async (prefix, key) => {
      try {
        const { Body } = await sdk.send(new GetObjectCommand({ Bucket, Key: below(prefix) + key }));
        return await Body?.transformToByteArray();
      } catch (error) {
        if (error instanceof Error && error.name === 'NoSuchKey') return undefined;
        throw error;
      }
    },
    rawWrite: async (prefix, key, bytes) => {
      await sdk.send(new PutObjectCommand({ Bucket, Key: below(prefix) + key, Body: bytes }));
    },
    rawKeys: async (prefix) => {
      const keys: string[] = [];
      for await (const { Contents } of paginateListObjectsV2({ client: sdk }, { Bucket, Prefix: below(prefix) }))
        for (const { Key = '' } of Contents ?? []) keys.push(Key.slice(below(prefix).length));
      return keys;
    },
    dispose: async () => {
      await Promise.all([storage.close(), peer.close()]);
      sdk.destroy();
    },
  };
});
