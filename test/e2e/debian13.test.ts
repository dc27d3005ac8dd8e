/**
 * A Debian 13 as an admin has it: booted, with the distribution's own Node, OpenSSH, restic and cron, and from the package by the documented
 * commands to backups through both ways in, all that root does there, timers, and the end.
 */
import path from 'node:path';
import { beforeAll, expect, jest, test } from '@jest/globals';
import { bootDebian, type Machine } from '../support/booted-debian.ts';
import { lab, run } from '../support/lab.ts';

jest.setTimeout(240_000);
const ROOT = path.resolve(import.meta.dirname, '../..');

let machine: Machine;
let good: Machine['good'];

beforeAll(async () => {
  machine = await bootDebian(lab().debianTree);
  good = machine.good;
  const built = await run(process.execPath, ['scripts/packaging/deb.mjs', machine.shared], {
    cwd: ROOT,
    timeoutMs: 200_000,
  });
  expect(built).toMatchObject({ code: 0, stderr: '' });
});

/** The newest snapshots, through the unit's SSH server or the forced command. */
const restic = (how: string, command: string): string =>
  `RESTIC_PASSWORD=password restic --no-cache -r rclone:x -o rclone.program='ssh ${how}' ${command}`;

test('it is Debian 13 with its own Node, and systemd runs it', async () => {
  expect(
    await good(
      '. /etc/os-release; echo $VERSION_CODENAME; cat /proc/1/comm; readlink -f $(command -v node); node --version',
    ),
  ).toBe('trixie\nsystemd\n/usr/bin/node\nv20.19.2\n');
});

test('from the package to a backup through the unit, by the documented commands', async () => {
  await good('DEBIAN_FRONTEND=noninteractive apt-get -q -y install /lab/*.deb');
  expect(await good('dpkg --verify restic-gateway')).toBe('');
  const made = await good('restic-gateway init --dir /var/lib/restic-gateway/repositories');
  expect(made).toContain('all of it is for the user restic-gateway to use');
  await good('restic-gateway client add appsrv --generate --host 127.0.0.1 > block');
  await good('systemctl enable --now restic-gateway');
  // As soon as that command is over, without waiting
  await good('sed "/^#/!b" block | sed -n "/^mkdir/,/^END$/p" > client.sh; bash client.sh; mv appsrv_ed25519 .ssh/');
  await good("grep '^\\[127' block > .ssh/known_hosts");
  await good(restic('restic-gateway-appsrv', 'init'));
  await good(restic('restic-gateway-appsrv', 'backup /etc'));
  await good(
    `${restic('restic-gateway-appsrv', 'restore latest --path /etc --target back')} && diff -r --no-dereference /etc back/etc`,
  );
  // A second later, to be told from the first by its time
  await good(`sleep 1; date -u +%FT%TZ >since; ${restic('restic-gateway-appsrv', 'backup /usr/lib/systemd/user')}`);
});

test('every command that root runs goes on as the user of the gateway, and works', async () => {
  const commands = [
    ...['status', 'status appsrv', 'sessions', 'audit show', 'audit verify', 'check', 'check --live', 'client list'],
    ...[
      'client show appsrv',
      'scrub appsrv',
      'scrub --all --quick',
      'undo appsrv --since "$(cat since)"',
      'trash list appsrv',
    ],
    ...['trash purge --all', 'restic appsrv -- snapshots --no-cache', 'restic appsrv -- check --no-cache'],
  ];
  const outcomes = await good(
    commands
      .map(
        (command) =>
          `export RESTIC_PASSWORD=password\nrestic-gateway ${command} >out 2>&1; status=$?; echo '${command}:' $status; [ $status = 0 ] || cat out`,
      )
      .join('\n'),
  );
  expect(outcomes.trim().split('\n')).toEqual(commands.map((command) => `${command}: 0`));
  const owners = await good("find /var/lib/restic-gateway /var/log/restic-gateway -printf '%u:%g\\n' | sort -u");
  expect(owners).toBe('restic-gateway:restic-gateway\n');
});
