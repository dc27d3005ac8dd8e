/** A running `serve`: its config changes under it, and it is told to stop. Real processes, ssh and restic. */
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, lab, makeTree, run, sshClientArgs, tempDir, type KeyFiles } from '../support/lab.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import { freshStore } from '../support/stores.ts';

type Yaml = Record<string, unknown> & { clients: Record<string, Record<string, unknown>> };

interface Site extends RunningGateway {
  readonly directory: string;
  readonly keys: Readonly<Record<string, KeyFiles>>;
  /** Changes the config's file. */
  edit(change: (yaml: Yaml) => void): void;
  /** Opens a session and waits until it is served. */
  open(client: string): Promise<SshSession>;
  ask(client: string): SshSession;
  /** Waits until the audit says that a session of a client has ended, and gives the reason. */
  endOf(client: string): Promise<unknown>;
}

async function startSite(names: readonly string[], more: Record<string, unknown> = {}): Promise<Site> {
  const directory = tempDir();
  const keys: Record<string, KeyFiles> = {};
  for (const name of names) keys[name] = await generateKey(name);
  const gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    clients: Object.fromEntries(
      names.map((name) => [name, { keys: [keys[name]?.publicLine], repository: { store: 'main' } }]),
    ),
    ...more,
  });
  const ask = (client: string): SshSession => {
    const key = keys[client];
    if (key === undefined) throw new Error(`there is no key of ${client}`);
    return startSshSession({ port: gateway.port, knownHosts: gateway.knownHosts, key });
  };
  return {
    ...gateway,
    directory,
    keys,
    ask,
    edit: (change) => {
      const yaml = parse(readFileSync(gateway.configFile, 'utf8')) as Yaml;
      change(yaml);
      writeFileSync(gateway.configFile, stringify(yaml));
    },
    open: async (client) => {
      const session = ask(client);
      expect((await session.request('GET', '/locks/')).status).toBe(200);
      return session;
    },
    endOf: async (client) => {
      for (;;) {
        const end = readFileSync(gateway.auditFile, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line) as Record<string, unknown>)
          .find((line) => line['client'] === client && line['event'] === 'session-end');
        if (end !== undefined) return end['reason'];
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
}

const clientOf = (yaml: Yaml, name: string): Record<string, unknown> => {
  const client = yaml.clients[name];
  if (client === undefined) throw new Error(`there is no client ${name}`);
  return client;
};

describe('a session whose grant goes away', () => {
  const changes: readonly [string, (yaml: Yaml, other: KeyFiles) => void, string][] = [
    ['removed client', (yaml) => delete yaml.clients['b'], "client b was removed; ask the gateway's admin."],
    [
      'removed key',
      (yaml, other) => (clientOf(yaml, 'b')['keys'] = [other.publicLine]),
      'this key is not, or no longer, one of client b.',
    ],
    ['disabled', (yaml) => (clientOf(yaml, 'b')['disabled'] = true), "client b is disabled; ask the gateway's admin."],
    [
      'expired',
      (yaml) => (clientOf(yaml, 'b')['expires'] = '2020-01-01'),
      "the key of client b expired on 2020-01-01; ask the gateway's admin.",
    ],
    [
      'from elsewhere',
      (yaml) => (clientOf(yaml, 'b')['from'] = ['192.0.2.0/24']),
      "client b may not connect from this address; ask the gateway's admin.",
    ],
    [
      'other access',
      (yaml) => (clientOf(yaml, 'b')['access'] = 'read-only'),
      'what client b may do was changed; connect again.',
    ],
    [
      'other repository',
      (yaml) => (clientOf(yaml, 'b')['repository'] = { store: 'main', prefix: 'elsewhere' }),
      'what client b may do was changed; connect again.',
    ],
  ];
  test.each(changes)('%s: ends at once with one plain line, and no other does', async (_what, change, line) => {
    const site = await startSite(['a', 'b']);
    const other = await generateKey();
    const untouched = await site.open('a');
    const ended = await site.open('b');
    site.edit((yaml) => {
      change(yaml, other);
    });
    expect(await ended.ended).toEqual({ status: 1, stderr: `restic-gateway: ${line}\n` });
    expect(await site.endOf('b')).toBe('revoked');
    expect((await untouched.request('GET', '/locks/')).status).toBe(200);
    untouched.close();
    expect((await untouched.ended).status).toBe(0);
    await site.stop();
  });

  test('an expiry passes by itself', async () => {
    const site = await startSite(['a', 'b']);
    const untouched = await site.open('a');
    const ended = await site.open('b');
    const expires = new Date(Date.now() + 3000).toISOString();
    site.edit((yaml) => (clientOf(yaml, 'b')['expires'] = expires));
    await site.process.waitForLine(/changed b/);
    expect((await ended.request('GET', '/locks/')).status).toBe(200);
    expect(await ended.ended).toMatchObject({ status: 1, stderr: expect.stringContaining('expired on') as unknown });
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expires));
    expect(await site.endOf('b')).toBe('revoked');
    expect((await untouched.request('GET', '/locks/')).status).toBe(200);
    await site.stop();
  });
});

