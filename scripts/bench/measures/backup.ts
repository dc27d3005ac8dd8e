/** Backup and restore by restic: wall time, and the CPU time that the server side spends on it. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { alternate } from '../alternate.ts';
import type { Bench, Findings, Measure } from '../measure.ts';
import { restic, restored } from '../restic.ts';
import { rowsAgainstRclone } from '../rows.ts';
import { openSite, type SystemName } from '../site.ts';
import { freshStorage, type StorageKind } from '../storage.ts';
import { makeTree, mustBeSame } from '../tree.ts';

const MIB = 1024 * 1024;

/** What is backed up. */
interface Shape {
  readonly files: number;
  readonly bytes: number;
}

/** One GiB in few files, to S3 and to a directory; and many small files to S3. */
export const backups: readonly Measure[] = [
  {
    name: 'backup-s3',
    about: 'backup and restore of 1 GiB that does not compress, S3 behind (quick: 256 MiB)',
    quick: true,
    run: (bench) =>
      measure(bench, 's3', bench.quick ? { files: 4, bytes: 256 * MIB } : { files: 16, bytes: 1024 * MIB }),
  },
  {
    name: 'backup-directory',
    about: 'the same, a directory behind',
    quick: false,
    run: (bench) =>
      measure(bench, 'directory', bench.quick ? { files: 4, bytes: 256 * MIB } : { files: 16, bytes: 1024 * MIB }),
  },
  {
    name: 'small-files-s3',
    about: 'backup and restore of 20,000 small files, S3 behind (quick: 4,000)',
    quick: false,
    run: (bench) =>
      measure(bench, 's3', bench.quick ? { files: 4000, bytes: 40 * MIB } : { files: 20_000, bytes: 200 * MIB }),
  },
];

async function measure(bench: Bench, storage: StorageKind, shape: Shape): Promise<Findings> {
  const { lab, rounds, waysIn, configExtra } = bench;
  const systems = ['rclone', ...waysIn] as const;
  const source = path.join(lab.fastDirectory('source', 2 * shape.bytes), 'tree');
  makeTree(source, shape.files, shape.bytes);
  const backend = await freshStorage(lab, storage);
  const site = await openSite({ lab, backend, systems, clients: rounds, configExtra });

  const turn = async (name: SystemName, round: number): Promise<Record<string, number>> => {
    bench.say(`round ${round + 1} of ${rounds}: ${name}`);
    const system = site.systems[name];
    const { group } = system;
    /** Runs restic; its seconds, and the server side's CPU seconds a GiB until its last process has ended. */
    const timed = async (args: readonly string[]): Promise<{ readonly wall: number; readonly cpu: number }> => {
      await group.settle();
      const before = group.cpuSeconds();
      const { seconds: wall } = await restic(lab, system, round, args);
      await group.settle();
      // What the daemon does after the client has gone belongs to it too.
      await sleep(300);
      return { wall, cpu: ((group.cpuSeconds() - before) * 1024 * MIB) / shape.bytes };
    };
    await restic(lab, system, round, ['init']);
    const backup = await timed(['backup', '--quiet', source]);
    const target = lab.fastDirectory('target', shape.bytes);
    const restore = await timed(['restore', '--quiet', 'latest', '--target', target]);
    if (round === 0) await mustBeSame(source, restored(target, source));
    rmSync(target, { recursive: true });
    if (backend.type === 'directory') rmSync(path.join(backend.path, system.prefix(round)), { recursive: true });
    return { backup: backup.wall, restore: restore.wall, cpuUp: backup.cpu, cpuDown: restore.cpu };
  };

  try {
    const samples = await alternate(systems, rounds, turn, async (round) => {
      if (round > 0 && storage === 's3') await freshStorage(lab, storage);
    });
    const both = (atMost: number) => ({ ssh: { atMost }, stdio: { atMost } });
    // Few bytes in many files: there the work is not by the byte.
    const large = shape.files < 100;
    return {
      rows: rowsAgainstRclone(samples, waysIn, [
        { name: 'backup', what: 'backup, wall time', aims: both(0.85) },
        { name: 'restore', what: 'restore, wall time', aims: both(0.8) },
        {
          name: 'cpuUp',
          what: large ? 'server CPU a GiB, up' : 'server CPU, up',
          ...(large ? { aims: both(0.5) } : {}),
        },
        {
          name: 'cpuDown',
          what: large ? 'server CPU a GiB, down' : 'server CPU, down',
          ...(large ? { aims: both(0.5) } : {}),
        },
      ]),
      raw: samples,
    };
  } finally {
    await site.close();
    rmSync(source, { recursive: true });
  }
}
