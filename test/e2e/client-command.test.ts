/** `client`: from a key to a backup by the printed lines alone, and the running gateway follows each change. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, lab, run, tempDir, type Outcome } from '../support/lab.ts';
import { freshStore, type StoreEntry } from '../support/stores.ts';

let gateway: RunningGateway;
let store: StoreEntry;
const home = tempDir();

const client = (...args: string[]): Promise<Outcome> =>
  run(process.execPath, [GATEWAY, 'client', ...args, '-c', gateway.configFile], { cwd: home });

/** Runs lines as a shell of the client's would, with its home here; ssh takes home from the system, and is told this one. */
async function onClient(lines: string): Promise<Outcome> {
  const bin = path.join(home, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(path.join(bin, 'restic'), `#!/bin/sh\nexec '${lab().resticNewest}' "$@"\n`);
  writeFileSync(
    path.join(bin, 'ssh'),
    `#!/bin/sh\nsed "s|~|${home}|" ${home}/.ssh/config > ${home}/config\n` +
      `exec '${lab().ssh}' -F ${home}/config -o UserKnownHostsFile=${home}/.ssh/known_hosts -o BatchMode=yes "$@"\n`,
  );
  for (const name of ['restic', 'ssh']) chmodSync(path.join(bin, name), 0o755);
  return run('sh', ['-e', '-c', lines], {
    cwd: home,
    env: { HOME: home, PATH: `${bin}:${process.env['PATH'] ?? ''}`, RESTIC_CACHE_DIR: path.join(home, 'cache') },
    timeoutMs: 120_000,
  });
}

beforeAll(async () => {
  store = await freshStore('directory');
  gateway = await startGateway(tempDir(), { stores: { main: store }, clients: {} });
});

const reloaded = async (change: () => Promise<Outcome>): Promise<Outcome> => {
  const before = gateway.process.lines.filter((line) => /the config was read again/.test(line)).length;
  const done = await change();
  expect(done.stderr + String(done.code)).toMatch(/0$/);
  const until = Date.now() + 180_000;
  while (gateway.process.lines.filter((line) => /the config was read again/.test(line)).length === before) {
    if (Date.now() > until)
      throw new Error(`the gateway took nothing up; it said: ${gateway.process.lines.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return done;
};

describe('client', () => {
  let printed: string;

  test('add --generate: OpenSSH reads the key, and the printed lines make a backup as they stand', async () => {
    const added = await reloaded(() => client('add', 'appsrv', '--generate'));
    const key = path.join(home, 'appsrv_ed25519');
    expect(statSync(key).mode & 0o777).toBe(0o600);
    const derived = await run(lab().sshKeygen, ['-y', '-f', key]);
    expect(derived.stdout).toBe(readFileSync(`${key}.pub`, 'utf8'));
    const listed = await run(lab().sshKeygen, ['-l', '-f', key]);
    const shown = await client('show', 'appsrv', '--json');
    const fingerprint = (JSON.parse(shown.stdout) as { keys: { fingerprint: string }[] }).keys[0]?.fingerprint ?? '';
    expect(listed.stdout).toContain(fingerprint);

    mkdirSync(path.join(home, '.ssh'), { mode: 0o700 });
    copyFileSync(key, path.join(home, '.ssh/appsrv_ed25519'));
    printed = added.stdout;
    const done = await onClient(printed.replace(/backup \/etc$/m, `backup ${path.dirname(GATEWAY)}`));
    expect(done.stdout + done.stderr).toMatch(/snapshot [0-9a-f]{8} saved/);
    expect(done.code).toBe(0);
  });

  test('so do the printed cron line, and the units of systemd, which are as systemd has them', async () => {
    const [, timer = ''] = printed.split('# Then daily');
    const units = timer.replace(/^.*\n/, '').replace(/^#(?: {3})?/gm, '');
    const place = path.join(home, 'units');
    mkdirSync(place);
    const [blocks = '', cron = ''] = units.split(' Or by cron, a line of "crontab -e" of any user:\n');
    const made = blocks.replaceAll('/etc/systemd/system', place).replace(/^systemctl .*$/m, '');
    expect((await onClient(made)).code).toBe(0);
    const service = path.join(place, 'restic-gateway-appsrv.service');
    const text = readFileSync(service, 'utf8');
    writeFileSync(service, text.replace('ExecStart=restic', `ExecStart=${path.join(home, 'bin/restic')}`));
    const verified = await run('systemd-analyze', ['verify', service, path.join(place, 'restic-gateway-appsrv.timer')]);
    expect(verified.stderr).toBe('');
    expect(verified.code).toBe(0);
    const words = `${/^Environment=(.*)$/m.exec(text)?.[1]?.replaceAll('%h', '$HOME') ?? ''} ${/^ExecStart=(.*)$/m.exec(text)?.[1] ?? ''}`;
    const [, command = ''] = /^\S+ 2 \* \* \* (.*)$/m.exec(cron) ?? [];
    for (const line of [words, command]) {
      const done = await onClient(line.replace('backup /etc', `backup ${path.dirname(GATEWAY)}`).replace('-q', '-v'));
      expect([line, done.code, done.stderr]).toEqual([line, 0, '']);
      expect(done.stdout).toMatch(/snapshot [0-9a-f]{8} saved/);
    }
  });

  test('a gateway that answers no more does not hold the client’s ssh', async () => {
    const config = path.join(home, '.ssh/config');
    const written = readFileSync(config, 'utf8');
    expect(written).toMatch(/ServerAliveInterval 15\n {4}ServerAliveCountMax 4\n/);
    expect(written).toMatch(/ConnectTimeout 60\n/);
    writeFileSync(
      config,
      written
        .replace('ServerAliveInterval 15', 'ServerAliveInterval 1')
        .replace('ConnectTimeout 60', 'ConnectTimeout 2'),
    );
    const started = (): number => gateway.process.lines.filter((line) => /session started/.test(line)).length;
    const before = started();
    const waiting = onClient(
      'mkfifo input; exec 3<>input; ssh restic-gateway-appsrv serve restic --stdio <&3 >/dev/null || echo ended $?',
    );
    try {
      while (started() === before) await new Promise((resolve) => setTimeout(resolve, 50));
      gateway.process.signal('SIGSTOP');
      expect((await waiting).stdout).toBe('ended 255\n');
      // The kernel still takes connections, and nobody says a word on them.
      expect((await onClient('ssh restic-gateway-appsrv true || echo ended $?')).stdout).toBe('ended 255\n');
    } finally {
      gateway.process.signal('SIGCONT');
      writeFileSync(config, written);
    }
  });

  test('a gateway with another host key is not trusted', async () => {
    const known = path.join(home, '.ssh/known_hosts');
    const right = readFileSync(known, 'utf8');
    const other = await generateKey();
    writeFileSync(known, right.replace(/ssh-ed25519 \S+/, other.publicLine));
    const refused = await onClient('ssh restic-gateway-appsrv true');
    expect(refused.stderr).toMatch(/Host key verification failed/);
    writeFileSync(known, right);
  });

  test('two keys for a while: the new one works beside the old, which then works no more', async () => {
    const next = await generateKey('next');
    const snapshots = (file: string): Promise<Outcome> => {
      copyFileSync(file, path.join(home, '.ssh/appsrv_ed25519'));
      return onClient(`${printed.replace(/^restic .*$/gm, '').replace(/^cat >>[^]*?^END$/gm, '')}
        restic -o rclone.program="ssh restic-gateway-appsrv" snapshots --no-lock`);
    };
    await reloaded(() => client('add-key', 'appsrv', '--key-file', next.publicFile));
    const old = path.join(home, 'appsrv_ed25519');
    expect((await snapshots(next.privateFile)).code).toBe(0);
    expect((await snapshots(old)).code).toBe(0);
    await reloaded(() => client('remove-key', 'appsrv', 'appsrv'));
    expect((await snapshots(old)).stderr).toMatch(/Permission denied/);
    expect((await snapshots(next.privateFile)).code).toBe(0);
    await reloaded(() => client('disable', 'appsrv'));
    expect((await client('list')).stdout).toMatch(/^appsrv +disabled +append-only +main +appsrv +1$/m);
    expect((await snapshots(next.privateFile)).code).not.toBe(0);
    await reloaded(() => client('enable', 'appsrv'));
    expect((await snapshots(next.privateFile)).code).toBe(0);
    const history = async (name: string): Promise<unknown> => {
      const shown = await run(process.execPath, [GATEWAY, 'status', name, '--json', '-c', gateway.configFile]);
      const { snapshots: many, lastSnapshot, size } = JSON.parse(shown.stdout) as Record<string, unknown>;
      return { many, lastSnapshot, size };
    };
    const before = await history('appsrv');
    expect(before).toMatchObject({ many: 3, size: { by: 'estimated' } });
    await reloaded(() => client('rename', 'appsrv', 'web'));
    expect((await snapshots(next.privateFile)).code).toBe(0);
    expect(await history('web')).toEqual(before);
    const lines = await run(process.execPath, [
      GATEWAY,
      'sessions',
      '--client',
      'web',
      '--json',
      '-c',
      gateway.configFile,
    ]);
    expect(lines.stdout).toContain('"appsrv"');
    const removed = await reloaded(() => client('remove', 'web'));
    expect(removed.stdout).toBe('removed web; its data remain in store main under appsrv\n');
    expect((await snapshots(next.privateFile)).stderr).toMatch(/Permission denied/);

    // Under its old name, or any, nobody gets its backups and its history but who is meant to.
    const stranger = ['--key-file', next.publicFile];
    for (const how of [['appsrv'], ['new', '--prefix', 'appsrv']]) {
      const refused = await client('add', ...how, ...stranger);
      expect([refused.code, refused.stderr]).toEqual([
        2,
        expect.stringMatching(/there is a repository in store main under appsrv already.*--existing/),
      ]);
    }
    await reloaded(() => client('add', 'appsrv', '--prefix', 'elsewhere', ...stranger));
    expect(await history('appsrv')).toMatchObject({ many: 0, lastSnapshot: undefined });
    const moved = await client('set', 'appsrv', 'repository.prefix=appsrv');
    expect([moved.code, moved.stderr]).toEqual([2, expect.stringMatching(/say --existing/)]);
    await reloaded(() => client('remove', 'appsrv'));
    await reloaded(() => client('add', 'appsrv', '--existing', ...stranger));
    expect(await history('appsrv')).toEqual(before);
    await reloaded(() => client('remove', 'appsrv'));
  });

  test('a key on stdin; JSON for scripts; a refusal leaves no key behind', async () => {
    const key = await generateKey('stdin');
    const added = await run(
      process.execPath,
      [GATEWAY, 'client', 'add', 'db', '--host', 'gw.example.com:22', '--json', '-c', gateway.configFile],
      { input: `${key.publicLine}\n` },
    );
    const said = JSON.parse(added.stdout) as { keys: unknown; setup: { knownHosts: string[]; sshConfig: string } };
    expect(said.keys).toEqual([{ fingerprint: key.fingerprint, comment: 'stdin' }]);
    expect(said.setup.knownHosts[0]).toMatch(/^gw\.example\.com ssh-ed25519 /);
    expect(said.setup.sshConfig).toContain('HostName gw.example.com\n    Port 22\n');
    const refused = await client('add', 'third', '--generate', '--expires', 'never');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('stays as it is');
    expect(existsSync(path.join(home, 'third_ed25519'))).toBe(false);
    expect((await client('lst')).stderr).toMatch(/did you mean "list"/);
    expect((await client('enable', 'db', '--quiet')).stdout).toBe('');
  });

  test('apply: a block of clients in one write, which the gateway takes up; those that go are let in no more', async () => {
    const key = await generateKey('many');
    const login = async (): Promise<string> => {
      copyFileSync(key.privateFile, path.join(home, '.ssh/appsrv_ed25519'));
      return (await onClient('ssh restic-gateway-appsrv true 2>&1 || echo ended')).stdout;
    };
    const block = path.join(home, 'block.yaml');
    const exported = await client('export');
    writeFileSync(
      block,
      `${exported.stdout}  many:\n    keys: [${key.publicLine}]\n    repository: { store: main, prefix: many }\n`,
    );
    const before = readFileSync(gateway.configFile);
    const dry = await client('apply', '-f', block, '--dry-run');
    expect([dry.code, dry.stdout]).toEqual([0, 'added many\n']);
    expect(readFileSync(gateway.configFile)).toEqual(before);
    await reloaded(() => client('apply', '-f', block));
    expect(await login()).not.toMatch(/Permission denied/);
    const again = await client('apply', '-f', block, '--json');
    expect([again.code, again.stdout]).toEqual([0, '']);
    writeFileSync(path.join(home, 'wrong.yaml'), 'clients:\n  many:\n    keys: []\n');
    const wrong = await client('apply', '-f', 'wrong.yaml');
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringMatching(/wrong\.yaml:\d+:\d+: clients\.many/)]);
    const piped = await run(
      process.execPath,
      [GATEWAY, 'client', 'apply', '-f', '-', '--prune', '--json', '-c', gateway.configFile],
      { input: exported.stdout },
    );
    expect(JSON.parse(piped.stdout)).toEqual({
      ...{ v: 1, kind: 'client-change', client: 'many', change: 'removed', keys: [], dryRun: false },
      file: gateway.configFile,
    });
    while (!/Permission denied/.test(await login())) await new Promise((resolve) => setTimeout(resolve, 50));
    const empty = await run(
      process.execPath,
      [GATEWAY, 'client', 'apply', '-f', '-', '--prune', '-c', gateway.configFile],
      { input: 'clients: {}\n' },
    );
    expect([empty.code, empty.stderr]).toEqual([2, expect.stringContaining('would remove all of them')]);
    expect((await client('export', '--client', 'nobody')).code).toBe(2);
  });

  test('a disk’s own directories leave a place free for a client, and anything else does not', async () => {
    const place = path.join(store['path'] ?? '', 'volume');
    for (const own of ['lost+found', '@eaDir', '.snapshot/hourly'])
      mkdirSync(path.join(place, own), { recursive: true });
    const { publicFile } = await generateKey();
    writeFileSync(path.join(place, 'readme.txt'), '');
    const refused = await client('add', 'volume', '--key-file', publicFile);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/already.*--existing/s)]);
    rmSync(path.join(place, 'readme.txt'));
    await reloaded(() => client('add', 'volume', '--key-file', publicFile));
  });
});
