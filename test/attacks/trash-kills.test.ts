/**
 * `kill -9` at every step: of removals through a gateway, of `trash restore` and of `trash purge`, on a directory, on S3, and on a bucket that
 * keeps versions. Each change of the store is followed by a kill once; then the same command goes on. Nothing that was to stay is ever lost,
 * nothing is ever half there, and in the end it is as if nothing had happened.
 */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, newBucket, run, s3, sameTree, tempDir, type Outcome } from '../support/lab.ts';
import { lightenKeys } from '../support/light-key.ts';
import { repositoryFiles, type RepositoryFiles } from '../support/repository-files.ts';
import { sample, sha256 } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, type StoreEntry } from '../support/stores.ts';

const TRASH = '.restic-gateway/trash/';
const KILLED = 137;
/** Enough for the batch's minute to be over, and less than what S3 takes for a wrong clock. */
const LATER_MS = 600_000;
const FATE = pathToFileURL(path.resolve(import.meta.dirname, '../support/fate.mjs')).href;

interface Place {
  readonly store: StoreEntry;
  readonly configFile: string;
  readonly files: RepositoryFiles;
  readonly env: Readonly<Record<string, string>>;
}

async function makePlace(kind: string): Promise<Place> {
  const directory = tempDir();
  const store = await freshStore(kind === 'directory' ? 'directory' : 's3');
  if (kind === 's3 with versioning') Object.assign(store, { bucket: await newBucket({ versioning: true }) });
  const configFile = path.join(directory, 'gateway.yaml');
  writeFileSync(
    configFile,
    stringify({
      stores: { main: store },
      clients: {
        appsrv: { keys: [(await generateKey()).publicLine], access: 'full', repository: { store: 'main' } },
        byhand: { keys: [(await generateKey()).publicLine], access: 'full', repository: { store: 'main' } },
      },
      audit: { file: path.join(directory, 'audit.jsonl') },
    }),
  );
  const env = {
    ...{ NODE_OPTIONS: `--import ${FATE}`, FATE_UNDER: store['path'] ?? `/${store['bucket'] ?? ''}/` },
    ...{ RESTIC_PASSWORD: 'password', RESTIC_CACHE_DIR: path.join(directory, 'cache') },
    RESTIC_GATEWAY_RESTIC: lab().resticNewest,
  };
  return { store, configFile, files: repositoryFiles(store, 'byhand'), env };
}

