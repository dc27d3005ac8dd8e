/**
 * A Debian 13 as an admin has it: booted, with the distribution's own Node, OpenSSH, restic and cron, and from the package by the documented
 * commands to backups through both ways in, all that root does there, timers, and the end.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from '@jest/globals';
import { bootDebian, type Machine } from '../support/booted-debian.ts';
import { lab, run } from '../support/lab.ts';

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

/** Lines of a unit's journal: what the program said, with its severity as in syslog. */
async function journalOf(unit: string): Promise<readonly { readonly severity: number; readonly line: string }[]> {
  const text = await good(`journalctl --sync; journalctl --unit=${unit} --output=json --no-pager`);
  return text
    .trim()
    .split('\n')
    .map((one) => JSON.parse(one) as Record<string, string>)
    .map((entry) => ({ severity: Number(entry['PRIORITY']), line: entry['MESSAGE'] ?? '' }));
}

/** Waits until a unit's journal has a line that matches, since what a process wrote may come after its end. @returns its severity */
async function severityOf(unit: string, pattern: RegExp): Promise<number> {
  for (const end = performance.now() + 180_000; ;) {
    const lines = await journalOf(unit);
    const found = lines.find(({ line }) => pattern.test(line));
    if (found !== undefined) return found.severity;
    if (performance.now() > end)
      throw new Error(`the journal of ${unit} has no line ${String(pattern)}: ${JSON.stringify(lines)}`);
    await sleep(200);
  }
}

/** restic through the gateway. @param how - arguments of ssh */
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
  // Looked at in the end
  await good(
    `echo '* * * * * root restic-gateway sessions >/root/cron.new 2>&1 && mv /root/cron.new /root/cron.out && touch /root/cron.good' >/etc/cron.d/gateway`,
  );
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

test('journal: plain lines with their severity, and what the status says', async () => {
  const lines = await journalOf('restic-gateway');
  const listening = lines.find(({ line }) => line.startsWith('listening on 0.0.0.0:2222, [::]:2222 for 1 client'));
  expect(listening).toEqual({
    severity: 6,
    line: 'listening on 0.0.0.0:2222, [::]:2222 for 1 client (config=/etc/restic-gateway/gateway.yaml)',
  });
  expect(lines.filter(({ line }) => line.startsWith('{'))).toEqual([]);
  expect(await good('systemctl show --property=StatusText --value restic-gateway')).toBe(
    'listening on 0.0.0.0:2222, [::]:2222 for 1 client\n',
  );
});

test('a reload takes up a good config, and fails with a broken one, which changes nothing', async () => {
  await good(
    'restic-gateway client add laptop --generate --host 127.0.0.1 >/dev/null && systemctl reload restic-gateway',
  );
  expect(await good('restic-gateway reload')).toBe('the config was read again: no client has changed\n');
  expect(await good('systemctl show --property=StatusText --value restic-gateway')).toBe(
    'listening on 0.0.0.0:2222, [::]:2222 for 2 clients\n',
  );
  await good(
    'cp -p /etc/restic-gateway/gateway.yaml good.yaml; echo "lisen: 0.0.0.0:2222" >>/etc/restic-gateway/gateway.yaml',
  );
  expect((await machine.shell('systemctl reload restic-gateway')).code).toBe(1);
  const broken = /^restic-gateway: \/etc\/restic-gateway\/gateway\.yaml:\d+:\d+: lisen: /;
  expect(await machine.shell('restic-gateway reload')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(broken),
  });
  expect(await severityOf('restic-gateway', broken)).toBe(3);
  expect(await good('systemctl is-active restic-gateway')).toBe('active\n');
  await good(restic('restic-gateway-appsrv', 'snapshots'));

  // A secret that is missing is wrong too
  await good(`cat good.yaml - >/etc/restic-gateway/gateway.yaml <<'END'
metrics: { listen: 127.0.0.1:9100, tokenFile: /etc/restic-gateway/token }
END`);
  expect((await machine.shell('systemctl reload restic-gateway')).code).toBe(1);
});

test('a start with a broken config fails, once, and the journal says why', async () => {
  // An upgrade of the package does not stop what runs
  const running = await good('systemctl show --property=MainPID restic-gateway');
  const upgraded = await machine.shell('DEBIAN_FRONTEND=noninteractive apt-get -q -y install --reinstall /lab/*.deb');
  expect(upgraded.stdout + upgraded.stderr).toContain('so the old version still runs');
  expect(await good('systemctl show --property=MainPID restic-gateway')).toBe(running);

  expect((await machine.shell('systemctl restart restic-gateway')).code).toBe(1);
  expect(
    await good('systemctl show --property=Result --property=ExecMainStatus --property=NRestarts restic-gateway | sort'),
  ).toBe('ExecMainStatus=2\nNRestarts=0\nResult=exit-code\n');
  expect(await severityOf('restic-gateway', /gateway\/token: there is no such file/)).toBe(3);
  await good(
    'cp -p good.yaml /etc/restic-gateway/gateway.yaml; systemctl reset-failed; systemctl start restic-gateway',
  );
});

