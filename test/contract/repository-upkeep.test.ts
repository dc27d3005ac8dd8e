/** Moving, writing and looking up by the admin's upkeep, on a directory, on S3, and on S3 with versioning. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { StoreConfig } from '../../src/config/types.ts';
import { objectKey, parseObjectName, type ObjectRef } from '../../src/core/object.ts';
import type { Origin } from '../../src/core/principal.ts';
import type { Storage } from '../../src/ports/repository-store.ts';
import type { RepositoryUpkeep } from '../../src/ports/repository-upkeep.ts';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { DirectoryUpkeep } from '../../src/stores/directory-upkeep.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { S3Upkeep } from '../../src/stores/s3-upkeep.ts';
import { tempDir } from '../support/lab.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';

const NEVER = { signal: new AbortController().signal };
const ORIGIN: Origin = { client: 'appsrv', door: 'ssh', session: '20261125T180000Z-0123456789' };

interface Place {
  readonly storage: Storage;
  readonly upkeep: RepositoryUpkeep;
}

async function open(kind: string): Promise<Place> {
  if (kind === 'directory') {
    const config: StoreConfig = { type: 'directory', name: 'lab', path: tempDir() };
    return { storage: createDirectoryStorage(config), upkeep: new DirectoryUpkeep(config, 'r') };
  }
  const { config, secret, sdk } = await bucketUnderTest({ versioning: kind === 'versioned S3' });
  sdk.destroy();
  return { storage: createS3Storage(config, secret), upkeep: new S3Upkeep(config, secret, 'r') };
}

describe.each(['directory', 'S3', 'versioned S3'])('upkeep on %s', (kind) => {
  let place: Place;
  beforeAll(async () => {
    place = await open(kind);
  });
  afterAll(async () => {
    await place.upkeep.close();
    await place.storage.close();
  });
  const moved = kind === 'versioned S3' ? 'hidden' : 'moved';

  async function store(bytes: Buffer): Promise<string> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const name = parseObjectName(sha256);
    if (name === undefined) throw new Error('not a name');
    const ref: ObjectRef = { type: 'data', name };
    async function* body(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(bytes);
    }
    await place.storage.repository('r').create(ref, { size: bytes.length, sha256, body: body() }, ORIGIN, NEVER);
    return objectKey(ref);
  }
  async function read(key: string): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of place.upkeep.read(key, NEVER)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
  async function keys(under: string): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const page of place.upkeep.files(under, NEVER)) found.push(...page.map(({ key }) => key));
    return found;
  }

  test('an object is moved and moved back with its content, origin and time of arrival', async () => {
    const bytes = randomBytes(100_000);
    const from = new Date(Date.now() - 1);
    const key = await store(bytes);
    const before = await place.upkeep.facts(key, NEVER);
    expect(before?.origin).toEqual(ORIGIN);
    expect(before?.arrived.getTime()).toBeGreaterThanOrEqual(from.getTime());
    const kept = `.restic-gateway/quarantine/x/objects/${key}`;
    expect(await place.upkeep.move(key, kept, NEVER)).toBe(moved);
    expect(await place.upkeep.facts(key, NEVER)).toBeUndefined();
    expect(await read(kept)).toEqual(bytes);
    expect(await keys('')).not.toContain(key);
    expect(await keys('.restic-gateway/quarantine/')).toEqual([kept]);
    expect(await place.upkeep.move(key, kept, NEVER)).toBe('absent');
    expect(await place.upkeep.move(kept, key, NEVER)).toBe(moved);
    expect(await read(key)).toEqual(bytes);
    const after = await place.upkeep.facts(key, NEVER);
    expect(after?.origin).toEqual(ORIGIN);
    expect(after?.arrived).toEqual(before?.arrived);
  });

  test('another file’s place is not taken, and both stay as they are', async () => {
    const key = await store(randomBytes(100));
    const bytes = await read(key);
    await place.upkeep.write('.restic-gateway/other', Buffer.from('other'), NEVER);
    expect(await place.upkeep.move(key, '.restic-gateway/other', NEVER)).toBe('taken');
    expect(await read(key)).toEqual(bytes);
    expect((await read('.restic-gateway/other')).toString()).toBe('other');
  });

  test('what is written is replaced whole, and what is not there is told', async () => {
    for (const text of ['long before', 'after']) {
      await place.upkeep.write('.restic-gateway/quarantine/y/manifest.json', Buffer.from(text), NEVER);
      expect((await read('.restic-gateway/quarantine/y/manifest.json')).toString()).toBe(text);
    }
    await expect(read('data/00/none')).rejects.toMatchObject({ code: 'not-found' });
    expect(await place.upkeep.facts('data/00/none', NEVER)).toBeUndefined();
  });
});