describe('a config that is read again', () => {
  test('by SIGHUP or a rename over it, lets in new clients, tells what changed, and what needs a restart', async () => {
    const site = await startSite(['a', 'b']);
    const key = await generateKey();
    const yaml = parse(readFileSync(site.configFile, 'utf8')) as Yaml;
    delete yaml.clients['a'];
    clientOf(yaml, 'b')['maxSessions'] = 1;
    yaml.clients['c'] = { keys: [key.publicLine], repository: { store: 'main' } };
    yaml['audit'] = { file: path.join(site.directory, 'other.jsonl') };
    yaml['workers'] = 3;
    writeFileSync(`${site.configFile}.new`, stringify(yaml));
    renameSync(`${site.configFile}.new`, site.configFile);
    await site.process.waitForLine(/added c; removed a; changed b/);
    await site.process.waitForLine(/workers: what was changed there needs a restart/);

    const session = startSshSession({ port: site.port, knownHosts: site.knownHosts, key });
    expect((await session.request('GET', '/locks/')).status).toBe(200);
    expect(readFileSync(path.join(site.directory, 'other.jsonl'), 'utf8')).toContain('"client":"c"');
    expect(readFileSync(site.auditFile, 'utf8')).toBe('');
    expect(await site.ask('a').ended).toMatchObject({ status: 255 });
    const only = await site.open('b');
    expect(await site.ask('b').ended).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('client b has 1 sessions open already') as unknown,
    });
    only.close();

    site.process.signal('SIGHUP');
    await site.process.waitForLine(/"why":"SIGHUP".*no client has changed/);
    expect((await session.request('GET', '/locks/')).status).toBe(200);
    await site.stop();
  });

  test('stays as it was when the new one is wrong, and every problem is told with its line', async () => {
    const site = await startSite(['a', 'b']);
    const running = await site.open('a');
    writeFileSync(site.configFile, 'clients:\n  a: {}\nlisten: nowhere\nworker: 2\n');
    await site.process.waitForLine(/gateway\.yaml:2:\d+: clients\.a/);
    await site.process.waitForLine(/gateway\.yaml:3:\d+: listen/);
    await site.process.waitForLine(/gateway\.yaml:4:\d+: worker: unknown key; did you mean \\"workers\\"/);
    expect((await running.request('GET', '/locks/')).status).toBe(200);
    const fresh = await site.open('b');
    fresh.close();
    await fresh.ended;
    await site.stop();
  });

  test('does not disturb the backup of a client that is the same', async () => {
    const site = await startSite(['a', 'b']);
    const tree = tempDir();
    await makeTree(tree, { files: 60, bytes: 300_000_000, seed: 'reload' });
    const key = site.keys['a'];
    if (key === undefined) throw new Error('there is no key of a');
    const { port, knownHosts } = site;
    const args = [
      '-o',
      `rclone.program=${[lab().ssh, ...sshClientArgs({ port, knownHosts, key })].join(' ')}`,
      '-r',
      'rclone:x',
    ];
    const env = { RESTIC_PASSWORD: 'secret', RESTIC_CACHE_DIR: path.join(site.directory, 'cache') };
    const restic = (...more: string[]) => run(lab().resticNewest, [...args, ...more], { env, timeoutMs: 120_000 });
    expect(await restic('init')).toMatchObject({ code: 0 });
    const backup = restic('backup', tree);
    const progress = { over: false };
    void backup.then(() => (progress.over = true));
    await site.process.waitForLine(/session started/);
    let reloads = 0;
    while (!progress.over) {
      const reloaded = ++reloads;
      site.edit((yaml) => (clientOf(yaml, 'b')['maxSessions'] = reloaded));
      // As fast as an admin may edit; whether each is read is no matter.
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    expect(await backup).toMatchObject({ code: 0 });
    expect(site.process.lines.filter((line) => line.includes('changed b')).length).toBeGreaterThan(1);
    expect(await restic('check', '--read-data')).toMatchObject({ code: 0 });
    await site.stop();
  });
});

