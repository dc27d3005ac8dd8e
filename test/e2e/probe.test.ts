/** `probe` against the real thing: both ways in, both stores, every access, and sshd with rclone, which does not hold. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { logIn, openResticSession } from '../../src/probe/connection.ts';
import { removeStrays } from '../../src/probe/repository-checks.ts';
import { GATEWAY, startGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  freePort,
  lab,
  restic,
  run,
  sshClientArgs,
  startSshd,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';
import { onTerminal } from '../support/terminal.ts';

interface Report {
  readonly good: boolean;
  readonly checks: readonly { readonly what: string; readonly outcome: string; readonly detail: string }[];
  readonly notes: readonly string[];
  readonly left: readonly { readonly object: string; readonly damaged: boolean }[];
}

interface Server {
  readonly port: number;
  readonly knownHosts: string;
}

const probe = ({ port, knownHosts }: Server, key: KeyFiles, more: readonly string[] = []): Promise<Outcome> =>
  run(
    process.execPath,
    [GATEWAY, 'probe', `127.0.0.1:${port}`, '-i', key.privateFile, '--known-hosts', knownHosts, '--json', ...more],
    { timeoutMs: 200_000 },
  );

function report(outcome: Outcome): Report {
  expect(outcome.stderr).toBe('');
  return JSON.parse(outcome.stdout) as Report;
}

const failing = ({ checks }: Report): string[] =>
  checks.filter(({ outcome }) => outcome === 'does-not-hold').map(({ what, detail }) => `${what}: ${detail}`);
const resultOf = ({ checks }: Report, check: string): string | undefined =>
  checks.find(({ what }) => what.startsWith(check))?.outcome;

/** restic over a server; it must succeed. */
async function good(binary: string, server: Server, key: KeyFiles, ...args: string[]): Promise<Outcome> {
  const program = [lab().ssh, ...sshClientArgs({ ...server, key })].join(' ');
  const outcome = await restic(binary, { repo: 'rclone:x', options: { 'rclone.program': program } }, args);
  expect(`${outcome.code} ${outcome.code === 0 ? '' : outcome.stderr}`).toBe('0 ');
  return outcome;
}

function source(): string {
  const directory = tempDir();
  writeFileSync(path.join(directory, 'file'), 'something to back up');
  return directory;
}

describe.each(['directory', 's3'] as const)('a gateway on %s', (kind) => {
  test('holds everything for an append-only key, and restic goes on well after it', async () => {
    const [key, second, full, reader, probing] = [
      await generateKey(),
      await generateKey(),
      await generateKey(),
      await generateKey(),
      await generateKey(),
    ];
    const client = (by: KeyFiles, access: string) => ({
      keys: [by.publicLine],
      repository: { store: 'main', prefix: 'repository' },
      shared: true,
      access,
    });
    const gateway = await startGateway(tempDir(), {
      stores: { main: await freshStore(kind) },
      clients: {
        one: client(key, 'append-only'),
        two: client(second, 'append-only'),
        admin: client(full, 'full'),
        reader: client(reader, 'read-only'),
        prober: { keys: [probing.publicLine], repository: { store: 'main', prefix: 'probe' }, role: 'probe' },
      },
    });
    const { resticDebian, resticNewest } = lab();
    await good(resticDebian, gateway, key, 'init');
    await good(resticDebian, gateway, key, 'backup', source());
    // The first finds no object of an earlier one, the second does.
    for (const more of [[], ['--second-key', second.privateFile]]) {
      const outcome = await probe(gateway, key, more);
      const found = report(outcome);
      expect(failing(found)).toEqual([]);
      expect(outcome.code).toBe(0);
      expect(found.good).toBe(true);
      expect(found.left).toEqual([{ object: expect.stringMatching(/^data\/[0-9a-f]{64}$/), damaged: false }]);
      expect(resultOf(found, "remove another's lock")).toBe(more.length === 0 ? 'not-tried' : 'held');
      for (const check of ['overwrite an object', 'remove an object', 'add a key file', 'other spellings'])
        expect(resultOf(found, check)).toBe('held');
    }
    // To monitoring, a backup's key that is probed is tried by somebody; a client that is there for it is well.
    const states = await run(process.execPath, [GATEWAY, 'status', '--json', '-c', gateway.configFile]);
    const statuses = states.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const [one, prober] = ['one', 'prober'].map((name) => statuses.find(({ client: is }) => is === name));
    expect(one).toMatchObject({ state: 'attention' });
    expect(prober).toMatchObject({ state: 'never', role: 'probe' });
    expect(failing(report(await probe(gateway, probing)))).toEqual([]);
    const after = await run(process.execPath, [GATEWAY, 'status', 'prober', '--json', '-c', gateway.configFile]);
    expect(JSON.parse(after.stdout)).toMatchObject({ state: 'ok', anomalies: [], lastProbe: { failed: 0 } });
    const readOnly = report(await probe(gateway, reader));
    expect(failing(readOnly)).toEqual([]);
    expect(readOnly.notes).toEqual([expect.stringContaining('read-only')]);

    for (const binary of [resticDebian, resticNewest]) {
      await good(binary, gateway, key, 'check');
      await good(binary, gateway, key, 'backup', source());
    }
    await good(resticNewest, gateway, full, 'prune');
    await good(resticNewest, gateway, key, 'check', '--read-data');

    // Pruned away; a full key then says what it is, and leaves nothing.
    const outcome = await probe(gateway, full);
    const found = report(outcome);
    expect(outcome.code).toBe(1);
    expect(found.notes).toEqual([expect.stringContaining('full access')]);
    expect(found.left).toEqual([]);
    expect(resultOf(found, 'remove an object')).toBe('does-not-hold');
    expect(resultOf(found, 'overwrite an object')).toBe('held');
    await good(resticNewest, gateway, key, 'check', '--read-data');
    await gateway.stop();
  });
});

