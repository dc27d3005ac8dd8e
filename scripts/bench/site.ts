/**
 * The systems that are compared, set up as a site would: a real sshd whose forced command is rclone, the gateway's own SSH server, and the
 * same sshd whose forced command is the gateway. All on one storage, each with its own repositories.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { Group } from './group.ts';
import { freePort, GATEWAY, must, run, type Lab, type S3Access } from './lab.ts';

/** A system that is measured. */
export type SystemName = 'rclone' | 'ssh' | 'stdio';

/** The storage behind all systems. */
export type Backend =
  ({ readonly type: 's3'; readonly bucket: string } & S3Access) | { readonly type: 'directory'; readonly path: string };

/** A system that runs. */
export interface System {
  readonly name: SystemName;
  /** Its processes, idle: the daemon alone. */
  readonly group: Group;
  /** What a client gives restic as rclone.program. */
  ssh(client: number): readonly string[];
  /** What restic makes of it: the command that opens a session. */
  session(client: number): readonly string[];
  /** What its sshd starts for that client, to be started without one. Nothing for the gateway's own server. */
  program(client: number): { readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> };
  /** Path of a client's repository below the storage. */
  prefix(client: number): string;
  close(): Promise<void>;
}

/** What a site is set up with. */
export interface SiteOptions<Name extends SystemName> {
  readonly lab: Lab;
  readonly backend: Backend;
  readonly systems: readonly Name[];
  /** How many clients there are, each with a key and a repository. */
  readonly clients: number;
  /** All systems and clients share one repository. */
  readonly shared?: boolean;
  /** Clients more in the gateway's config, who never come. */
  readonly bystanders?: number;
  /** Added to the gateway's config. */
  readonly configExtra?: Readonly<Record<string, unknown>>;
  /** Arguments of Node, before the gateway's executable. */
  readonly nodeArgs?: readonly string[];
}

/** A site that runs. */
interface Site<Name extends SystemName> {
  readonly systems: Readonly<Record<Name, System>>;
  close(): Promise<void>;
}

/** What restic has the server run. */
const REMOTE = ['serve', 'restic', '--stdio', '--b2-hard-delete', 'x'] as const;

interface Key {
  readonly file: string;
  /** `ssh-ed25519 AAAA… comment` */
  readonly line: string;
}

let sites = 0;

/** Sets a site up; its servers listen when this resolves. */
export async function openSite<Name extends SystemName>(options: SiteOptions<Name>): Promise<Site<Name>> {
  const { lab } = options;
  const directory = lab.directory(`site-${sites++}`);
  const hostKey = await makeKey(lab, path.join(directory, 'host'));
  const keys: Key[] = [];
  for (let client = 0; client < options.clients; client++)
    keys.push(await makeKey(lab, path.join(directory, `client-${client}`)));
  const opened: Partial<Record<SystemName, System>> = {};
  for (const name of options.systems) {
    const place = path.join(directory, name);
    mkdirSync(place, { mode: 0o755 });
    const start = name === 'rclone' ? startRclone : name === 'ssh' ? startSshServer : startForcedCommand;
    opened[name] = await start(options, place, hostKey, keys);
  }
  return {
    systems: opened as Record<Name, System>,
    close: async () => {
      for (const system of Object.values(opened)) await system.close();
    },
  };
}

type Start = (options: SiteOptions<SystemName>, place: string, hostKey: Key, keys: readonly Key[]) => Promise<System>;

const startRclone: Start = async ({ lab, backend, shared }, place, hostKey, keys) => {
  const prefix = prefixOf('rclone', shared);
  const env = configureRclone(backend, place);
  const argv = (client: number): string[] => {
    const base = backend.type === 's3' ? backend.bucket : backend.path;
    return [lab.peers.rclone, 'serve', 'restic', '--stdio', '--append-only', `store:${base}/${prefix(client)}`];
  };
  const lines = keys.map(({ line }, client) => `command="${argv(client).join(' ')}",restrict ${line}`);
  const sshd = await startSshd(lab, place, hostKey, lines, env);
  return {
    name: 'rclone',
    prefix,
    ...sshd,
    program: (client) => ({ argv: argv(client), env }),
    ...clientOf(lab, place, sshd.port, keys),
  };
};