describe('told to stop', () => {
  test('with no sessions, it ends at once', async () => {
    const site = await startSite(['a'], { drainSeconds: 600 });
    site.process.signal('SIGTERM');
    expect(await site.process.exited).toBe(0);
  });

  test('it lets sessions finish and lets nobody in', async () => {
    const site = await startSite(['a', 'b'], { drainSeconds: 600 });
    const running = await site.open('a');
    site.process.signal('SIGTERM');
    await site.process.waitForLine(/stopping on SIGTERM: 1 sessions/);
    expect(await site.ask('b').ended).toMatchObject({
      status: 255,
      // Reset: it came in the moment between the line and the end of listening.
      stderr: expect.stringMatching(/Connection (?:refused|reset|closed)/) as unknown,
    });
    expect((await running.request('GET', '/locks/')).status).toBe(200);
    running.close();
    expect(await running.ended).toEqual({ status: 0, stderr: '' });
    expect(await site.process.exited).toBe(0);
    expect(await site.endOf('a')).toBe('client-ended');
  });

  test.each<[string, number, NodeJS.Signals[]]>([
    ['after the set time', 1, ['SIGTERM']],
    ['at a second signal', 600, ['SIGINT', 'SIGTERM']],
  ])('%s it ends what is left, and says so', async (_when, drainSeconds, signals) => {
    const site = await startSite(['a'], { drainSeconds });
    const running = await site.open('a');
    for (const signal of signals) {
      site.process.signal(signal);
      await site.process.waitForLine(/stopping on/);
    }
    expect(await running.ended).toEqual({
      status: 1,
      stderr: 'restic-gateway: the gateway is being stopped; try again in a while.\n',
    });
    expect(await site.process.exited).toBe(0);
    expect(await site.endOf('a')).toBe('gateway-stopped');
  });
});

test('restic-gateway reload says what was taken up, and fails when nothing was', async () => {
  const site = await startSite(['a'], { workers: 2 });
  const reload = () => run(process.execPath, [GATEWAY, 'reload', '-c', site.configFile]);
  site.edit((yaml) => (clientOf(yaml, 'a')['disabled'] = true));
  expect(await reload()).toEqual({
    code: 0,
    stderr: '',
    stdout: expect.stringContaining('the config was read again: '),
  });
  expect((await site.ask('a').ended).stderr).toContain('disabled');

  // Nothing is wrong with the file, but it cannot be taken up
  const good = readFileSync(site.configFile, 'utf8');
  site.edit((yaml) => {
    yaml['state'] = path.join(path.dirname(site.auditFile), 'state');
    yaml['audit'] = { file: '/proc/audit/audit.jsonl' };
  });
  expect(await reload()).toEqual({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('the config is not taken up: '),
  });
  writeFileSync(site.configFile, `${good}\nunknown: 1\n`);
  expect(await reload()).toEqual({ code: 2, stdout: '', stderr: expect.stringContaining(': unknown: ') });

  writeFileSync(site.configFile, good);
  expect((await reload()).code).toBe(0);
  await site.stop();
  expect(await reload()).toEqual({ code: 1, stdout: '', stderr: expect.stringContaining('no serve runs with ') });
});