test('a key with a passphrase is asked for it at a terminal, and --host-key stands for known_hosts', async () => {
  const key = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { one: { keys: [key.publicLine], repository: { store: 'main' } } },
  });
  await good(lab().resticNewest, gateway, key, 'init');
  await run(lab().sshKeygen, ['-p', '-q', '-P', '', '-N', 'secret', '-f', key.privateFile]);
  const [, fingerprint = ''] = (await run(lab().sshKeygen, ['-lf', gateway.knownHosts])).stdout.split(' ');
  const ask = (hostKey: string, passphrase: string) => {
    const target = ['probe', `127.0.0.1:${gateway.port}`, '-i', key.privateFile, '--host-key', hostKey];
    return onTerminal([process.execPath, GATEWAY, ...target], [[/Passphrase of [^]*: $/, `${passphrase}\r`]]);
  };
  const right = await ask(fingerprint, 'secret');
  expect(right).toMatchObject({ code: 0, shown: expect.stringMatching(/held/) });
  expect(right.shown).not.toContain('secret');
  expect(await ask(fingerprint, 'wrong')).toMatchObject({
    code: 2,
    shown: expect.stringContaining('that is not its passphrase'),
  });
  const other = fingerprint.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
  expect(await ask(other, 'secret')).toMatchObject({ code: 1, shown: expect.stringContaining('SHA256:') });
  await gateway.stop();
});

test('sshd with the forced command of this gateway holds, too', async () => {
  const key = await generateKey();
  const directory = tempDir();
  const config = path.join(directory, 'gateway.yaml');
  writeFileSync(
    config,
    stringify({
      stores: { main: await freshStore('directory') },
      clients: { one: { keys: [key.publicLine], repository: { store: 'main' } } },
      audit: { file: path.join(directory, 'audit.jsonl') },
    }),
  );
  const command = `${process.execPath} ${GATEWAY} stdio one -c ${config}`;
  const sshd = await startSshd({ authorizedKeysLines: [`command="${command}",restrict ${key.publicLine}`] });
  await good(lab().resticNewest, sshd, key, 'init');
  const outcome = await probe(sshd, key);
  expect(failing(report(outcome))).toEqual([]);
  expect(outcome.code).toBe(0);
  await sshd.stop();
});

