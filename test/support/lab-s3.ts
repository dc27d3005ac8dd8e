/** The S3 server of this jest run, a real radosgw that global-setup has started, and buckets on it. */
import { randomUUID } from 'node:crypto';
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';

/** How to reach the S3 server. */
interface S3Access {
  /** http URL without a slash at its end. */
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** What a bucket is made with; both off by default. Object Lock brings versioning along. */
export interface BucketOptions {
  readonly versioning?: boolean;
  readonly objectLock?: boolean;
}

/** @throws Error outside the jest projects that start the server */
export function s3(): S3Access {
  const get = (name: string): string => {
    const value = process.env[name];
    if (value === undefined)
      throw new Error(`${name} is not set: only the contract, attacks and e2e tests have an S3 server`);
    return value;
  };
  return {
    endpoint: get('S3_ENDPOINT'),
    region: get('S3_REGION'),
    accessKeyId: get('S3_ACCESS_KEY_ID'),
    secretAccessKey: get('S3_SECRET_ACCESS_KEY'),
  };
}

/** Makes a new empty bucket, which goes with the server at the end of the run, and gives its name. */
export async function newBucket({ versioning = false, objectLock = false }: BucketOptions = {}): Promise<string> {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3();
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  });
  const Bucket = `test-${randomUUID()}`;
  try {
    await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: objectLock }));
    if (versioning && !objectLock)
      await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  } finally {
    client.destroy();
  }
  return Bucket;
}
