/** How the S3 store gets to its endpoint: the CAs it trusts, and proxies on the way. By a real TLS server, and a proxy as companies have. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { S3StoreConfig } from '../../src/config/types.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { startForwardProxy, type ForwardProxy } from '../support/forward-proxy.ts';
import { tempDir } from '../support/lab.ts';
import { bucketUnderTest, type BucketUnderTest } from '../support/s3-bucket.ts';
import { create, outcomeOf } from '../support/store-calls.ts';
import { makeCertificate, startTlsFront } from '../support/tls-front.ts';

const LIMITS = { connectMs: 10_000, answerMs: 30_000, idleMs: 30_000, pauseMs: 5 };
const VARIABLES = ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY', 'SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS'];

let bucket: BucketUnderTest;
let front: Awaited<ReturnType<typeof startTlsFront>>;
let before: NodeJS.ProcessEnv;

beforeAll(async () => {
  bucket = await bucketUnderTest();
  front = await startTlsFront(bucket.config.endpoint ?? '');
});

afterAll(() => {
  bucket.sdk.destroy();
  front.close();
});

beforeEach(() => {
  before = { ...process.env };
  for (const name of VARIABLES)
    for (const each of [name, name.toLowerCase()]) Reflect.deleteProperty(process.env, each);
});

afterEach(() => {
  process.env = before;
});

/** Stores something in a store that differs in this. @returns what came of it: `created`, or an error */
async function upload(differs: Partial<S3StoreConfig>): Promise<unknown> {
  const storage = createS3Storage({ ...bucket.config, ...differs }, bucket.secret, LIMITS);
  try {
    return await outcomeOf(create(storage, randomBytes(2_000_000)));
  } finally {
    await storage.close();
  }
}

describe('the CA of the endpoint', () => {
  test('is not known: nothing is stored, and the advice names every way to trust it', async () => {
    expect(await upload({ endpoint: front.endpoint })).toMatchObject({
      code: 'store-misconfigured',
      message: expect.stringMatching(/TLS with https:.* fails .*caFile/),
    });
  });

  test("is in the system's store", async () => {
    process.env['SSL_CERT_FILE'] = front.certificate;
    expect(await upload({ endpoint: front.endpoint })).toBe('created');
  });

  test('is in caFile', async () => {
    expect(await upload({ endpoint: front.endpoint, caFile: front.certificate })).toBe('created');
  });

  test('is not in caFile: what the system trusts does not count', async () => {
    process.env['SSL_CERT_FILE'] = front.certificate;
    const { certificate } = await makeCertificate();
    expect(await upload({ endpoint: front.endpoint, caFile: certificate })).toMatchObject({
      code: 'store-misconfigured',
    });
  });

  test.each([
    ['no such file', undefined, /there is no such file/],
    ['an empty file', '', /holds no certificate in PEM/],
    ['a key', '-----BEGIN PRIVATE KEY-----\nMC4\n-----END PRIVATE KEY-----\n', /holds a private key instead/],
    [
      'a broken certificate',
      '-----BEGIN CERTIFICATE-----\nMC4\n-----END CERTIFICATE-----\n',
      /holds no certificate in PEM/,
    ],
  ])('caFile is %s', async (_what, text, message) => {
    const caFile = path.join(tempDir(), 'ca.pem');
    if (text !== undefined) writeFileSync(caFile, text);
    expect(await upload({ endpoint: front.endpoint, caFile })).toMatchObject({
      code: 'invalid-config',
      message: expect.stringMatching(message),
    });
  });
});

describe('a proxy', () => {
  let proxy: ForwardProxy;

  beforeEach(async () => {
    proxy = await startForwardProxy();
  });

  afterEach(async () => {
    await proxy.close();
  });

  const tls = (): Partial<S3StoreConfig> => ({ endpoint: front.endpoint, caFile: front.certificate });

  test.each(['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY'])('%s leads to https endpoints', async (variable) => {
    process.env[variable] = proxy.url;
    expect(await upload(tls())).toBe('created');
    expect(proxy.requests).toContain(`CONNECT ${new URL(front.endpoint).host}`);
  });

  test('HTTP_PROXY leads to http endpoints, and to no others', async () => {
    process.env['HTTP_PROXY'] = proxy.url;
    expect(await upload(tls())).toBe('created');
    expect(proxy.requests).toEqual([]);
    expect(await upload({})).toBe('created');
    expect(proxy.requests).toContainEqual(expect.stringMatching(/^PUT http:/));
  });

  test.each([
    ['NO_PROXY', { NO_PROXY: '127.0.0.1' }, {}],
    ['`proxy: none`', {}, { proxy: 'none' }],
  ])('%s leads past it', async (_what, environment, differs) => {
    Object.assign(process.env, { HTTPS_PROXY: proxy.url }, environment);
    expect(await upload({ ...tls(), ...differs })).toBe('created');
    expect(proxy.requests).toEqual([]);
  });

  test("the store's own counts more than the environment's", async () => {
    process.env['HTTPS_PROXY'] = 'http://127.0.0.1:1';
    expect(await upload({ ...tls(), proxy: proxy.url })).toBe('created');
    expect(proxy.requests).toHaveLength(1);
  });

  test('wants credentials: they go in its URL, and appear in no error', async () => {
    const strict = await startForwardProxy('user:hush-hush');
    const { port } = new URL(strict.url);
    expect(await upload({ ...tls(), proxy: strict.url })).toMatchObject({
      code: 'store-misconfigured',
      message: expect.stringMatching(/the proxy wants credentials/),
    });
    const wrong = await upload({ ...tls(), proxy: `http://user:hush-wrong@127.0.0.1:${port}` });
    expect(wrong).toMatchObject({ code: 'store-misconfigured', message: expect.not.stringMatching(/hush/) });
    expect(await upload({ ...tls(), proxy: `http://user:hush-hush@127.0.0.1:${port}` })).toBe('created');
    await strict.close();
  });

  test('is not there', async () => {
    expect(await upload({ ...tls(), proxy: 'http://127.0.0.1:1' })).toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(/ECONNREFUSED/),
    });
  });

  test('of the environment is none that is known', async () => {
    process.env['HTTPS_PROXY'] = 'socks5://127.0.0.1:1080';
    expect(await upload(tls())).toMatchObject({
      code: 'store-misconfigured',
      message: expect.stringMatching(/no http or https URL/),
    });
  });
});