const startForcedCommand: Start = async (options, place, hostKey, keys) => {
  const { lab } = options;
  const config = writeConfig(options, 'stdio', place, hostKey, keys);
  // The lines that the gateway itself prints for sshd.
  const { stdout } = await must(run(lab.node, [GATEWAY, 'authorized-keys', '-c', config]));
  const lines = stdout.split('\n').filter((line) => line.startsWith('command='));
  if (lines.length !== keys.length) throw new Error(`authorized-keys printed other lines than one a client: ${stdout}`);
  const node = (command: string): string =>
    options.nodeArgs === undefined ? command : command.replace(lab.node, [lab.node, ...options.nodeArgs].join(' '));
  const sshd = await startSshd(lab, place, hostKey, lines.map(node), {}, ['ExposeAuthInfo yes']);
  const argv = (client: number): string[] => [lab.node, GATEWAY, 'stdio', clientName(client), '-c', config];
  return {
    name: 'stdio',
    prefix: prefixOf('stdio', options.shared),
    ...sshd,
    program: (client) => ({ argv: argv(client), env: {} }),
    ...clientOf(lab, place, sshd.port, keys),
  };
};

const startSshServer: Start = async (options, place, hostKey, keys) => {
  const { lab, nodeArgs = [] } = options;
  const port = await freePort();
  const config = writeConfig(
    { ...options, configExtra: { listen: `127.0.0.1:${port}`, ...options.configExtra } },
    'ssh',
    place,
    hostKey,
    keys,
  );
  writeFileSync(path.join(place, 'known_hosts'), `[127.0.0.1]:${port} ${hostKey.line}\n`);
  const daemon = await startDaemon('ssh', [lab.node, ...nodeArgs, GATEWAY, 'serve', '-c', config], /listening on/);
  return {
    name: 'ssh',
    prefix: prefixOf('ssh', options.shared),
    ...daemon,
    program: () => {
      throw new Error('the SSH server starts no program');
    },
    ...clientOf(lab, place, port, keys),
  };
};

/** Writes a config whose clients are those of the keys, and gives its path. */
function writeConfig(
  { backend, shared, bystanders = 0, configExtra }: SiteOptions<SystemName>,
  system: SystemName,
  place: string,
  hostKey: Key,
  keys: readonly Key[],
): string {
  const prefix = prefixOf(system, shared);
  const config = path.join(place, 'gateway.yaml');
  const secret = path.join(place, 'secret');
  let store: Record<string, unknown> = { ...backend };
  if (backend.type === 's3') {
    const { secretAccessKey, ...rest } = backend;
    writeFileSync(secret, secretAccessKey, { mode: 0o600 });
    store = { ...rest, secretAccessKeyFile: secret };
  }
  const client = ({ line }: Key, index: number): [string, unknown] => [
    clientName(index),
    {
      keys: [line],
      repository: { store: 'store', prefix: prefix(index) },
      maxSessions: 10_000,
      ...(shared === true ? { shared } : {}),
    },
  ];
  writeFileSync(
    config,
    stringify(
      {
        // As `client add` writes it; a key over several lines would have every start load the library that reads all of YAML.
        hostKeys: [hostKey.file],
        stores: { store },
        clients: Object.fromEntries(
          [...keys, ...Array.from({ length: bystanders }, (): Key => ({ file: '', line: strangersKey() }))].map(client),
        ),
        audit: { file: path.join(place, 'audit.jsonl') },
        ...configExtra,
      },
      { lineWidth: 0 },
    ),
  );
  return config;
}

/** Writes the config file that a user of rclone has, and gives the environment that names it. */
export function configureRclone(backend: Backend, place: string): Record<string, string> {
  const file = path.join(place, 'rclone.conf');
  const settings =
    backend.type === 'directory'
      ? { type: 'local' }
      : {
          type: 's3',
          provider: 'Ceph',
          endpoint: backend.endpoint,
          region: backend.region,
          access_key_id: backend.accessKeyId,
          secret_access_key: backend.secretAccessKey,
          // As everywhere where the credentials are for one bucket.
          no_check_bucket: 'true',
        };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  writeFileSync(file, `[store]\n${lines.join('')}`, { mode: 0o600 });
  return { RCLONE_CONFIG: file };
}

interface Daemon {
  readonly group: Group;
  close(): Promise<void>;
}

