/** Packs through one and many sessions without restic, whose own work hides the server's; and what there is to gain at all. */
import { Readable } from 'node:stream';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { alternate, valuesOf, type Sample } from '../alternate.ts';
import { s3Client } from '../lab.ts';
import type { Bench, Findings, Measure, Row } from '../measure.ts';
import { rowOfOne, rowsAgainstRclone } from '../rows.ts';
import { createSessions, makePacks, type Pack, type Session } from '../session.ts';
import { openSite, type Backend, type SiteOptions, type System, type SystemName } from '../site.ts';
import { ratios } from '../statistics.ts';
import { freshStorage } from '../storage.ts';
import { download, mustHold, STREAMS, upload } from '../transfer.ts';

const MIB = 1024 * 1024;
const PACK = 16 * MIB;
const SYSTEMS = ['rclone', 'ssh', 'stdio'] as const;

/** Raw load. */
export const loads: readonly Measure[] = [
  { name: 'raw-load', about: 'packs of 16 MiB by 1, 8 and 32 sessions at once, S3 behind', quick: false, run: rawLoad },
  { name: 'raw-sdk', about: 'packs by one session, against the AWS SDK by itself', quick: false, run: againstSdk },
  { name: 'two-clients', about: 'packs by two sessions at once, against one', quick: false, run: twoClients },
];

async function rawLoad(bench: Bench): Promise<Findings> {
  const rows: Row[] = [];
  const raw: Record<string, unknown> = {};
  for (const count of [1, 8, 32]) {
    const packs = makePacks(bench.quick ? 32 : 64, PACK);
    const samples = await withSite(bench, SYSTEMS, ({ turn }) =>
      turn(SYSTEMS, (open) => open(count, (sessions) => upAndDown(sessions, packs))),
    );
    const sessions = count === 1 ? '1 session' : `${count} sessions`;
    rows.push(
      ...rowsAgainstRclone(
        samples,
        ['ssh', 'stdio'],
        [
          { name: 'up', what: `${sessions}: time for packs up` },
          { name: 'down', what: `${sessions}: time for packs down` },
        ],
      ),
    );
    raw[sessions] = samples;
  }
  return { rows, raw };
}

async function againstSdk(bench: Bench): Promise<Findings> {
  const packs = makePacks(bench.quick ? 16 : 48, PACK);
  const samples = await withSite(bench, ['ssh'], ({ turn, backend }) =>
    turn(['sdk', 'ssh'], async (open, name) =>
      name === 'sdk'
        ? { up: await uploadBySdk(backend, packs) }
        : open(1, async (sessions) => ({ up: await upload(sessions, packs) })),
    ),
  );
  const values = ratios(valuesOf(samples.sdk, 'up'), valuesOf(samples.ssh, 'up'));
  const of = 'SSH server, to the AWS SDK alone';
  return {
    rows: [{ what: '1 session: throughput up', of, unit: 'ratio', values, aim: { atLeast: 0.8 } }],
    raw: samples,
  };
}

async function twoClients(bench: Bench): Promise<Findings> {
  const packs = [makePacks(bench.quick ? 16 : 32, PACK), makePacks(bench.quick ? 32 : 64, PACK)] as const;
  const samples = await withSite(bench, SYSTEMS, ({ turn }) =>
    turn(SYSTEMS, async (open): Promise<Sample> => {
      const one = await open(1, (sessions) => upAndDown(sessions, packs[0]));
      const two = await open(2, (sessions) => upAndDown(sessions, packs[1]));
      return { up: (2 * one.up) / two.up, down: (2 * one.down) / two.down };
    }),
  );
  return {
    rows: (['up', 'down'] as const).flatMap((way) =>
      SYSTEMS.map((system) => {
        const what = `2 clients: throughput ${way}, to 1 client`;
        return rowOfOne(what, system, 'ratio', samples[system], (sample) => sample[way] ?? NaN);
      }),
    ),
    raw: samples,
  };
}

async function upAndDown(sessions: readonly Session[], packs: readonly Pack[]): Promise<{ up: number; down: number }> {
  const up = await upload(sessions, packs);
  const down = await download(sessions, packs);
  const [session, pack] = [sessions[0], packs[0]];
  if (session !== undefined && pack !== undefined) await mustHold(session, pack);
  return { up, down };
}

/** Opens so many sessions, hands them over and closes them. */
type Open = <T>(count: number, use: (sessions: readonly Session[]) => Promise<T>) => Promise<T>;

/** Lets the contenders take turns on a storage that is new each round; each with a repository of its own in each round. */
type Turns = <Name extends SystemName | 'sdk'>(
  contenders: readonly Name[],
  turn: (open: Open, name: Name) => Promise<Sample>,
) => Promise<Record<Name, readonly Sample[]>>;

async function withSite<T>(
  bench: Bench,
  systems: SiteOptions<SystemName>['systems'],
  use: (site: { readonly turn: Turns; readonly backend: Extract<Backend, { type: 's3' }> }) => Promise<T>,
): Promise<T> {
  const { lab, rounds, configExtra } = bench;
  const backend = await freshStorage(lab, 's3');
  if (backend.type !== 's3') throw new Error('not the storage that was asked for');
  const site = await openSite({ lab, backend, systems, clients: rounds, configExtra });
  const factory = await createSessions(lab);
  const opener =
    (system: System, round: number): Open =>
    async (count, take) => {
      const opened: Session[] = [];
      try {
        for (let index = 0; index < count; index++) {
          const next = await factory.open(system.session(round));
          opened.push(next);
          await next.request('GET', '/file-1', [404]);
        }
        return await take(opened);
      } finally {
        await Promise.all(opened.map((each) => each.close()));
      }
    };
  const noSessions: Open = () => Promise.reject(new Error('the AWS SDK has no sessions'));
  try {
    return await use({
      backend,
      turn: (contenders, turn) =>
        alternate(
          contenders,
          rounds,
          (name, round) => {
            bench.say(`round ${round + 1} of ${rounds}: ${name}`);
            const system = Object.values(site.systems).find((each) => each.name === name);
            return turn(system === undefined ? noSessions : opener(system, round), name);
          },
          async (round) => {
            if (round > 0) await freshStorage(lab, 's3');
          },
        ),
    });
  } finally {
    factory.close();
    await site.close();
  }
}

/** What the SDK can do: the name as the payload's hash, so that it hashes nothing, and as many at once as a session has. @returns seconds */
async function uploadBySdk(backend: Extract<Backend, { type: 's3' }>, packs: readonly Pack[]): Promise<number> {
  const client = s3Client(backend);
  const left = [...packs];
  const put = async (): Promise<void> => {
    for (let pack = left.pop(); pack !== undefined; pack = left.pop()) {
      const { name, body, size } = pack;
      const command = new PutObjectCommand({
        Bucket: backend.bucket,
        Key: `sdk/${name}`,
        Body: Readable.from(body, { objectMode: false }),
        ContentLength: size,
      });
      command.middlewareStack.add(
        (next) => (args) => {
          (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = name;
          return next(args);
        },
        { step: 'build' },
      );
      await client.send(command);
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: STREAMS }, put));
  const seconds = (performance.now() - started) / 1000;
  client.destroy();
  return seconds;
}
