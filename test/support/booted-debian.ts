/** A whole Debian with systemd as its process 1, booted in namespaces of its own from the lab's tree, which stays as it is. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect } from '@jest/globals';
import { run, startProcess, tempDir, type Outcome } from './lab.ts';

/** A machine that runs. It ends with the test file. */
export interface Machine {
  /** A directory of this machine and of that one, where it is `/lab`. */
  readonly shared: string;
  /** Runs a script of bash there, as root in /root with nothing in the environment, to its end. */
  readonly shell: (script: string, timeoutMs?: number) => Promise<Outcome>;
  /** As `shell`, of a script that must end with 0. @returns what it wrote to stdout */
  readonly good: (script: string, timeoutMs?: number) => Promise<string>;
}

/**
 * In a cgroup of its own, so that two at once do not share systemd's; what is left of it goes with the machine. Of the two trees a machine
 * without systemd may have both.
 */
const IN_OWN_CGROUP = `
for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  [ -e "$tree/cgroup.procs" ] || continue
  mkdir "$tree/$0" && echo $$ >"$tree/$0/cgroup.procs" || exit 1
done
exec "$@"`;
const LEAVE_NO_CGROUP = `
for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  [ ! -d "$tree/$0" ] || find "$tree/$0" -depth -type d -exec rmdir {} \\;
done`;

const machines: (() => Promise<void>)[] = [];
afterAll(async () => {
  await Promise.all(machines.splice(0).map((end) => end()));
});

/**
 * Boots a machine and waits until its systemd has started everything.
 * @param tree - its file system; what the machine writes is in memory and gone at its end
 * @param mounts - more of this machine's directories to be seen there, read-only: there by here
 */
export async function bootDebian(tree: string, mounts: Readonly<Record<string, string>> = {}): Promise<Machine> {
  const name = `lab-${randomBytes(6).toString('hex')}`;
  const shared = tempDir();
  const options = [
    ...['--quiet', '--boot', `--directory=${tree}`, '--volatile=overlay', `--machine=${name}`, '--hostname=trixie'],
    // This machine need not have a systemd that would know of it, and it gets no network but its own loopback.
    ...['--register=no', '--keep-unit', '--private-network', '--console=read-only', `--bind=${shared}:/lab`],
    // By which the lab finds what is to end with a test, whatever becomes of nspawn.
    ...['--setenv=LAB_PROCESS', '--setenv=LAB_RUN_ID'],
    ...Object.entries(mounts).map(([there, here]) => `--bind-ro=${here}:${there}`),
  ];
  const booted = await startProcess(
    'sh',
    ['-c', IN_OWN_CGROUP, name, 'systemd-nspawn', ...options, 'systemd.show_status=0'],
    // As Debian 13 has it, whatever this machine has.
    { env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' } },
  );
  machines.push(async () => {
    booted.signal('SIGKILL');
    await booted.exited;
    await run('sh', ['-c', LEAVE_NO_CGROUP, name]);
  });
  const first = await firstProcessOf(booted.pid, () => booted.lines.join('\n'));
  const shell: Machine['shell'] = (script, timeoutMs = 300_000) =>
    run(
      'nsenter',
      [
        ...['--target', first, '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--'],
        ...[
          '/usr/bin/env',
          '-i',
          'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
          'HOME=/root',
          'LC_ALL=C.UTF-8',
          'SHELL=/bin/bash',
        ],
        ...['/bin/bash', '-c', `cd /root\n${script}`],
      ],
      { timeoutMs },
    );
  const good: Machine['good'] = async (script, timeoutMs) => {
    const { code, stdout, stderr } = await shell(script, timeoutMs);
    expect({ script, code, ...(code === 0 ? {} : { stdout, stderr }) }).toEqual({ script, code: 0 });
    return stdout;
  };
  const { stdout } = await shell('systemctl is-system-running --wait');
  if (!/^(running|degraded)$/m.test(stdout)) throw new Error(`systemd says ${stdout}; ${booted.lines.join('\n')}`);
  return { shared, shell, good };
}

/** The process of this machine that is process 1 of that one, once systemd answers there. */
async function firstProcessOf(nspawn: number, said: () => string): Promise<string> {
  for (const end = performance.now() + 180_000; performance.now() < end;) {
    await sleep(50);
    const [pid] = (await run('pgrep', ['--parent', String(nspawn)])).stdout.split('\n');
    if (pid === undefined || pid === '') continue;
    const asked = await run('nsenter', [
      '--target',
      pid,
      '--mount',
      '--pid',
      '--',
      '/usr/bin/test',
      '-S',
      '/run/dbus/system_bus_socket',
    ]);
    if (asked.code === 0) return pid;
  }
  throw new Error(`Debian did not boot: ${said()}`);
}