/** Debian's sshd with a config of its own. What it starts has `env` in its environment. */
async function startSshd(
  lab: Lab,
  place: string,
  hostKey: Key,
  authorizedKeys: readonly string[],
  env: Readonly<Record<string, string>>,
  more: readonly string[] = [],
): Promise<Daemon & { readonly port: number }> {
  const port = await freePort();
  const [config, keysFile] = [path.join(place, 'sshd_config'), path.join(place, 'authorized_keys')];
  // A home of its own: the user's shell is started at each login, and what the person's profile does in it is not to be measured.
  const sessionEnv = { PATH: process.env['PATH'] ?? '', HOME: place, LAB_RUN_ID: lab.id, ...env };
  writeFileSync(keysFile, authorizedKeys.map((line) => `${line}\n`).join(''));
  writeFileSync(
    config,
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${hostKey.file}`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'AuthenticationMethods publickey',
      'PermitRootLogin prohibit-password',
      `AuthorizedKeysFile ${keysFile}`,
      `SetEnv ${Object.entries(sessionEnv)
        .map(([name, value]) => `"${name}=${value}"`)
        .join(' ')}`,
      ...more,
      '',
    ].join('\n'),
  );
  writeFileSync(path.join(place, 'known_hosts'), `[127.0.0.1]:${port} ${hostKey.line}\n`);
  // Where root's sshd locks up the part that talks before authentication; a service manager makes it otherwise.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const daemon = await startDaemon(
    path.basename(place),
    [lab.peers.sshd, '-D', '-e', '-f', config],
    /^Server listening on/,
  );
  return { ...daemon, port };
}

/** Starts a daemon in a group of its own and waits for a line of its. */
async function startDaemon(name: string, argv: readonly string[], ready: RegExp): Promise<Daemon> {
  const group = new Group(`${name}-${sites}`);
  const [command = '', ...args] = argv;
  const child = group.spawn(command, args, 'pipe');
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      if (said.length < 100_000) said += chunk.toString();
    });
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const isReady = (): boolean => said.split('\n').some((line) => ready.test(line));
  for (let tries = 0; !isReady(); tries++) {
    if (ended() || tries > 600) {
      await group.close();
      throw new Error(`${name} did not start: ${said.slice(-1500)}`);
    }
    await sleep(50);
  }
  group.markIdle();
  return {
    group,
    close: async () => {
      // Asked first, so that it can write down what it has to.
      child.kill('SIGTERM');
      for (let tries = 0; !ended() && tries < 200; tries++) await sleep(50);
      await group.close();
    },
  };
}

/** A public key that nobody has the private one of (RFC 8709, 4). */
function strangersKey(): string {
  const type = Buffer.from('ssh-ed25519');
  const word = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  return `ssh-ed25519 ${Buffer.concat([word(type), word(randomBytes(32))]).toString('base64')} stranger`;
}

function clientOf(lab: Lab, place: string, port: number, keys: readonly Key[]): Pick<System, 'ssh' | 'session'> {
  const ssh = (client: number): string[] => {
    const key = keys[client];
    if (key === undefined) throw new Error(`the site has no client ${client}`);
    const options = [
      `IdentityFile=${key.file}`,
      'IdentitiesOnly=yes',
      'IdentityAgent=none',
      `UserKnownHostsFile=${path.join(place, 'known_hosts')}`,
      'GlobalKnownHostsFile=none',
      'StrictHostKeyChecking=yes',
      'BatchMode=yes',
    ];
    const { username } = userInfo();
    return [
      lab.peers.ssh,
      '-F',
      'none',
      '-p',
      String(port),
      ...options.flatMap((each) => ['-o', each]),
      `${username}@127.0.0.1`,
    ];
  };
  return { ssh, session: (client) => [...ssh(client), ...REMOTE] };
}

function prefixOf(system: SystemName, shared = false): (client: number) => string {
  return (client) => (shared ? 'shared' : `${system}/${clientName(client)}`);
}

function clientName(client: number): string {
  return `client-${client}`;
}

async function makeKey(lab: Lab, file: string): Promise<Key> {
  await must(run(lab.peers.sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', 'bench', '-f', file]));
  chmodSync(file, 0o600);
  return { file, line: readFileSync(`${file}.pub`, 'utf8').trim() };
}