test('a config that leaves out many clients, or a store in use, waits for --force, and says so everywhere', async () => {
  const site = await startSite(['a', 'b', 'c', 'd', 'e'], { metrics: { listen: '127.0.0.1:0' } });
  const command = (...args: string[]) => run(process.execPath, [GATEWAY, ...args, '-c', site.configFile]);
  const whole = readFileSync(site.configFile, 'utf8');
  // Cut off between two clients, it is as valid as before.
  site.edit((yaml) => (yaml.clients = Object.fromEntries(Object.entries(yaml.clients).slice(0, 2))));
  await site.process.waitForLine(/the config leaves out 3 of 5 clients \(c, d, e\); nothing has changed yet/);
  (await site.open('e')).close();
  const waits =
    /the config leaves out 3 of 5 clients \(c, d, e\); nothing has changed yet\. If that is meant, run: restic-gateway reload --force/;
  expect((await command('status')).stderr).toMatch(waits);
  expect(await command('reload')).toEqual({ code: 1, stdout: '', stderr: expect.stringMatching(waits) });
  (await site.open('e')).close();

  // Another file than the one that waits is not confirmed by what was said of that one.
  writeFileSync(site.configFile, whole.replaceAll('main:', 'other:').replaceAll('store: main', 'store: other'));
  await site.process.waitForLine(/the config was read again/);
  site.edit((yaml) => {
    yaml['stores'] = { another: { type: 'directory', path: site.directory } };
    for (const client of Object.values(yaml.clients)) client['repository'] = { store: 'another' };
  });
  expect((await command('reload')).stderr).toMatch(/the config leaves out a store that is in use \(other\)/);

  writeFileSync(site.configFile, whole);
  expect(await command('reload')).toMatchObject({ code: 0, stderr: '' });
  expect((await command('status')).stderr).not.toMatch(/serve does not use/);
  // Under another name it is no other client.
  site.edit((yaml) => {
    yaml.clients = Object.fromEntries(
      Object.entries(yaml.clients).map(([name, client]) =>
        name < 'd' ? [`${name}-new`, { ...client, id: name }] : [name, client],
      ),
    );
  });
  expect(await command('reload')).toMatchObject({ code: 0, stderr: '' });
  writeFileSync(site.configFile, whole);
  expect(await command('reload')).toMatchObject({ code: 0, stderr: '' });
  site.edit((yaml) => (yaml['state'] = path.join(site.directory, 'elsewhere')));
  await site.process.waitForLine(/state cannot become \S+ while serve runs with/);
  writeFileSync(site.configFile, whole);
  // One is removed every day.
  site.edit((yaml) => delete yaml.clients['a']);
  expect((await command('reload')).code).toBe(0);
  site.edit((yaml) => (yaml.clients = { b: clientOf(yaml, 'b') }));
  expect(await command('reload', '--force')).toMatchObject({
    ...{ code: 0, stderr: '' },
    stdout: expect.stringContaining('removed c, d, e'),
  });
  expect((await site.ask('e').ended).status).not.toBe(0);
  await site.stop();
});

test('an audit log that is removed, replaced or cut is noticed while serve runs; one that is rotated is not', async () => {
  const site = await startSite(['a']);
  const status = (...args: string[]) => run(process.execPath, [GATEWAY, 'status', ...args, '-c', site.configFile]);
  const lost = /the audit log was tampered with/;
  const isNoticed = async (words: RegExp): Promise<void> => {
    await site.process.waitForLine(words);
    const before = site.process.lines.filter((line) => lost.test(line)).length;
    for (;;) {
      const { code, stderr } = await status();
      if (words.test(stderr)) {
        expect(code).toBe(1);
        break;
      }
    }
    await status('--acknowledge');
    expect((await status()).stderr).not.toMatch(words);
    expect(site.process.lines.filter((line) => lost.test(line))).toHaveLength(before);
  };
  (await site.open('a')).close();
  await site.endOf('a');
  // As logrotate does it, packed at once.
  renameSync(site.auditFile, `${site.auditFile}.1`);
  expect((await run('gzip', [`${site.auditFile}.1`])).code).toBe(0);
  (await site.open('a')).close();
  await site.endOf('a');
  // That nothing is reported needs a bound: serve looks each 2 s, so it has looked twice.
  await new Promise((resolve) => setTimeout(resolve, 4500));
  expect(site.process.lines.filter((line) => lost.test(line))).toEqual([]);

  truncateSync(site.auditFile, 40);
  await isNoticed(/audit\.jsonl was cut from \d+ to 40 bytes/);
  rmSync(site.auditFile);
  await isNoticed(/audit\.jsonl was removed: \d+ bytes of the audit are gone from its directory/);
  (await site.open('a')).close();
  expect(readFileSync(site.auditFile, 'utf8')).toContain('"event":"audit-lost"');
  writeFileSync(`${site.auditFile}.forged`, '{"event":"forged"}\n');
  renameSync(`${site.auditFile}.forged`, site.auditFile);
  await isNoticed(/audit\.jsonl was replaced/);
  await site.stop();
});
