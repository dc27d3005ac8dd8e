/** Lists of a large repository: bare, and as restic needs them. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { alternate, type Sample } from '../alternate.ts';
import { s3Client } from '../lab.ts';
import type { Bench, Findings, Measure } from '../measure.ts';
import { restic } from '../restic.ts';
import { rowsAgainstRclone } from '../rows.ts';
import { createSessions } from '../session.ts';
import { openSite, type Backend, type SystemName } from '../site.ts';
import { freshStorage, type StorageKind } from '../storage.ts';
import { makeTree } from '../tree.ts';

const AT_ONCE = 48;

/** Listing 100,000 packs. */
export const lists: readonly Measure[] = [
  {
    name: 'list-s3',
    about: 'a repository of 100,000 packs, S3 behind: its list, restic snapshots, restic check (quick: 10,000)',
    quick: true,
    run: (bench) => measure(bench, 's3'),
  },
  {
    name: 'list-directory',
    about: 'the same, a directory behind',
    quick: false,
    run: (bench) => measure(bench, 'directory'),
  },
];

async function measure(bench: Bench, storage: StorageKind): Promise<Findings> {
  const { lab, rounds, quick, waysIn, configExtra } = bench;
  const systems = ['rclone', ...waysIn] as const;
  const packs = quick ? 10_000 : 100_000;
  const backend = await freshStorage(lab, storage);
  const site = await openSite({ lab, backend, systems, clients: 1, shared: true, configExtra });
  const sessions = await createSessions(lab);

  const turn = async (name: SystemName, round: number): Promise<Sample> => {
    bench.say(`round ${round + 1} of ${rounds}: ${name}`);
    const system = site.systems[name];
    const opened = await sessions.open(system.session(0));
    await opened.request('GET', '/file-1', [404]);
    const started = performance.now();
    const { bytes } = await opened.request('GET', '/data/', [200], {
      headers: { accept: 'application/vnd.x.restic.rest.v2' },
    });
    const list = (performance.now() - started) / 1000;
    await opened.close();
    // {"name":"64 digits","size":1} and a comma each.
    if (bytes < packs * 84) throw new Error(`${name} listed too little: ${bytes} bytes`);
    const snapshots = await restic(lab, system, 0, ['snapshots', '--no-lock']);
    const check = await restic(lab, system, 0, ['check', '--no-lock']);
    return { list, snapshots: snapshots.seconds, check: check.seconds };
  };

  try {
    const source = path.join(lab.directory('source'), 'tree');
    makeTree(source, 10, 10 * 1024 * 1024);
    await restic(lab, site.systems.rclone, 0, ['init']);
    await restic(lab, site.systems.rclone, 0, ['backup', '--quiet', source]);
    bench.say(`making ${packs} packs`);
    await makeObjects(backend, site.systems.rclone.prefix(0), packs);
    const samples = await alternate(systems, rounds, turn);
    const aims = { ssh: { atMost: 0.4 }, stdio: { atMost: 0.4 } };
    return {
      rows: rowsAgainstRclone(samples, waysIn, [
        { name: 'list', what: `list of ${packs.toLocaleString('en')} packs`, aims },
        { name: 'snapshots', what: 'restic snapshots' },
        { name: 'check', what: 'restic check' },
      ]),
      raw: samples,
    };
  } finally {
    sessions.close();
    await site.close();
  }
}

/** Puts small objects where restic looks for packs. */
async function makeObjects(backend: Backend, prefix: string, count: number): Promise<void> {
  const keys = Array.from({ length: count }, () => {
    const name = randomBytes(32).toString('hex');
    return `${prefix}/data/${name.slice(0, 2)}/${name}`;
  });
  if (backend.type === 'directory') {
    for (let first = 0; first < 256; first++)
      mkdirSync(path.join(backend.path, prefix, 'data', first.toString(16).padStart(2, '0')), { recursive: true });
    for (const key of keys) writeFileSync(path.join(backend.path, key), '1');
    return;
  }
  const client = s3Client(backend);
  const worker = async (): Promise<void> => {
    for (let Key = keys.pop(); Key !== undefined; Key = keys.pop())
      await client.send(new PutObjectCommand({ Bucket: backend.bucket, Key, Body: '1' }));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  client.destroy();
}
