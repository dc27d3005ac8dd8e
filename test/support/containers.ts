/** Containers as Docker and Podman run them: a Podman of the test file's own, of which nothing is left behind. Needs root. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import { messageOf } from '../../src/core/errors.ts';
import { run, startProcess, tempDir, type LabProcess, type Outcome } from './lab.ts';

/** A Podman that works. It ends with the test file, and all its containers with it. */
export interface Engine {
  /** Runs podman to its end. */
  readonly podman: (args: readonly string[], timeoutMs?: number) => Promise<Outcome>;
  /** As `podman`, of a call that must end with 0. @returns what it wrote to stdout */
  readonly good: (args: readonly string[], timeoutMs?: number) => Promise<string>;
  /** Starts a podman that keeps running, as `run` does in the foreground. */
  readonly start: (args: readonly string[]) => Promise<LabProcess>;
}

/**
 * In namespaces of its own, whose first process takes all of them with it, and with images, containers and locks in memory. It asks for little,
 * so that it runs in a privileged container of any CI: containers get no cgroups (crun wants to see a tree of some kind, so it sees an empty
 * one), and where the kernel has no overlayfs, each has a copy of its image.
 */
const OWN_PLACE = `
mount -t proc proc /proc && mount -t tmpfs tmpfs /sys/fs/cgroup || exit 1
for place in /var/lib/containers /run/containers /run/libpod /run/crun /dev/shm; do
  mkdir -p "$place" && mount -t tmpfs -o mode=755 tmpfs "$place" || exit 1
done
chmod 1777 /dev/shm
cd /var/lib/containers && mkdir lower upper work both
if mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay both 2>/dev/null; then umount both; driver=overlay; else driver=vfs; fi
echo "ready: $driver"
exec sleep infinity`;

/** @param limits - no higher than this process's own, which it may not raise */
const configOf = (limits: string): string => `
[containers]
cgroups = "disabled"
netns = "host"
log_driver = "k8s-file"
default_ulimits = [${limits}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
`;
const storageOf = (driver: string): string => `
[storage]
driver = "${driver}"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
`;

/** Starts a Podman that has no image yet. */
export async function startEngine(): Promise<Engine> {
  const directory = tempDir();
  // Of proc(5), "Max processes  SOFT  HARD  processes"; what root runs already counts for the latter.
  const own = readFileSync('/proc/self/limits', 'utf8');
  const most = (what: string): number => Number(new RegExp(`^Max ${what} +\\S+ +(\\d+)`, 'm').exec(own)?.[1] ?? 65_536);
  const [files, processes] = [most('open files'), most('processes') >> 1];
  const limits = `"nofile=${files}:${files}", "nproc=${processes}:${processes}"`;
  const env = {
    CONTAINERS_CONF: path.join(directory, 'containers.conf'),
    CONTAINERS_STORAGE_CONF: path.join(directory, 'storage.conf'),
  };
  writeFileSync(env.CONTAINERS_CONF, configOf(limits));
  const place = await startProcess('unshare', [
    ...['--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private'],
    ...['sh', '-c', OWN_PLACE],
  ]);
  const ready = await place.waitForLine(/^ready: /).catch((error: unknown) => {
    throw new Error(`to run containers takes root and the right to mount (CAP_SYS_ADMIN): ${messageOf(error)}`);
  });
  const driver = ready.slice('ready: '.length);
  writeFileSync(env.CONTAINERS_STORAGE_CONF, storageOf(driver));
  const first = await childOf(place.pid);
  // By this mark in its environment, what podman leaves running would be taken for podman's own, and end with it.
  const inPlace = ['--target', first, '--mount', '--pid', 'env', '--unset=LAB_PROCESS', 'podman'];
  const podman: Engine['podman'] = (args, timeoutMs = 300_000) =>
    run('nsenter', [...inPlace, ...args], { env, timeoutMs });
  return {
    podman,
    good: async (args, timeoutMs) => {
      const { code, stdout, stderr } = await podman(args, timeoutMs);
      expect({ args, code, ...(code === 0 ? {} : { stdout, stderr }) }).toEqual({ args, code: 0 });
      return stdout;
    },
    start: (args) => startProcess('nsenter', [...inPlace, ...args], { env }),
  };
}

async function childOf(parent: number): Promise<string> {
  for (const end = performance.now() + 180_000; performance.now() < end;) {
    const [child = ''] = (await run('pgrep', ['--parent', String(parent)])).stdout.split('\n');
    if (child !== '') return child;
    await sleep(20);
  }
  throw new Error('there is no process in the namespaces of the containers');
}
