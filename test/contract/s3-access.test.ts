/** The S3 store before it gets anywhere: addresses, signatures, credentials, buckets that are not there. Nothing of it looks like missing data. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { S3StoreConfig } from '../../src/config/types.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { addressOf } from '../../src/stores/s3/address.ts';
import { EMPTY_HASH, encodePart, encodeQuery, Signer } from '../../src/stores/s3/signature.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { CALLS, create, hashOf, outcomeOf, SUCCESS, type CallName } from '../support/store-calls.ts';

const LIMITS = { connectMs: 300, answerMs: 30_000, idleMs: 30_000, pauseMs: 5 };
const NAMES = Object.keys(CALLS) as CallName[];
const subjects = { there: randomBytes(1000), small: randomBytes(1000), large: randomBytes(2_000_000) };

let bucket: BucketUnderTest;

beforeAll(async () => {
  bucket = await bucketUnderTest();
  const storage = createS3Storage(bucket.config, bucket.secret);
  await create(storage, subjects.there);
  await storage.close();
});

afterAll(() => {
  bucket.sdk.destroy();
});

/** Expects the error of each method, with a message that has the advice, on a store that differs in this. */
async function expectOfAll(
  code: string,
  advice: RegExp,
  config: Partial<S3StoreConfig>,
  secret: { accessKeyId: string; secretAccessKey: string } | undefined = bucket.secret,
): Promise<void> {
  const storage = createS3Storage({ ...bucket.config, ...config }, secret, LIMITS);
  for (const name of NAMES) {
    const outcome = await outcomeOf(CALLS[name](storage, subjects));
    expect([name, outcome]).toEqual([
      name,
      expect.objectContaining({ code, message: expect.stringMatching(advice) as unknown }),
    ]);
  }
  await storage.close();
}