test("systemd's credentials hold host key and token; a secret that others can read is refused", async () => {
  await good(`
mkdir -p /root/secrets /etc/systemd/system/restic-gateway.service.d
install -m 600 /etc/restic-gateway/ssh_host_ed25519_key /root/secrets/hostkey
(umask 077; head -c 24 /dev/urandom | base64 >/root/secrets/token)
cat >/etc/systemd/system/restic-gateway.service.d/credentials.conf <<'END'
[Service]
LoadCredential=hostkey:/root/secrets/hostkey
LoadCredential=token:/root/secrets/token
END
sed 's|^hostKeys:.*|hostKeys: [/run/credentials/restic-gateway.service/hostkey]|; /^  - .*ssh_host_ed25519_key/d' good.yaml >/etc/restic-gateway/gateway.yaml
cat >>/etc/restic-gateway/gateway.yaml <<'END'
metrics: { listen: 127.0.0.1:9100, tokenFile: /run/credentials/restic-gateway.service/token }
END
systemctl daemon-reload
systemctl restart restic-gateway
restic-gateway check --quiet
restic-gateway reload`);
  await good(restic('restic-gateway-appsrv', 'snapshots'));
  await good(
    `node -e 'fetch("http://127.0.0.1:9100/metrics", { headers: { authorization: "Bearer " + process.argv[1] } }).then(({ status }) => process.exit(status === 200 ? 0 : 1))' "$(cat /root/secrets/token)"`,
  );
  await good(`sed -i 's|/run/credentials/restic-gateway.service/token|/etc/restic-gateway/token|' /etc/restic-gateway/gateway.yaml
install -m 640 -g restic-gateway /root/secrets/token /etc/restic-gateway/token; systemctl reload restic-gateway || exit
chmod 644 /etc/restic-gateway/token`);
  expect((await machine.shell('systemctl reload restic-gateway')).code).toBe(1);
  expect(await severityOf('restic-gateway', /others than its owner can use this secret \(mode 0644\)/)).toBe(3);
  await good('cp -p good.yaml /etc/restic-gateway/gateway.yaml; systemctl restart restic-gateway');
});

test('the forced command under sshd, beside the unit', async () => {
  await good('ssh-keygen -q -A && systemctl restart ssh');
  const setUp = await good('restic-gateway sshd-setup --user restic-gateway | tee sshd-setup.out');
  expect(setUp).toContain('into /etc/ssh/sshd_config.d/restic-gateway.conf, then run');
  await good(`
sed -n '/^Match/,$p' sshd-setup.out >/etc/ssh/sshd_config.d/restic-gateway.conf
systemctl restart ssh
sed 's/^/127.0.0.1 /' /etc/ssh/ssh_host_ed25519_key.pub >>.ssh/known_hosts`);
  // Each way in, as its user; the unit's serve has the port meanwhile.
  expect(await good('restic-gateway check --live --user restic-gateway')).toContain('sshd: holds:');
  expect(await good('restic-gateway sshd-setup')).toContain('has the settings already');
  const forced = '-p 22 -l restic-gateway -i .ssh/appsrv_ed25519 -o BatchMode=yes 127.0.0.1';
  await good(restic(forced, 'backup /etc/ssh'));
  expect(
    await good(restic('restic-gateway-appsrv', 'snapshots --json | tr -d "\\n" | grep -o "\\"time\\"" | wc -l')),
  ).toBe('3\n');
  expect(await good('restic-gateway sessions --client appsrv --json | grep -c \'"via":"stdio"\'')).not.toBe('0\n');
});

test('the example units do what they are for', async () => {
  await good(`
cp /usr/share/doc/restic-gateway/examples/* /etc/systemd/system/ && systemctl daemon-reload
mkdir -m 700 /etc/restic-gateway/passwords
(umask 077; echo password >/etc/restic-gateway/passwords/appsrv)
sed -i 's/^  appsrv:$/&\\n    retention: { keep-daily: 7 }/' /etc/restic-gateway/gateway.yaml
systemctl reload restic-gateway
systemctl start restic-gateway-trash.service restic-gateway-retention@appsrv.service
systemctl enable --now restic-gateway-trash.timer restic-gateway-retention@appsrv.timer restic-gateway-extend.timer`);
  expect(await good('systemctl list-timers --all --no-legend | grep -o "restic-gateway[^ ]*timer" | sort')).toBe(
    'restic-gateway-extend.timer\nrestic-gateway-retention@appsrv.timer\nrestic-gateway-trash.timer\n',
  );
  // Without Object Lock there is nothing to extend: that is said, and the unit fails
  expect((await machine.shell('systemctl start restic-gateway-extend.service')).code).toBe(1);
  expect(await severityOf('restic-gateway-extend', /no client has a store with objectLock/)).toBe(3);
});

test('cron runs a command of root', async () => {
  await good('until [ -e cron.good ]; do sleep 1; done', 150_000);
  expect(await good('cat cron.out')).toContain('appsrv');
});

test('a stop lets a session end; purging the package keeps config, backups and audit', async () => {
  await good(`
mkfifo hold
ssh restic-gateway-appsrv restic <hold >/dev/null 2>&1 &
exec 9>hold
until find /var/log/restic-gateway -path '*/sessions/*' -type f | grep -q .; do sleep 0.2; done
systemctl stop --no-block restic-gateway
until systemctl show --property=StatusText --value restic-gateway | grep -q 'sessions may go on'; do sleep 0.1; done
exec 9>&-
until [ "$(systemctl is-active restic-gateway)" = inactive ]; do sleep 0.2; done`);
  expect(await good('systemctl show --property=Result --value restic-gateway')).toBe('success\n');
  const evidence =
    'cd / && find etc/restic-gateway var/lib/restic-gateway/repositories var/log/restic-gateway -type f -exec sha256sum {} + | sort';
  const before = await good(evidence);
  await good('DEBIAN_FRONTEND=noninteractive apt-get -q -y purge restic-gateway');
  expect(await good(evidence)).toBe(before);
  expect(before).toContain('audit.jsonl');
  expect(
    await good('! command -v restic-gateway; systemctl --failed --no-legend; getent passwd restic-gateway'),
  ).toContain('restic-gateway');
});
