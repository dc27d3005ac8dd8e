/**
 * What the SSH server tells of itself, with real OpenSSH on the other side: its host keys, so that a new one reaches every known_hosts while the
 * old one still serves, the signatures that it takes, and why it hangs up. And who asks for proofs of host keys without end.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import ssh2, { type Client } from 'ssh2';
import { readHostKey } from '../../src/frontends/host-key.ts';
import { ignore, message, overhear, sendMessage } from '../support/hostile-ssh.ts';
import { lab, run, tempDir } from '../support/lab.ts';
import { resticClient } from '../support/restic-client.ts';
import { channelOf, keyPair, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';
import { until } from '../support/store-calls.ts';

const GLOBAL_REQUEST = 80;
const PROVE = 'hostkeys-prove-00@openssh.com';

const directory = tempDir();
let stack: SshStack;
const clients: Client[] = [];
afterEach(async () => {
  // Whatever happened: one that keeps to the rules is served.
  const client = await sshConnect(stack);
  const restic = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await restic.request('GET', '/file-1')).status).toBe(404);
  for (const each of [client, ...clients.splice(0)]) each.destroy();
  await stack.close();
});

function hostKey(name: string): string {
  const file = path.join(directory, name);
  writeFileSync(file, keyPair().private, { mode: 0o600 });
  return file;
}
const [old, fresh] = [hostKey('old'), hostKey('new')];
const publicKeyOf = async (file: string): Promise<string> => (await readHostKey(file)).publicKey;

/** A real ssh's arguments; what is said first counts. */
function args(...options: string[]): string[] {
  const key = path.join(directory, 'client_key');
  writeFileSync(key, stack.key.private, { mode: 0o600 });
  const rest = ['IdentityAgent=none', 'BatchMode=yes', 'GlobalKnownHostsFile=none'];
  const all = [...options, `IdentityFile=${key}`, 'IdentitiesOnly=yes', ...rest];
  const port = String(stack.server.address.port);
  return ['-F', 'none', '-p', port, ...all.flatMap((option) => ['-o', option]), 'backup@127.0.0.1', 'restic'];
}

