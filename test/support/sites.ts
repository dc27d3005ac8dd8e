/** The ways in, as sites set them up: the gateway's own SSH server, and sshd with a forced command by line or by AuthorizedKeysCommand. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { GATEWAY, startGateway } from './gateway-process.ts';
import { generateKey, lab, run, sshClientArgs, startSshd, tempDir, type KeyFiles, type Outcome } from './lab.ts';
import type { AuditLine } from './stack.ts';

/** A way in. */
export type WayIn = 'ssh server' | 'sshd, authorized_keys' | 'sshd, AuthorizedKeysCommand' | 'newest sshd and ssh';

/** A gateway behind one of the ways in. */
export interface Site {
  /** What a client gives restic as rclone.program. */
  program(client: string): string;
  /** Runs the admin's restic for a client. @param own - options of `restic-gateway restic` itself */
  admin(client: string, args: readonly string[], password: string, own?: readonly string[]): Promise<Outcome>;
  audit(): AuditLine[];
  readonly directory: string;
  readonly configFile: string;
  /** Resident memory in bytes of the gateway's daemon, where there is one. */
  memory(): number;
  close(): Promise<void>;
}

/** Opens a gateway for clients, whose keys are made here. `stores` and `clients` are as in the YAML. */
export async function openSite(
  kind: WayIn,
  config: {
    readonly stores: Readonly<Record<string, unknown>>;
    readonly clients: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  },
  sshOptions: readonly string[] = [],
): Promise<Site> {
  const directory = tempDir();
  const keys = new Map<string, KeyFiles>();
  const clients: Record<string, unknown> = {};
  for (const [name, client] of Object.entries(config.clients)) {
    const key = await generateKey();
    keys.set(name, key);
    clients[name] = { keys: [key.publicLine], ...client };
  }
  const yaml = { stores: config.stores, clients };
  const configFile = path.join(directory, 'gateway.yaml');
  const auditFile = path.join(directory, 'audit.jsonl');
  const knownHosts = path.join(directory, 'known_hosts');
  const ssh = kind === 'newest sshd and ssh' ? lab().sshNewest : lab().ssh;
  let port: number;
  let close: () => Promise<unknown>;
  let memory = (): number => 0;

  if (kind === 'ssh server') {
    const gateway = await startGateway(directory, yaml);
    port = gateway.port;
    close = gateway.stop;
    memory = () => gateway.process.rssBytes();
  } else {
    writeFileSync(configFile, stringify({ ...yaml, audit: { file: auditFile } }));
    const hostKey = await generateKey();
    const lines =
      kind === 'sshd, authorized_keys'
        ? (await run(process.execPath, [GATEWAY, 'authorized-keys', '-c', configFile])).stdout.trim().split('\n')
        : undefined;
    const sshd = await startSshd({
      hostKey,
      newest: kind === 'newest sshd and ssh',
      ...(lines
        ? { authorizedKeysLines: lines }
        : {
            authorizedKeysCommand: `${process.execPath} ${GATEWAY} authorized-keys -c ${configFile} --type %t --key %k`,
          }),
    });
    port = sshd.port;
    writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);
    close = () => sshd.stop();
  }

  return {
    program: (client) => {
      const key = keys.get(client);
      if (key === undefined) throw new Error(`there is no client ${client}`);
      return [ssh, ...sshOptions, ...sshClientArgs({ port, key, knownHosts })].join(' ');
    },
    admin: (client, args, password, own = []) =>
      run(process.execPath, [GATEWAY, 'restic', client, '-c', configFile, ...own, '--', ...args], {
        env: {
          RESTIC_PASSWORD: password,
          RESTIC_CACHE_DIR: path.join(directory, 'admin-cache'),
          RESTIC_GATEWAY_RESTIC: lab().resticNewest,
        },
        timeoutMs: 300_000,
      }),
    audit: () =>
      readFileSync(auditFile, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as AuditLine),
    directory,
    configFile,
    memory,
    close: async () => {
      await close();
    },
  };
}
