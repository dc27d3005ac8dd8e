/** The SSH server with nothing behind it but an echo, for what the transport alone has to show. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { finished } from 'node:stream';
import type { Client, ClientChannel } from 'ssh2';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { openSshServer, type SshServer } from '../../src/frontends/ssh-server.ts';
import { keyPair } from './ssh-stack.ts';
import { testClient, testGateway } from './test-client.ts';

const MIB = 1024 * 1024;

/** A server that listens, for one client. */
export interface EchoServer {
  readonly server: SshServer;
  /** The client's key in OpenSSH's formats. */
  readonly key: { readonly private: string; readonly public: string };
  /** What the server has logged, a line each. */
  readonly logged: readonly string[];
  close(): Promise<void>;
}

/** Opens the server on a free port of the loopback. */
export async function startEchoServer(ssh: Partial<GatewayConfig['ssh']> = {}): Promise<EchoServer> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gateway-echo-'));
  const hostKey = path.join(directory, 'host_key');
  writeFileSync(hostKey, keyPair().private, { mode: 0o600 });
  const key = keyPair();
  const logged: string[] = [];
  const log = (fields: object, line: string): void => {
    logged.push(`${line}: ${JSON.stringify(fields)}`);
  };
  const config = testGateway(directory, {
    hostKeys: [hostKey],
    // Hostile clients come from this address too, again and again.
    ssh: { extraCiphers: [], limits: { maxDelaySeconds: 0 }, ...ssh },
    clients: { echo: testClient('echo', { keys: [parsePublicKey(key.public)] }) },
  });
  const server = await openSshServer({
    config,
    log: { info: log, warn: log, error: log },
    openSession: ({ stream, ending }) => {
      stream.pipe(stream);
      return Promise.resolve({
        id: 'echo',
        ended: new Promise((resolve) => {
          stream.once('end', () => {
            ending('client-ended');
          });
          finished(stream, () => {
            resolve('client-ended');
          });
        }),
        close: () => {
          stream.destroy();
        },
      });
    },
  });
  return {
    server,
    key,
    logged,
    close: async () => {
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Has a client of ssh2 ask for new keys, for which it has no call of its own. */
export function rekey(client: Client): void {
  (client as unknown as { readonly _protocol: { rekey: () => void } })._protocol.rekey();
}

/**
 * Sends 24 MiB through the echo behind a connection, calling one of `between` after every MiB sent and every MiB received, in turn, and
 * compares.
 * @returns true @throws Error when something else came back
 */
export async function echoed(client: Client, between: readonly (() => void)[]): Promise<true> {
  const channel = await new Promise<ClientChannel>((resolve, reject) => {
    client.exec('cat', (error, opened) => {
      if (error) reject(error);
      else resolve(opened);
    });
  });
  let turn = 0;
  const next = (): void => {
    if (between.length > 0) between[turn++ % between.length]?.();
  };
  const sent = createHash('sha256');
  const received = createHash('sha256');
  let length = 0;
  channel.on('data', (chunk: Buffer) => {
    received.update(chunk);
    if (Math.floor((length + chunk.length) / MIB) > Math.floor(length / MIB)) next();
    length += chunk.length;
  });
  const closed = once(channel, 'close');
  for (let i = 0; i < 24; i++) {
    const piece = randomBytes(MIB);
    sent.update(piece);
    const taken = channel.write(piece);
    next();
    if (!taken) await once(channel, 'drain');
  }
  channel.end();
  await closed;
  if (length !== 24 * MIB) throw new Error(`${length} bytes came back of ${24 * MIB}`);
  if (received.digest('hex') !== sent.digest('hex')) throw new Error('other bytes came back than were sent');
  return true;
}
