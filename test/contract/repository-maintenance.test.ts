/** Moving, writing and looking up by the admin's maintenance, on a directory, on S3, and on S3 with versioning. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { StoreConfig } from '../../src/config/types.ts';
import { objectKey, parseObjectName, type ObjectRef } from '../../src/core/object.ts';
import type { Uploader } from '../../src/core/principal.ts';
import type { Storage } from '../../src/ports/repository-store.ts';
import type { RepositoryMaintenance } from '../../src/ports/repository-maintenance.ts';
import { createDirectoryStorage } from '../../src/stores/directory-store.ts';
import { DirectoryMaintenance } from '../../src/stores/directory-maintenance.ts';
import { createS3Storage } from '../../src/stores/s3-store.ts';
import { S3Maintenance } from '../../src/stores/s3-maintenance.ts';
import { tempDir } from '../support/lab.ts';
import { bucketUnderTest } from '../support/s3-bucket.ts';

const NEVER = { signal: new AbortController().signal };
const UPLOADER: Uploader = { client: 'appsrv', via: 'ssh', session: '20261125T180000Z-0123456789' };

interface Place {
  readonly storage: Storage;
  readonly maintenance: RepositoryMaintenance;
}

async function open(kind: string): Promise<Place> {
  if (kind === 'directory') {
    const config: StoreConfig = { type: 'directory', name: 'lab', path: tempDir() };
    return { storage: createDirectoryStorage(config), maintenance: new DirectoryMaintenance(config, 'r') };
  }
  const { config, secret, sdk } = await bucketUnderTest({ versioning: kind === 'versioned S3' });
  sdk.destroy();
  return { storage: createS3Storage(config, secret), maintenance: new S3Maintenance(config, secret, 'r') };
}

describe.each(['directory', 'S3', 'versioned S3'])('maintenance on %s', (kind) => {
  let place: Place;
  beforeAll(async () => {
    place = await open(kind);
  });
  afterAll(async () => {
    await place.maintenance.close();
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
    await place.storage.repository('r').create(ref, { size: bytes.length, sha256, body: body() }, UPLOADER, NEVER);
    return objectKey(ref);
  }
  async function read(key: string): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of place.maintenance.read(key, NEVER)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
  async function keys(under: string): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const page of place.maintenance.files(under, NEVER)) found.push(...page.map(({ key }) => key));
    return found;
  }

  test('an object is moved and moved back with its content, origin and time of arrival', async () => {
    const bytes = randomBytes(100_000);
    const from = new Date(Date.now() - 1);
    const key = await store(bytes);
    const before = await place.maintenance.facts(key, NEVER);
    expect(before?.uploader).toEqual(UPLOADER);
    expect(before?.arrived.getTime()).toBeGreaterThanOrEqual(from.getTime());
    const kept = `.restic-gateway/quarantine/x/objects/${key}`;
    expect(await place.maintenance.move(key, kept, NEVER)).toBe(moved);
    expect(await place.maintenance.facts(key, NEVER)).toBeUndefined();
    expect(await read(kept)).toEqual(bytes);
    expect(await keys('')).not.toContain(key);
    expect(await keys('.restic-gateway/quarantine/')).toEqual([kept]);
    expect(await place.maintenance.move(key, kept, NEVER)).toBe('absent');
    expect(await place.maintenance.move(kept, key, NEVER)).toBe(moved);
    expect(await read(key)).toEqual(bytes);
    const after = await place.maintenance.facts(key, NEVER);
    expect(after?.uploader).toEqual(UPLOADER);
    expect(after?.arrived).toEqual(before?.arrived);
  });

  test('another file’s place is not taken, and both stay as they are', async () => {
    const key = await store(randomBytes(100));
    const bytes = await read(key);
    await place.maintenance.write('.restic-gateway/other', Buffer.from('other'), NEVER);
    expect(await place.maintenance.move(key, '.restic-gateway/other', NEVER)).toBe('taken');
    expect(await read(key)).toEqual(bytes);
    expect((await read('.restic-gateway/other')).toString()).toBe('other');
  });

  test('the same content under the new key is taken for an earlier attempt, and each keeps its own time of arrival', async () => {
    const bytes = randomBytes(1000);
    const key = await store(bytes);
    const first = await place.maintenance.facts(key, NEVER);
    const kept = `.restic-gateway/trash/a/${key}`;
    expect(await place.maintenance.move(key, kept, NEVER)).toBe(moved);
    expect(await store(bytes)).toBe(key);
    const second = await place.maintenance.facts(key, NEVER);
    expect(second?.arrived.getTime()).toBeGreaterThanOrEqual(first?.arrived.getTime() ?? Infinity);
    expect((await place.maintenance.facts(kept, NEVER))?.arrived).toEqual(first?.arrived);
    expect(await place.maintenance.move(kept, key, NEVER)).toBe(moved);
    expect(await read(key)).toEqual(bytes);
    expect((await place.maintenance.facts(key, NEVER))?.arrived).toEqual(second?.arrived);
    expect(await place.maintenance.facts(kept, NEVER)).toBeUndefined();
  });

  test('the directories of a directory are named, and what is discarded is gone, with its directories once they are empty', async () => {
    const top = '.restic-gateway/trash/';
    const names = async (): Promise<readonly string[]> => {
      const found: string[] = [];
      for await (const page of place.maintenance.directories(top, NEVER)) found.push(...page);
      return found.sort();
    };
    const key = await store(randomBytes(10));
    await place.maintenance.move(key, `${top}one/${key}`, NEVER);
    await place.maintenance.write(`${top}two/other`, Buffer.from('other'), NEVER);
    expect(await names()).toEqual(expect.arrayContaining(['one', 'two']));
    for (let round = 0; round < 2; round += 1) {
      await place.maintenance.discard(`${top}one/${key}`, NEVER);
      for (const name of ['one', 'two']) await place.maintenance.discardEmpty(`${top}${name}/`, NEVER);
      expect((await names()).filter((name) => name !== 'a')).toEqual(['two']);
    }
    await expect((async () => place.maintenance.discard(key, NEVER))()).rejects.toMatchObject({ code: 'internal' });
  });

  test('what is written is replaced whole, and what is not there is told', async () => {
    for (const text of ['long before', 'after']) {
      await place.maintenance.write('.restic-gateway/quarantine/y/manifest.json', Buffer.from(text), NEVER);
      expect((await read('.restic-gateway/quarantine/y/manifest.json')).toString()).toBe(text);
    }
    await expect(read('data/00/none')).rejects.toMatchObject({ code: 'not-found' });
    expect(await place.maintenance.facts('data/00/none', NEVER)).toBeUndefined();
  });
});