test('sshd with rclone does not hold, and is not harmed', async () => {
  const [key, second] = [await generateKey(), await generateKey()];
  const repository = path.join(tempDir(), 'repository');
  mkdirSync(repository);
  const command = `${lab().rclone} serve restic --stdio --append-only --config /dev/null ${repository}`;
  const sshd = await startSshd({
    authorizedKeysLines: [key, second].map(({ publicLine }) => `command="${command}" ${publicLine}`),
  });
  await good(lab().resticNewest, sshd, key, 'init');
  await good(lab().resticNewest, sshd, key, 'backup', source());
  const files = (): string[] =>
    readdirSync(repository, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort();
  const before = files();
  const outcome = await probe(sshd, key, ['--second-key', second.privateFile]);
  const found = report(outcome);
  expect(outcome.code).toBe(1);
  for (const check of [
    'store what does not hash',
    "remove another's lock",
    'a terminal',
    'forwarding to another address',
  ])
    expect([check, resultOf(found, check)]).toEqual([check, 'does-not-hold']);
  expect(resultOf(found, 'remove from snapshots')).toBe('held');
  expect(resultOf(found, 'add a key file')).toBe('not-tried');
  // Whatever the race left there, it is mended, or told.
  expect(found.left).toHaveLength(1);
  const [left] = found.left;
  const probeObject = left?.object.replace('data/', '') ?? '';
  expect(files().filter((name) => name !== probeObject)).toEqual(before);
  // A path that was tried may have left a directory of that name.
  const place = readdirSync(repository, { recursive: true, withFileTypes: true }).find(
    (entry) => entry.isFile() && entry.name === probeObject,
  );
  const hash = createHash('sha256')
    .update(readFileSync(path.join(place?.parentPath ?? '', probeObject)))
    .digest('hex');
  expect(hash !== probeObject).toBe(left?.damaged);
  await good(lab().resticNewest, sshd, key, 'check');
  await good(lab().resticNewest, sshd, key, 'backup', source());
  await sshd.stop();
});

test('what rclone has removed by itself is not said to be left, though it goes on saying that it is there', async () => {
  const key = await generateKey();
  const repository = path.join(tempDir(), 'repository');
  mkdirSync(repository);
  const command = `${lab().rclone} serve restic --stdio --append-only --config /dev/null ${repository}`;
  const sshd = await startSshd({ authorizedKeysLines: [`command="${command}" ${key.publicLine}`] });
  await good(lab().resticNewest, sshd, key, 'init');
  const target = { host: '127.0.0.1', port: sshd.port, user: userInfo().username, timeoutMs: 60_000 };
  const login = await logIn(
    { ...target, known: { types: undefined, accepts: () => true, refusal: () => '' } },
    { privateKey: readFileSync(key.privateFile), authHandler: ['publickey'] },
  );
  if (!login.in) throw new Error(login.why);
  const session = await openResticSession(login.client, 60_000);
  const lock = `locks/${'1'.repeat(64)}`;
  const upload = session.request('POST', `/${lock}`, { declared: 1000, timeoutMs: 2000 });
  while ((await session.request('HEAD', `/${lock}`)).status !== 200);
  await upload;
  while (existsSync(path.join(repository, lock))) await sleep(20);
  expect((await session.request('HEAD', `/${lock}`)).status).toBe(200);
  expect(await removeStrays(session, [`/${lock}`])).toEqual([]);
  login.client.destroy();
  await sshd.stop();
});

describe('what is told when it cannot be tried', () => {
  test('a wrong key, a wrong or unknown host key, nobody there, wrong use', async () => {
    const key = await generateKey();
    const gateway = await startGateway(tempDir(), {
      stores: { main: await freshStore('directory') },
      clients: { one: { keys: [key.publicLine], repository: { store: 'main' } } },
    });
    const stranger = await generateKey();
    const said = async (server: Server, by: KeyFiles, ...more: string[]) => {
      const { code, stdout, stderr } = await probe(server, by, more);
      expect(stdout).toBe('');
      expect(stderr).not.toMatch(/\n\s+at /);
      return `${code} ${stderr}`;
    };
    expect(await said(gateway, stranger)).toMatch(/^1 .*the key is not let in/);
    const empty = path.join(tempDir(), 'known_hosts');
    writeFileSync(empty, '');
    expect(await said({ ...gateway, knownHosts: empty }, key)).toMatch(/^1 .*is not known: .*--host-key SHA256:/);
    const changed = path.join(tempDir(), 'known_hosts');
    writeFileSync(changed, `[127.0.0.1]:${gateway.port} ${stranger.publicLine}\n`);
    expect(await said({ ...gateway, knownHosts: changed }, key)).toMatch(/^1 .*is not the one in .*ssh-keygen -R/);
    await run(lab().sshKeygen, ['-H', '-f', changed]);
    expect(await said({ ...gateway, knownHosts: changed }, key)).toMatch(/^1 .*is not the one in/);
    expect(await said({ ...gateway, knownHosts: path.join(tempDir(), 'none') }, key)).toMatch(/^2 .*cannot be read/);
    const port = await freePort();
    const elsewhere = path.join(tempDir(), 'known_hosts');
    writeFileSync(elsewhere, readFileSync(gateway.knownHosts, 'utf8').replace(/:\d+/, `:${port}`));
    expect(await said({ knownHosts: elsewhere, port }, key, '--timeout', '5')).toMatch(/^1 .*cannot be reached: /);
    expect(await said(gateway, key, '--host-key', 'SHA256:x')).toMatch(/^2 .*either/);
    expect(await said(gateway, key, '--timeout', '0')).toMatch(/^2 .*--timeout/);
    expect(await said(gateway, { ...key, privateFile: key.publicFile })).toMatch(/^2 .*not a private key/);
    const locked = await generateKey();
    await run(lab().sshKeygen, ['-p', '-q', '-P', '', '-N', 'secret', '-f', locked.privateFile]);
    expect(await said(gateway, locked)).toMatch(/^2 .*it has a passphrase/);
    await gateway.stop();
  });
});