describe.each(['directory', 's3', 's3 with versioning'])('on %s', (kind) => {
  let place: Place;
  beforeAll(async () => {
    place = await makePlace(kind);
  });

  const gateway = (args: readonly string[], fate: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    run(process.execPath, [GATEWAY, ...args, '-c', place.configFile], {
      env: { ...place.env, ...fate },
      timeoutMs: 120_000,
    });
  const inRepository = async (): Promise<readonly string[]> =>
    (await place.files.keys()).filter((key) => /^(?:data|index|snapshots|keys)\//.test(key)).sort();

  /** Everything that the storage has of an object anywhere: in its place, in the trash, or as a hidden version. */
  const everywhere = async (): Promise<ReadonlySet<string>> => {
    const keys = (await place.files.keys()).map((key) =>
      key.startsWith(TRASH) ? key.split('/').slice(3).join('/') : key,
    );
    if (kind !== 's3 with versioning') return new Set(keys);
    const { endpoint, region, accessKeyId, secretAccessKey } = s3();
    const sdk = new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true });
    const { Versions = [] } = await sdk.send(
      new ListObjectVersionsCommand({ Bucket: place.store['bucket'], Prefix: 'byhand/' }),
    );
    sdk.destroy();
    return new Set([...keys, ...Versions.map(({ Key = '' }) => Key.slice('byhand/'.length))]);
  };
  /** Of what can be seen, all has the content that its name says. */
  const nothingHalf = async (): Promise<void> => {
    for (const key of await place.files.keys()) {
      const name = key.split('/').at(-1) ?? '';
      if (/^[0-9a-f]{64}$/.test(name) && !key.includes('locks/'))
        expect({ key, hash: sha256(await place.files.read(key)) }).toEqual({ key, hash: name });
    }
  };

  /** Kills it after one change, again and again, until there is none to make. @returns how often it was killed */
  const killEachStep = async (args: readonly string[], after: () => Promise<void>, fate = {}): Promise<number> => {
    for (let kills = 0; kills < 100; kills += 1) {
      const { code, stderr } = await gateway(args, { ...fate, FATE_KILL_AFTER: '1' });
      await after();
      if (code === KILLED) continue;
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return kills;
    }
    throw new Error('it never comes to its end');
  };

  test('removing, bringing back and purging, killed after each change', async () => {
    const objects = ['snapshots', 'index', 'data', 'data', 'keys'].map((type) => ({ type, ...sample(400) }));
    const keys = objects.map(({ type, name }) =>
      type === 'data' ? `data/${name.slice(0, 2)}/${name}` : `${type}/${name}`,
    );
    const send = async (method: string, fate: Readonly<Record<string, string>> = {}): Promise<number> => {
      const client = startStdio(['byhand', '-c', place.configFile], { ...place.env, ...fate });
      for (const { type, name, body } of objects)
        await client
          .request(method, `/${type}/${name}`, method === 'POST' ? { body } : {})
          .then(({ status }) => {
            expect(status).toBe(200);
          })
          .catch((error: unknown) => {
            if (fate['FATE_KILL_AFTER'] === undefined) throw error;
          });
      client.end();
      return (await client.exited).status ?? KILLED;
    };
    await send('POST');
    expect(await inRepository()).toEqual([...keys].sort());

    // The gateway itself, in the middle of removals; after one change, two and so on, since each session has a batch of its own in the trash,
    // which it begins anew.
    let kills = 0;
    for (
      ;
      (await send('DELETE', { FATE_KILL_AFTER: String(1 + (kills % (kind === 'directory' ? 8 : 3))) })) !== 0;
      kills += 1
    ) {
      expect([...(await everywhere())]).toEqual(expect.arrayContaining(keys));
      expect(kills).toBeLessThan(50);
    }
    expect(kills).toBeGreaterThan(2);
    expect(await inRepository()).toEqual([]);
    await nothingHalf();

    const restored = await killEachStep(['trash', 'restore', 'byhand', '--all'], async () => {
      expect([...(await everywhere())]).toEqual(expect.arrayContaining(keys));
      // What points at others comes last.
      const back = await inRepository();
      if (back.some((key) => key.startsWith('snapshots/'))) expect(back).toEqual([...keys].sort());
      await nothingHalf();
    });
    expect(restored).toBeGreaterThan(2);
    expect(await inRepository()).toEqual([...keys].sort());

    await send('DELETE');
    const snapshot = keys.find((key) => key.startsWith('snapshots/')) ?? '';
    const hidden = async (): Promise<readonly string[]> => {
      const { stdout } = await gateway(['trash', 'list', 'byhand', '--json']);
      return [String((JSON.parse(stdout) as { objects: number }).objects)];
    };
    expect(await hidden()).toEqual([String(keys.length)]);
    const purged = await killEachStep(
      ['trash', 'purge', 'byhand', '--older-than', '1s', '--quiet'],
      async () => {
        // As long as the snapshot is there, so is all that it rests on.
        const left = await everywhere();
        if (left.has(snapshot)) expect([...left]).toEqual(expect.arrayContaining(keys));
      },
      { FATE_AHEAD_MS: String(LATER_MS) },
    );
    expect(purged).toBeGreaterThan(2);
    expect([...(await everywhere())].filter((key) => keys.includes(key))).toEqual([]);
    expect(await hidden()).toEqual(['0']);
  });

  // The steps are the same wherever they are made; a run of restic for each is dear.
  if (kind !== 'directory') return;

  test('restic’s forget and prune, killed after one change, after two, and so on, until it comes to its end', async () => {
    const admin = (args: readonly string[], fate = {}): Promise<Outcome> =>
      run(process.execPath, [GATEWAY, 'restic', 'appsrv', '-c', place.configFile, '--', ...args], {
        env: { ...place.env, ...fate },
        timeoutMs: 120_000,
      });
    const good = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await admin(args);
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
      return stdout;
    };
    const source = path.join(tempDir(), 'source');
    await makeTree(source, { files: 3, bytes: 200_000, seed: 'gone' });
    await good('init');
    await lightenKeys(place.store, 'appsrv');
    await good('backup', source, '--tag', 'gone');
    const since = new Date().toISOString();
    const other = path.join(tempDir(), 'source');
    await makeTree(other, { files: 3, bytes: 200_000, seed: 'stays' });
    await good('backup', other, '--tag', 'stays');
    const idOf = async (tag: string): Promise<string> =>
      (JSON.parse(await good('snapshots', '--json', '--tag', tag)) as { id: string }[])[0]?.id ?? '';
    const [gone, stays] = [await idOf('gone'), await idOf('stays')];

    let ended = false;
    for (let changes = 1; !ended; changes += 1) {
      await admin(['unlock', '--remove-all']);
      const { code } = await admin(['forget', gone, '--prune'], {
        FATE_KILL_AFTER: String(changes),
      });
      ended = code === 0;
      expect(changes).toBeLessThan(30);
    }
    await good('check', '--read-data');
    expect((await gateway(['trash', 'restore', 'appsrv', '--since', since])).code).toBe(0);
    await good('unlock', '--remove-all');
    await good('check', '--read-data');
    for (const [id, tree] of [
      [gone, source],
      [stays, other],
    ] as const) {
      const target = tempDir();
      await good('restore', id, '--target', target);
      expect(await sameTree(tree, path.join(target, tree))).toBe(true);
    }
  });
});
