/** On what machine and between what versions a run took place. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { ROOT, run, type Peers } from './lab.ts';

/** Everything a reader needs to judge the numbers. */
interface Machine {
  readonly date: string;
  readonly cores: number;
  readonly processor: string;
  readonly memoryGiB: number;
  readonly node: string;
  readonly restic: string;
  readonly rclone: string;
  readonly openssh: string;
  /** The gateway's version, and its commit where it comes from git. */
  readonly gateway: string;
  /** Over 1, 5 and 15 minutes, when the run began: on a busy machine all numbers are worth less. */
  readonly loadAverage: readonly number[];
}

/** Describes this machine, the peers and the gateway. */
export async function describeMachine(peers: Peers): Promise<Machine> {
  const [restic, rclone, ssh, commit] = await Promise.all([
    run(peers.restic, ['version']),
    run(peers.rclone, ['version']),
    run(peers.ssh, ['-V']),
    run('git', ['-C', ROOT, 'describe', '--always', '--dirty', '--exclude=*']),
  ]);
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: availableParallelism(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    node: process.version.slice(1),
    restic: /\d+\.\d+\.\d+/.exec(restic.stdout)?.[0] ?? 'unknown',
    rclone: /\d+\.\d+\.\d+/.exec(rclone.stdout)?.[0] ?? 'unknown',
    openssh: /\d+\.\d+p\d+/.exec(ssh.stderr)?.[0] ?? 'unknown',
    gateway: commit.code === 0 ? `${version} (${commit.stdout.trim()})` : version,
    loadAverage: loadavg().map((load) => Math.round(load * 100) / 100),
  };
}

/** In one line. */
export function machineLine(machine: Machine): string {
  const { date, cores, processor, memoryGiB, node, restic, rclone, openssh, gateway, loadAverage } = machine;
  return (
    `${date}: ${cores} cores (${processor}), ${memoryGiB} GiB; gateway ${gateway}, Node ${node}, restic ${restic}, ` +
    `rclone ${rclone}, OpenSSH ${openssh}; load at the start ${loadAverage.join(' ')}`
  );
}
