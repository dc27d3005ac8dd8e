/**
 * What restic's own tests ask of every backend (internal/backend/test in its source), case by case, through both ways in to both stores: a client
 * with full access, as those tests remove all that they have made. Their cases of names that are no hashes belong to backends that keep any name.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { sample, sha256 } from '../support/restic-client.ts';
import { openSite, type Site } from '../support/sites.ts';
import { startProgram, type SshSession } from '../support/ssh-session.ts';
import { freshStore } from '../support/stores.ts';

const TYPES = ['data', 'keys', 'locks', 'snapshots', 'index'] as const;
const LIST = { headers: { accept: 'application/vnd.x.restic.rest.v2' } };

interface Listed {
  readonly name: string;
  readonly size: number;
}

const ways = ['ssh server', 'sshd, AuthorizedKeysCommand'] as const;
const stores = ['directory', 's3'] as const;
describe.each(ways.flatMap((way) => stores.map((store) => [way, store] as const)))('%s, %s store', (way, store) => {
  let site: Site;
  let restic: SshSession;
  const status = async (method: string, path: string, body?: Uint8Array): Promise<number> =>
    (await restic.request(method, path, body === undefined ? {} : { body })).status;
  const list = async (type: string): Promise<readonly Listed[]> => {
    const answer = await restic.request('GET', `/${type}/`, LIST);
    expect(answer.status).toBe(200);
    return (JSON.parse(answer.body.toString()) as Listed[]).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  };
  const range = async (path: string, bytes: string): Promise<Buffer> => {
    const answer = await restic.request('GET', path, { headers: { range: `bytes=${bytes}` } });
    expect([bytes, answer.status]).toEqual([bytes, 206]);
    return answer.body;
  };

  beforeAll(async () => {
    site = await openSite(way, {
      stores: { main: await freshStore(store) },
      clients: {
        full: { access: 'full', repository: { store: 'main' }, protect: 'none', trash: 'none' },
      },
    });
    restic = startProgram(site.program('full'));
  });
  afterAll(async () => {
    restic.close();
    await restic.ended;
    await site.close();
  });

  test('a config: not there, stored, read whole and by its size, there when someone creates again, removed', async () => {
    expect(await status('GET', '/config')).toBe(404);
    expect(await status('HEAD', '/config')).toBe(404);
    expect(await status('POST', '/?create=true')).toBe(200);
    const config = Buffer.from('test config');
    expect(await status('POST', '/config', config)).toBe(200);
    expect((await restic.request('GET', '/config')).body).toEqual(config);
    expect((await restic.request('HEAD', '/config')).headers['content-length']).toBe(String(config.length));
    // By this, restic's Create knows that it must fail.
    expect(await status('POST', '/config', Buffer.from('another'))).toBe(403);
    expect(await status('DELETE', '/config')).toBe(200);
    expect(await status('HEAD', '/config')).toBe(404);
  });

  test('loading: what is not there, and any part of a large pack', async () => {
    expect(await status('GET', '/data/foobar')).toBe(404);
    expect(await status('GET', `/data/${'0'.repeat(64)}`)).toBe(404);
    const { name, body } = sample(2000 + randomInt(2 ** 24));
    expect(await status('POST', `/data/${name}`, body)).toBe(200);
    for (let times = 0; times < 50; times++) {
      const offset = randomInt(body.length);
      const length = randomInt(body.length + 2000);
      // 0 stands for all that follows, as in restic.
      const asked = length === 0 ? `${offset}-` : `${offset}-${offset + length - 1}`;
      const expected = body.subarray(offset, length === 0 ? undefined : offset + length);
      expect((await range(`/data/${name}`, asked)).equals(expected)).toBe(true);
    }
    expect(await status('DELETE', `/data/${name}`)).toBe(200);
  });

  test('listing: nothing, and all of some packs with their sizes; a list that is called off harms nothing', async () => {
    expect(await list('data')).toEqual([]);
    const packs = Array.from({ length: 20 + randomInt(20) }, () => sample(55 + randomInt(100)));
    const stored = await Promise.all(packs.map(({ name, body }) => status('POST', `/data/${name}`, body)));
    expect(new Set(stored)).toEqual(new Set([200]));
    const expected = packs.map(({ name, body }) => ({ name, size: body.length }));
    expected.sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(await list('data')).toEqual(expected);
    const stream = restic.session.request({ ':method': 'GET', ':path': '/data/', accept: LIST.headers.accept });
    stream.on('error', () => undefined);
    await new Promise((resolve) => stream.once('response', resolve));
    stream.close(8);
    expect(await list('data')).toEqual(expected);
    const removed = await Promise.all(packs.map(({ name }) => status('DELETE', `/data/${name}`)));
    expect(new Set(removed)).toEqual(new Set([200]));
    expect(await list('data')).toEqual([]);
  });

  test('saving: packs of many sizes come back as they were; what is cut off or does not hash to its name is not stored', async () => {
    for (let times = 0; times < 5; times++) {
      const { name, body } = sample(200_000 + randomInt(2 ** 23));
      expect(await status('POST', `/data/${name}`, body)).toBe(200);
      const loaded = await restic.request('GET', `/data/${name}`);
      expect(loaded.body.equals(body)).toBe(true);
      const looked = await restic.request('HEAD', `/data/${name}`);
      expect([looked.status, looked.headers['content-length']]).toEqual([200, String(body.length)]);
      expect(await status('DELETE', `/data/${name}`)).toBe(200);
      expect(await status('HEAD', `/data/${name}`)).toBe(404);
    }
    const { name, body } = sample(300_000);
    const stream = restic.session.request({
      ...{ ':method': 'POST', ':path': `/data/${name}`, 'content-length': body.length + 42 },
    });
    const answered = new Promise<unknown>((resolve) => {
      stream.once('response', (headers) => {
        resolve(headers[':status']);
      });
      stream.once('error', resolve);
      stream.once('close', resolve);
    });
    stream.end(body);
    expect(await answered).not.toBe(200);
    stream.close();
    expect(await status('HEAD', `/data/${name}`)).toBe(404);
    expect(await status('POST', `/data/${sha256(randomBytes(8))}`, body)).toBe(400);
    expect(await list('data')).toEqual([]);
  });

  test.each(TYPES)('every call on %s: before, while and after it is there', async (type) => {
    const contents = ['foobar', 'a sentence that is a little longer than the others', 'foo/bar', 'foo/../../baz'];
    const files = contents.map((text) => ({ text, path: `/${type}/${sha256(Buffer.from(text))}` }));
    for (const { path } of files)
      for (const method of ['HEAD', 'GET', 'HEAD']) expect(await status(method, path)).toBe(404);
    for (const { path, text } of files) {
      expect(await status('POST', path, Buffer.from(text))).toBe(200);
      expect((await restic.request('GET', path)).body.toString()).toBe(text);
      expect((await range(path, `1-${text.length - 3}`)).toString()).toBe(text.slice(1, -2));
    }
    const [first] = files;
    if (first === undefined) throw new Error('there are none');
    expect(await status('DELETE', first.path)).toBe(200);
    expect(await status('HEAD', first.path)).toBe(404);
    expect(await status('POST', first.path, Buffer.from(first.text))).toBe(200);
    expect((await list(type)).map(({ name }) => `/${type}/${name}`)).toEqual(files.map(({ path }) => path).sort());
    for (const { path } of files) expect(await status('DELETE', path)).toBe(200);
    expect(await list(type)).toEqual([]);
  });
});
