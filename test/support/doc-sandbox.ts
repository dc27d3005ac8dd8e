/**
 * A host for the commands of the documentation: /etc, /var/lib, /var/log, /srv and /usr/local/bin of its own, and a network of its own, so that
 * they run as they stand there, with their names, paths and ports. Needs root, as mounts and a network of one's own do.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT } from './doc-fences.ts';
import { lab, run, type Outcome } from './lab.ts';

/** The host. */
export interface DocSandbox {
  /** Path of a file there as this process sees it: `/etc/restic-gateway/x`, `/root/x`, `/work/x`. */
  file(inside: string): string;
  /** Runs a script of bash that ends at its first error, in the admin's or the client's working directory. */
  run(script: string, env?: Readonly<Record<string, string>>): Promise<Outcome>;
  /** As cron does: by sh, with no more of an environment than the crontab has. */
  cron(command: string, env: Readonly<Record<string, string>>): Promise<Outcome>;
  /** Starts what keeps running. @returns what it has printed so far */
  background(script: string): () => string;
  close(): void;
}

/** What a host has of its own; the rest is this machine's. */
const MOUNTED = ['/etc', '/var/lib', '/var/log', '/srv', '/usr/local/bin'];
const PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin';
/** SIOCSIFFLAGS with IFF_UP and IFF_RUNNING: `ip link set lo up`, where there is no ip. */
const LOOPBACK_UP =
  'socket(my $s, 2, 2, 0) or die; my $r = pack("a16s", "lo", 0x41); ioctl($s, 0x8914, $r) or die "loopback: $!";';

export async function startDocSandbox(): Promise<DocSandbox> {
  const root = mkdtempSync(path.join(tmpdir(), 'docs-host-'));
  chmodSync(root, 0o755);
  const at = (inside: string): string => path.join(root, inside);
  for (const directory of [...MOUNTED, '/root/.ssh', '/work']) mkdirSync(at(directory), { recursive: true });
  cpSync('/etc', at('/etc'), {
    recursive: true,
    verbatimSymlinks: true,
    // The test of the packages may have installed one on this machine just now.
    filter: (file) => !file.startsWith('/etc/ssl/private') && !file.startsWith('/etc/restic-gateway'),
  });
  const others = (file: string): string => readFileSync(file, 'utf8').replace(/^restic-gateway:.*\n/gm, '');
  const passwd = others('/etc/passwd').replace(/^root:.*$/m, `root:x:0:0:root:${at('/root')}:/bin/bash`);
  writeFileSync(
    at('/etc/passwd'),
    `${passwd}restic-gateway:x:61111:61111::/var/lib/restic-gateway:/usr/sbin/nologin\n`,
  );
  writeFileSync(at('/etc/group'), `${others('/etc/group')}restic-gateway:x:61111:\n`);
  writeFileSync(at('/etc/hosts'), '127.0.0.1 localhost gateway.example.com s3.example.com\n');
  writeFileSync(at('/srv/data'), 'what is backed up\n'.repeat(1000));
  symlinkSync(path.join(ROOT, 'bin/restic-gateway'), at('/usr/local/bin/restic-gateway'));
  for (const [name, file] of [
    ['node', process.execPath],
    ['restic', lab().resticNewest],
  ] as const)
    cpSync(file, at(`/usr/local/bin/${name}`), { dereference: true });

  // Whoever runs the tests has installed and built already.
  writeFileSync(at('/usr/local/bin/npm'), '#!/bin/sh\n', { mode: 0o755 });

  const leader = spawn(
    'unshare',
    [
      ...['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-euc'],
      `for place in ${MOUNTED.join(' ')}; do mount --rbind "$1$place" "$place"; done
       perl -e '${LOOPBACK_UP}'
       touch "$1/ready"
       exec sleep infinity`,
      ...['bash', root],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let trouble = '';
  leader.stderr.on('data', (data: Buffer) => (trouble += data.toString()));
  while (!existsSync(at('/ready'))) {
    if (leader.exitCode !== null) throw new Error(`the host of the docs did not start: ${trouble}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const children = readFileSync(`/proc/${leader.pid}/task/${leader.pid}/children`, 'utf8').trim();

  const inside = (env: Readonly<Record<string, string>>, ...command: string[]): string[] => [
    ...['--target', children, '--mount', '--net', '--pid', 'env', '-i'],
    ...Object.entries({ HOME: at('/root'), ...env }).map(([name, value]) => `${name}=${value}`),
    ...command,
  ];
  /** root's home is another one here; files of it are named by their path in the docs. */
  const placed = (script: string): string => script.replace(/(?<![\w.])\/root(?=\/)/g, at('/root'));
  const there = (script: string): string => `cd ${at('/work')}\n${placed(script)}`;
  const admin = (env: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> => ({
    PATH,
    SHELL: '/bin/bash',
    RESTIC_PASSWORD_FILE: at('/root/restic.password'),
    ...{ ROOT, WORK: at('/work') },
    ...env,
  });
  return {
    file: at,
    run: (script, env) => run('nsenter', inside(admin(env), 'bash', '-euo', 'pipefail', '-c', there(script))),
    cron: (command, env) => {
      const own = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, placed(value)]));
      return run('nsenter', inside({ PATH: '/usr/bin:/bin', ...own }, '/bin/sh', '-c', placed(command)));
    },
    background: (script) => {
      let printed = '';
      const child = spawn('nsenter', inside(admin(), 'bash', '-euc', there(script)), {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (data: Buffer) => (printed += data.toString()));
      return () => printed;
    },
    close: () => {
      // Takes all that runs there along.
      leader.kill('SIGKILL');
      rmSync(root, { recursive: true, force: true });
    },
  };
}