describe('on a real S3 server, every method tells', () => {
  test('a bucket that is not there', async () => {
    await expectOfAll(
      'store-misconfigured',
      /^store lab: the bucket no-such-bucket does not exist at http.*create it/,
      {
        bucket: 'no-such-bucket',
      },
    );
  });

  test('an access key that is not there', async () => {
    const secret = { ...bucket.secret, accessKeyId: 'NOSUCHKEY' };
    await expectOfAll('store-misconfigured', /^store lab: .*correct accessKeyId/, {}, secret);
  });

  test('a secret of another key, without telling it', async () => {
    const secret = { ...bucket.secret, secretAccessKey: 'not-the-secret' };
    await expectOfAll('store-misconfigured', /^store lab: (?!.*not-the-secret).*correct the secret/, {}, secret);
  });

  test('nobody listening', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    await expectOfAll('store-unavailable', /cannot be reached: connect ECONNREFUSED/, {
      endpoint: `http://127.0.0.1:${port}`,
    });
  });

  test('a host without an address', async () => {
    await expectOfAll('store-unavailable', /cannot be reached: getaddrinfo .* no-such-host\.invalid/, {
      endpoint: 'http://no-such-host.invalid',
    });
  });

  test('no TLS where it should be', async () => {
    await expectOfAll('store-misconfigured', /TLS with https:\S+ fails/, {
      endpoint: bucket.config.endpoint?.replace('http:', 'https:') ?? '',
    });
  });

  test('a connection that comes to nothing', async () => {
    const server = net.createServer((socket) => socket.on('error', () => undefined).resume()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await expectOfAll('store-timeout', /did not accept a connection for 300 ms/, {
      endpoint: `https://127.0.0.1:${port}`,
    });
    server.close();
  });

  test('a server that speaks no HTTP', async () => {
    const server = net.createServer((socket) => socket.on('error', () => undefined).end('SSH-2.0-OpenSSH_10.0\r\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await expectOfAll('store-failed', /Parse Error/, { endpoint: `http://127.0.0.1:${port}` });
    server.close();
  });
});

describe('without credentials in the config', () => {
  const AWS = [
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
    'AWS_SESSION_TOKEN',
    'AWS_PROFILE',
    'AWS_EC2_METADATA_DISABLED',
    'AWS_SHARED_CREDENTIALS_FILE',
    'AWS_CONFIG_FILE',
  ];
  const before = Object.fromEntries(AWS.map((name) => [name, process.env[name]]));
  const restore = (): void => {
    for (const [name, value] of Object.entries(before))
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
  };
  beforeEach(() => {
    for (const name of AWS) Reflect.deleteProperty(process.env, name);
    Object.assign(process.env, {
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
      AWS_CONFIG_FILE: '/nonexistent',
    });
  });
  afterEach(restore);

  test('those of the environment are used', async () => {
    process.env['AWS_ACCESS_KEY_ID'] = bucket.secret.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = bucket.secret.secretAccessKey;
    const storage = createS3Storage(bucket.config, undefined, LIMITS);
    const own = { ...subjects, small: randomBytes(500), large: randomBytes(1_500_000), there: randomBytes(300) };
    await create(storage, own.there);
    for (const name of NAMES) expect([name, await CALLS[name](storage, own)]).toEqual([name, SUCCESS[name]]);
    await storage.close();
  });

  test('none anywhere: every method says so', async () => {
    const storage = createS3Storage(bucket.config, undefined, LIMITS);
    for (const name of NAMES)
      expect([name, await outcomeOf(CALLS[name](storage, subjects))]).toEqual([
        name,
        expect.objectContaining({
          code: 'store-misconfigured',
          message: expect.stringMatching(/^store lab: .*set accessKeyId/) as unknown,
        }),
      ]);
    await storage.close();
  });
});

describe('addresses', () => {
  const config = { type: 's3', name: 'archive', bucket: 'backups', region: 'eu-central-1' } as const;

  test.each<readonly [Partial<S3StoreConfig>, boolean, string, number, string, string]>([
    [{}, true, 'backups.s3.eu-central-1.amazonaws.com', 443, 'backups.s3.eu-central-1.amazonaws.com', ''],
    [{ forcePathStyle: true }, true, 's3.eu-central-1.amazonaws.com', 443, 's3.eu-central-1.amazonaws.com', '/backups'],
    [{ bucket: 'a.b' }, true, 's3.eu-central-1.amazonaws.com', 443, 's3.eu-central-1.amazonaws.com', '/a.b'],
    [
      { region: 'cn-north-1', forcePathStyle: true },
      true,
      's3.cn-north-1.amazonaws.com.cn',
      443,
      's3.cn-north-1.amazonaws.com.cn',
      '/backups',
    ],
    [{ endpoint: 'https://s3.example.com' }, true, 'backups.s3.example.com', 443, 'backups.s3.example.com', ''],
    [{ endpoint: 'http://s3.example.com:80/' }, false, 'backups.s3.example.com', 80, 'backups.s3.example.com', ''],
    [{ endpoint: 'http://s3.lan:9000', bucket: 'a.b' }, false, 'a.b.s3.lan', 9000, 'a.b.s3.lan:9000', ''],
    [{ endpoint: 'https://s3.lan:9000/s3/', forcePathStyle: true }, true, 's3.lan', 9000, 's3.lan:9000', '/s3/backups'],
    [{ endpoint: 'http://[::1]:9000', forcePathStyle: true }, false, '::1', 9000, '[::1]:9000', '/backups'],
  ])('%j', (differs, secure, hostname, port, host, basePath) => {
    expect(addressOf({ ...config, forcePathStyle: false, ...differs })).toMatchObject({
      origin: { secure, hostname, port },
      host,
      basePath,
    });
  });

  test.each<readonly [string, Partial<S3StoreConfig>, string]>([
    ['', {}, '/backups'],
    ['/', {}, '/backups'],
    ['/s3/', {}, '/s3/backups'],
    ['/a-b/c', { bucket: 'a.b' }, '/a-b/c/a.b'],
  ])('every method goes there: %j %j', async (path, differs, base) => {
    const proxy = await startFaultProxy('http://127.0.0.1:1');
    proxy.set({ fault: { kind: 'refuse', status: 403, code: 'AccessDenied' } });
    const endpoint = proxy.endpoint + path;
    const storage = createS3Storage({ ...config, forcePathStyle: true, endpoint, ...differs }, bucket.secret, LIMITS);
    for (const name of NAMES) await outcomeOf(CALLS[name](storage, subjects));
    const seen = [...proxy.requests];
    await storage.close();
    await proxy.close();
    expect(seen.length).toBeGreaterThanOrEqual(NAMES.length);
    for (const request of seen) {
      const asked = request.split(' ')[1] ?? '';
      expect([base, `${base}/`].includes(asked) || asked.startsWith(`${base}/repository/data/`) ? base : asked).toBe(
        base,
      );
    }
  });

  test.each(['s3.example.com', 'ftp://s3.example.com', ''])('%j is none', (endpoint) => {
    expect(() => addressOf({ ...config, forcePathStyle: true, endpoint })).toThrow(/store archive: .*correct endpoint/);
  });
});

/** The examples of AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk". */
describe('signatures', () => {
  const credentials = {
    accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  };
  const now = new Date('2013-05-24T00:00:00Z');
  const host = 'examplebucket.s3.amazonaws.com';
  const welcome = hashOf(Buffer.from('Welcome to Amazon S3.'));
  const put = { host, date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' };

  test.each([
    [
      'GET',
      '/test.txt',
      {},
      { host, range: 'bytes=0-9' },
      EMPTY_HASH,
      'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    ],
    [
      'PUT',
      `/${encodePart('test$file.text')}`,
      {},
      put,
      welcome,
      '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
    ],
    [
      'GET',
      '/',
      { lifecycle: '' },
      { host },
      EMPTY_HASH,
      'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
    ],
    [
      'GET',
      '/',
      { prefix: 'J', 'max-keys': '2' },
      { host },
      EMPTY_HASH,
      '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
    ],
  ] as const)('%s %s %j', (method, path, query, headers, payloadHash, signature) => {
    const signer = new Signer('us-east-1');
    const request = { method, path, query: encodeQuery(query), headers, payloadHash };
    for (let i = 0; i < 2; i += 1)
      expect(signer.sign(request, credentials, now)['authorization']).toMatch(new RegExp(`Signature=${signature}$`));
  });

  test('a session token is part of it', () => {
    const request = { method: 'GET', path: '/', query: '', headers: { host }, payloadHash: EMPTY_HASH };
    const headers = new Signer('us-east-1').sign(request, { ...credentials, sessionToken: 'token' }, now);
    expect(headers).toMatchObject({
      'x-amz-security-token': 'token',
      authorization: expect.stringContaining(
        'SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,',
      ) as unknown,
    });
  });

  test('another day and another secret have another key', () => {
    const signer = new Signer('us-east-1');
    const request = { method: 'GET', path: '/', query: '', headers: { host }, payloadHash: EMPTY_HASH };
    const signed = [
      signer.sign(request, credentials, now),
      signer.sign(request, credentials, new Date('2013-05-25T00:00:00Z')),
      signer.sign(request, { ...credentials, secretAccessKey: 'other' }, now),
      signer.sign(request, credentials, now),
    ].map((headers) => headers['authorization']);
    expect(new Set(signed).size).toBe(3);
    expect(signed[3]).toBe(signed[0]);
  });
});
