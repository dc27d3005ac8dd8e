/**
 * A client is revoked while another file of `clientsDirectory` is wrong, half-written or not to be trusted: it is out all the same, on both ways
 * in, and nothing that the wrong file might say has come in. Real `serve`, real forced command, real ssh.
 */
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, run, tempDir, type KeyFiles } from '../support/lab.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';

const NAMES = ['one', 'two', 'three', 'four', 'bad', 'honest'] as const;
const site = tempDir();
const directory = path.join(site, 'clients.d');
const keys = new Map<string, KeyFiles>();
let gateway: RunningGateway;

const keyOf = (name: string): KeyFiles => {
  const key = keys.get(name);
  if (key === undefined) throw new Error(`there is no key of ${name}`);
  return key;
};
const put = (name: string, more = ''): void => {
  const text = `clients:\n  ${name}:\n    keys: [${keyOf(name).publicLine}]\n    repository: { store: main }\n${more}`;
  writeFileSync(path.join(directory, `${name}.yaml`), text);
};
const ask = (name: string): SshSession =>
  startSshSession({ port: gateway.port, knownHosts: gateway.knownHosts, key: keyOf(name) });
const open = async (name: string): Promise<SshSession> => {
  const session = ask(name);
  expect((await session.request('GET', '/locks/')).status).toBe(200);
  return session;
};
const client = async (...args: string[]): Promise<void> => {
  const done = await run(process.execPath, [GATEWAY, 'client', ...args, '-c', gateway.configFile]);
  expect([done.code, done.stderr]).toEqual([0, expect.stringContaining('bad.yaml: wrong, see restic-gateway check')]);
};
const spoil = (): void => {
  writeFileSync(path.join(directory, 'bad.yaml'), 'clients:\n  ba');
};

beforeAll(async () => {
  mkdirSync(directory);
  for (const name of NAMES) keys.set(name, await generateKey(name));
  for (const name of NAMES) put(name);
  gateway = await startGateway(site, {
    stores: { main: await freshStore('directory') },
    clientsDirectory: 'clients.d',
  });
});

describe('while one file is wrong', () => {
  let untouched: SshSession;
  beforeAll(async () => {
    untouched = await open('bad');
    const written = gateway.process.waitForLine(/is not used/);
    spoil();
    await written;
  });

  test('a client whose file is removed is out', async () => {
    const session = await open('one');
    rmSync(path.join(directory, 'one.yaml'));
    expect(await session.ended).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('client one was removed') as unknown,
    });
  });

  test('so is one that is disabled by the command', async () => {
    const session = await open('two');
    await client('disable', 'two');
    expect(await session.ended).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('client two is disabled') as unknown,
    });
    expect((await ask('two').ended).status).not.toBe(0);
  });

  test('so is one with a forced command under way, and an honest one goes on', async () => {
    put('bad');
    const start = (name: string) => startStdio([name, '-c', gateway.configFile]);
    const [revoked, honest] = [start('three'), start('honest')];
    expect((await revoked.request('GET', '/locks/')).status).toBe(200);
    expect((await honest.request('GET', '/locks/')).status).toBe(200);
    spoil();
    await client('disable', 'three');
    expect(await revoked.exited).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('client three is disabled') as unknown,
    });
    // One that comes now reads the whole config, and is refused in one line.
    expect(await start('honest').exited).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('configuration cannot be used') as unknown,
    });
    expect((await honest.request('GET', '/locks/')).status).toBe(200);
    honest.end();
    expect((await honest.exited).status).toBe(0);
  });

  test('the client of the wrong file goes on, and nothing new has come in', async () => {
    keys.set('new', await generateKey('new'));
    put('new');
    put('four', '    disabled: true\n');
    await gateway.process.waitForLine(/take away holds all the same: restricted four/);
    expect((await ask('new').ended).status).not.toBe(0);
    expect((await untouched.request('GET', '/locks/')).status).toBe(200);
    untouched.close();
  });

  test('once it is right, all of it holds', async () => {
    put('bad');
    await gateway.process.waitForLine(/the config was read again: added new/);
    const session = await open('new');
    session.close();
    expect((await ask('four').ended).status).not.toBe(0);
  });
});

test('the whole directory is replaced at once, by a rename or a link, and followed', async () => {
  const next = path.join(site, 'next');
  const only = (name: string, more: string): void => {
    const text = `clients:\n  ${name}:\n    keys: [${keyOf(name).publicLine}]\n    repository: { store: main }\n${more}`;
    writeFileSync(path.join(next, `${name}.yaml`), text);
  };
  mkdirSync(next);
  for (const name of ['bad', 'honest', 'new', 'two', 'three', 'four'])
    only(name, name === 'new' ? '    disabled: true\n' : '');
  const session = await open('new');
  renameSync(directory, path.join(site, 'before'));
  renameSync(next, directory);
  expect((await session.ended).status).toBe(1);
  const back = await open('four');
  back.close();
  // What is written there from now on counts.
  const honest = await open('honest');
  put('honest', '    disabled: true\n');
  expect((await honest.ended).status).toBe(1);
  renameSync(directory, path.join(site, 'real'));
  symlinkSync('real', directory);
  put('honest');
  await gateway.process.waitForLine(/read again: changed honest/);
  await gateway.stop();
});
