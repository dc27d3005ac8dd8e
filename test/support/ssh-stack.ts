/** The SSH server in this process, and ssh2's client against it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import ssh2, { type ClientChannel, type ConnectConfig } from 'ssh2';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { ClientConfig, GatewayConfig } from '../../src/config/types.ts';
import { openSshServer, type SshServer } from '../../src/frontends/ssh-server.ts';
import { createGateway } from '../../src/gateway/gateway.ts';
import type { AuditLine } from './stack.ts';
import { testClient, testGateway } from './test-client.ts';

/** A key pair in OpenSSH's formats. */
export interface KeyPair {
  readonly private: string;
  readonly public: string;
}

/** A new key pair by ssh-keygen. */
export function keyPair(type = 'ed25519', passphrase = ''): KeyPair {
  const directory = mkdtempSync(path.join(tmpdir(), 'key-'));
  const file = path.join(directory, 'key');
  execFileSync('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', 'test', '-f', file]);
  const pair = { private: readFileSync(file, 'utf8'), public: readFileSync(`${file}.pub`, 'utf8').trim() };
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
  return pair;
}

/** A server that listens, with a client `appsrv` on a directory store. */
export interface SshStack {
  readonly server: SshServer;
  readonly directory: string;
  readonly key: KeyPair;
  /** What the server has warned of. */
  readonly warnings: readonly string[];
  /** The fields of each. */
  readonly warned: readonly Readonly<Record<string, unknown>>[];
  audit(): AuditLine[];
  /** Takes up another config, as a reload does. */
  reconfigure(changes: Partial<GatewayConfig>): Promise<void>;
  close(): Promise<void>;
}

/** Opens a server on a free port. */
export async function startSshStack(
  client: Partial<ClientConfig> = {},
  overrides: Partial<GatewayConfig> = {},
): Promise<SshStack> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gateway-ssh-'));
  mkdirSync(path.join(directory, 'store'));
  const hostKey = path.join(directory, 'host_key');
  writeFileSync(hostKey, keyPair().private, { mode: 0o600 });
  const key = keyPair();
  const config = testGateway(directory, {
    hostKeys: [hostKey],
    clients: { appsrv: testClient('appsrv', { keys: [parsePublicKey(key.public)], ...client }) },
    ...overrides,
  });
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const gateway = await createGateway({ config, log: silent });
  const warnings: string[] = [];
  const warned: Readonly<Record<string, unknown>>[] = [];
  const warn = (about: Readonly<Record<string, unknown>>, message: string): void => {
    warned.push(about);
    warnings.push(message);
  };
  const log = { ...silent, warn };
  const server = await openSshServer({ config, openSession: gateway.openSession, memory: gateway.memory, log });
  return {
    server,
    directory,
    key,
    warnings,
    warned,
    reconfigure: async (changes) => {
      const next = { ...config, ...changes };
      server.reconfigure(next);
      await gateway.reconfigure(next);
    },
    audit: () =>
      readFileSync(config.audit.file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as AuditLine),
    close: async () => {
      await gateway.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Connects with ssh2's client. @throws what the client says when it is not let in */
export async function sshConnect(stack: SshStack, options: ConnectConfig = {}): Promise<ssh2.Client> {
  const client = new ssh2.Client();
  const ready = once(client, 'ready');
  client.on('error', () => undefined);
  client.connect({
    host: stack.server.address.host,
    port: stack.server.address.port,
    username: 'backup',
    strictVendor: false,
    privateKey: stack.key.private,
    ...options,
  });
  await ready;
  return client;
}

/** Opens a channel by one of ssh2's calls. */
export function channelOf(
  open: (done: (error: Error | undefined, channel: ClientChannel) => void) => void,
): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    open((error, channel) => {
      if (error) reject(error);
      else resolve(channel);
    });
  });
}

/** What a channel says on stderr, and its exit status, once it is closed. */
export async function outcomeOf(
  channel: ClientChannel,
): Promise<{ readonly status: unknown; readonly stderr: string }> {
  let stderr = '';
  channel.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  channel.resume();
  // ssh2 repeats the exit status with `close`: the event of its own may have come before anyone listened.
  const [status] = (await once(channel, 'close')) as unknown[];
  return { status, stderr };
}
