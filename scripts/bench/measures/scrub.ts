/** Scrub of a repository on S3, against rclone reading and hashing the same data from the same server. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { stringify } from 'yaml';
import { alternate, valuesOf, type Sample } from '../alternate.ts';
import { GATEWAY, must, run, s3Client } from '../lab.ts';
import type { Bench, Findings, Measure } from '../measure.ts';
import { makePacks } from '../session.ts';
import { configureRclone } from '../site.ts';
import { ratios } from '../statistics.ts';
import { freshStorage } from '../storage.ts';

const MIB = 1024 * 1024;
const PACK_BYTES = 16 * MIB;
const PREFIX = 'client';

/** 64 packs of 16 MiB. */
export const scrub: Measure = {
  name: 'scrub-s3',
  about: 'scrub of 1 GiB, S3 behind, against rclone hashsum sha256 --download (quick: 256 MiB)',
  quick: false,
  run: measure,
};

async function measure(bench: Bench): Promise<Findings> {
  const { lab, rounds, quick } = bench;
  const backend = await freshStorage(lab, 's3');
  if (backend.type !== 's3') throw new Error('it is on S3');
  const { bucket, secretAccessKey, ...access } = backend;
  const client = s3Client(backend);
  const packs = makePacks(quick ? 16 : 64, PACK_BYTES);
  for (const { name, body } of packs) {
    const Key = `${PREFIX}/data/${name.slice(0, 2)}/${name}`;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.concat(body) }));
  }
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${PREFIX}/config`, Body: 'config' }));
  client.destroy();

  const place = lab.directory('scrub');
  const [config, secret, key] = [path.join(place, 'gateway.yaml'), path.join(place, 'secret'), path.join(place, 'key')];
  writeFileSync(secret, secretAccessKey, { mode: 0o600 });
  await must(run(lab.peers.sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', 'bench', '-f', key]));
  const { stdout: line } = await must(run('cat', [`${key}.pub`]));
  writeFileSync(
    config,
    stringify({
      stores: { store: { ...access, bucket, secretAccessKeyFile: secret } },
      clients: { [PREFIX]: { keys: [line.trim()], repository: { store: 'store', prefix: PREFIX } } },
      audit: { file: path.join(place, 'audit.jsonl') },
    }),
  );
  const env = configureRclone(backend, place);

  const turn = async (name: 'scrub' | 'rclone', round: number): Promise<Sample> => {
    bench.say(`round ${round + 1} of ${rounds}: ${name}`);
    const { seconds, stdout } =
      name === 'scrub'
        ? await must(run(lab.node, [GATEWAY, 'scrub', PREFIX, '--restart', '--json', '-c', config]))
        : await must(run(lab.peers.rclone, ['hashsum', 'sha256', '--download', `store:${bucket}/${PREFIX}`], { env }));
    // Both have read all of it.
    if (
      name === 'scrub'
        ? !stdout.includes(`"objects":${packs.length + 1}`)
        : !packs.every((pack) => stdout.includes(`${pack.name}  data/`))
    )
      throw new Error(`${name} did not read everything: ${stdout.slice(0, 500)}`);
    return { seconds };
  };
  const samples = await alternate(['rclone', 'scrub'] as const, rounds, turn);
  return {
    rows: [
      {
        what: `reading and hashing ${(packs.length * PACK_BYTES) / MIB} MiB, wall time`,
        of: 'scrub, to rclone hashsum',
        unit: 'ratio',
        values: ratios(valuesOf(samples.scrub, 'seconds'), valuesOf(samples.rclone, 'seconds')),
        aim: { atMost: 1 },
      },
    ],
    raw: samples,
  };
}
