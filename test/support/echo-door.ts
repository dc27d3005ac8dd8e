/** The SSH door with nothing behind it but an echo, for what the transport alone has to show. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { finished } from 'node:stream';
import ssh2 from 'ssh2';
import { parsePublicKey } from '../../src/config/public-key.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import { openSshDoor, type SshDoor } from '../../src/doors/ssh-server.ts';

/** A door that listens, for one client. */
export interface EchoDoor {
  readonly door: SshDoor;
  /** The client's key in OpenSSH's formats. */
  readonly key: { readonly private: string; readonly public: string };
  /** What the door has logged, a line each. */
  readonly logged: readonly string[];
  close(): Promise<void>;
}

/** Opens the door on a free port of the loopback. */
export async function startEchoDoor(ssh: Partial<GatewayConfig['ssh']> = {}): Promise<EchoDoor> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gateway-echo-'));
  const hostKey = path.join(directory, 'host_key');
  writeFileSync(hostKey, ssh2.utils.generateKeyPairSync('ed25519').private, { mode: 0o600 });
  const key = ssh2.utils.generateKeyPairSync('ed25519');
  const logged: string[] = [];
  const log = (fields: object, line: string): void => {
    logged.push(`${line}: ${JSON.stringify(fields)}`);
  };
  const config: GatewayConfig = {
    file: path.join(directory, 'gateway.yaml'),
    listen: { host: '127.0.0.1', port: 0 },
    hostKeys: [hostKey],
    ssh: { extraCiphers: [], ...ssh },
    stores: {},
    clients: {
      echo: {
        name: 'echo',
        keys: [parsePublicKey(key.public)],
        repository: { store: 'none', prefix: 'none' },
        access: 'append-only',
        addKeys: false,
        maxSessions: 10,
        from: [],
        disabled: false,
      },
    },
    audit: { file: path.join(directory, 'audit.jsonl') },
  };
  const door = await openSshDoor({
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
    door,
    key,
    logged,
    close: async () => {
      await door.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