describe.each([['ssh'], ['sshNewest']] as const)('an OpenSSH client, %s', (program) => {
  test('learns a new host key while the old one serves, and forgets the old one when that is gone', async () => {
    const [oldKey, newKey] = [await publicKeyOf(old), await publicKeyOf(fresh)];
    const known = path.join(tempDir(), 'known_hosts');
    writeFileSync(known, `gateway ${oldKey}\n`);
    const knownNow = (): string => readFileSync(known, 'utf8');
    /** Connects with nothing but known_hosts to go by, and stays until that says what it should. */
    const connect = async (hostKeys: readonly string[], done: () => boolean): Promise<void> => {
      stack = await startSshStack({}, { hostKeys });
      const options = [`UserKnownHostsFile=${known}`, 'StrictHostKeyChecking=yes', 'UpdateHostKeys=yes'];
      const child = spawn(lab()[program], args(...options, 'HostKeyAlias=gateway'), {
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const exited = once(child, 'exit');
      await until(() => done() || child.exitCode !== null);
      expect([done(), said]).toEqual([true, expect.not.stringContaining('verification failed')]);
      child.kill();
      await exited;
    };
    await connect([old, fresh], () => knownNow().includes(newKey));
    expect(knownNow()).toContain(oldKey);
    await stack.close();
    // The first one serves.
    await connect([fresh], () => !knownNow().includes(oldKey));
    expect(knownNow()).toContain(newKey);
  });

  test('is told the one kind of signature that is taken', async () => {
    stack = await startSshStack();
    const { stderr } = await run(lab()[program], [
      '-vvv',
      ...args('StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null'),
    ]);
    expect(/server-sig-algs=<?([^>\s]*)/.exec(stderr)?.[1]).toBe('ssh-ed25519');
  });

  test('whose agent has six other keys is told why it is turned away', async () => {
    stack = await startSshStack();
    const agent = spawn('ssh-agent', ['-D', '-a', path.join(tempDir(), 'agent')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const socket = agent.spawnargs.at(-1) ?? '';
      await once(agent.stdout, 'data');
      for (let i = 0; i < 6; i++) {
        const key = hostKey(`other-${i}`);
        execFileSync('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
      }
      const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=no'];
      const { code, stderr } = await run(lab()[program], args(`IdentityAgent=${socket}`, ...options));
      expect(stderr).toMatch(/Received disconnect from \S+ port \d+:2: Too many authentication failures/);
      expect(code).toBe(255);
    } finally {
      agent.kill();
    }
  });
});

describe('one who asks for proofs of host keys', () => {
  /** A client that does nothing by itself: ssh2's asks for proofs as soon as it hears of keys. */
  async function connected(): Promise<Client> {
    const client = new ssh2.Client();
    clients.push(client);
    const { host, port } = stack.server.address;
    client.on('error', () => undefined);
    client.on('handshake', () => {
      ignore(client, 'GLOBAL_REQUEST');
    });
    client.connect({ host, port, username: 'x', privateKey: stack.key.private });
    await once(client, 'ready');
    return client;
  }

  /** One, and what it has been answered. */
  async function asking(): Promise<{
    readonly ask: (...blobs: (string | Uint8Array)[]) => Promise<Buffer | undefined>;
    readonly client: Client;
  }> {
    const client = await connected();
    const answers: (Buffer | undefined)[] = [];
    overhear(client, 'REQUEST_SUCCESS', (data) => answers.push(data as Buffer));
    overhear(client, 'REQUEST_FAILURE', () => answers.push(undefined));
    return {
      client,
      ask: async (...blobs) => {
        sendMessage(
          client,
          Buffer.concat([message(GLOBAL_REQUEST, PROVE, true), ...blobs.map((blob) => Buffer.from(blob as string))]),
        );
        const before = answers.length;
        await until(() => answers.length > before);
        return answers.at(-1);
      },
    };
  }
  const blobOf = async (file: string): Promise<Buffer> => message((await readHostKey(file)).blob);

  test.each<[string, (own: Buffer, other: Buffer) => Buffer[]]>([
    ['no key', () => []],
    ["a key that is not the server's", (_own, other) => [other]],
    ['its key and one more', (own, other) => [own, other]],
    ['its key twice', (own) => [own, own]],
    ['its key five hundred times', (own) => Array<Buffer>(500).fill(own)],
    ['a key that is cut off', (own) => [own.subarray(0, -1)]],
    ['a key of four gigabytes', () => [Buffer.of(0xff, 0xff, 0xff, 0xff, 1)]],
    ['half a length', () => [Buffer.of(0, 0)]],
  ])('naming %s is refused, and may still ask as it should, once', async (_what, wrong) => {
    stack = await startSshStack({}, { hostKeys: [old] });
    const { ask } = await asking();
    const [own, other] = [await blobOf(old), await blobOf(fresh)];
    expect(await ask(...wrong(own, other))).toBeUndefined();
    expect((await ask(own))?.length).toBe(4 + 4 + 'ssh-ed25519'.length + 4 + 64);
    expect(await ask(own)).toBeUndefined();
  });

  test('who asks without end is cut off', async () => {
    stack = await startSshStack({}, { hostKeys: [old] });
    const { client } = await asking();
    const closed = once(client, 'close');
    const own = await blobOf(old);
    for (let i = 0; i < 1000; i++) sendMessage(client, Buffer.concat([message(GLOBAL_REQUEST, PROVE, true), own]));
    await closed;
  });

  test('before the login is not answered with a proof', async () => {
    stack = await startSshStack({}, { hostKeys: [old] });
    const own = await blobOf(old);
    const proofs: unknown[] = [];
    let refused = 0;
    const client = new ssh2.Client();
    clients.push(client);
    client.on('handshake', () => {
      overhear(client, 'REQUEST_SUCCESS', (data) => proofs.push(data));
      overhear(client, 'REQUEST_FAILURE', () => refused++);
      sendMessage(client, Buffer.concat([message(GLOBAL_REQUEST, PROVE, true), own]));
    });
    const { host, port } = stack.server.address;
    client.connect({ host, port, username: 'x', authHandler: () => undefined });
    await until(() => refused > 0);
    expect(proofs).toEqual([]);
  });
});
