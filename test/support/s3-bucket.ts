/** A fresh bucket on the lab's S3 server, as a store's config and as the AWS SDK sees it. */
import { S3Client } from '@aws-sdk/client-s3';
import type { S3StoreConfig } from '../../src/config/types.ts';
import { newBucket, s3, type BucketOptions } from './lab-s3.ts';

/** Both ways to a bucket. */
export interface BucketUnderTest {
  readonly config: S3StoreConfig;
  readonly secret: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Its owner destroys it. */
  readonly sdk: S3Client;
}

export async function bucketUnderTest(options: BucketOptions = {}): Promise<BucketUnderTest> {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const secret = { accessKeyId, secretAccessKey };
  const bucket = await newBucket(options);
  return {
    config: { type: 's3', name: 'lab', bucket, region, endpoint, forcePathStyle: true },
    secret,
    sdk: new S3Client({ endpoint, region, credentials: secret, forcePathStyle: true }),
  };
}

/** A bucket as a store of `startStack`, at its own address or at that of a proxy before it. */
export function storeOn({ config, secret }: BucketUnderTest, endpoint = config.endpoint): S3StoreConfig {
  return {
    ...config,
    ...{ name: 'store', endpoint: endpoint ?? '' },
    credentials: { accessKeyId: secret.accessKeyId, secret: { variable: 'S3_SECRET_ACCESS_KEY' } },
  };
}
