/** Where the real programs are that the tests run against, and how restic is called. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { tempDir } from './lab-files.ts';
import { run, type Outcome, type RunOptions } from './lab-process.ts';

/** The name of each peer in lab.env, as scripts/lab/setup writes it. */
const PEERS = {
  /** The restic of this Debian: 0.14 in bookworm, the oldest that is supported. */
  resticDebian: 'RESTIC_DEBIAN',
  /** restic 0.18. */
  resticTrixie: 'RESTIC_TRIXIE',
  /** restic 0.19 or newer. */
  resticNewest: 'RESTIC_NEWEST',
  rclone: 'RCLONE',
  restServer: 'REST_SERVER',
  /** Prometheus' checker of configs and alert rules. */
  promtool: 'PROMTOOL',
  /** Puts Kubernetes manifests together. */
  kustomize: 'KUSTOMIZE',
  /** The OpenSSH of this Debian. */
  ssh: 'SSH',
  sshd: 'SSHD',
  sshKeygen: 'SSH_KEYGEN',
  /** A browser, for the page. */
  chromium: 'CHROMIUM',
  /** A balancer, which speaks the PROXY protocol. */
  haproxy: 'HAPROXY',
  /** The server of PostgreSQL, with its other programs beside it. */
  postgres: 'POSTGRES',
  /** OpenSSH 10 or newer. */
  sshNewest: 'SSH_NEWEST',
  sshdNewest: 'SSHD_NEWEST',
  node22: 'NODE_22',
  node24: 'NODE_24',
  /** The Node that docs/node.md recommends; the newest line that there is, too. */
  nodeLts: 'NODE_LTS',
  /** Debian 13's own, which must run as root. */
  nodeDebian: 'NODE_DEBIAN',
  /** A whole Debian 13, its file system. */
  debianTree: 'DEBIAN_TREE',
  /** A tar of what the container image's base has. */
  imageBase: 'IMAGE_BASE',
  /** npm's cache, with all that is in the lockfile; under `locks`, by a lockfile's SHA-256, an empty file of each that it is for. */
  npmCache: 'NPM_CACHE',
} as const;

/** Absolute paths of the peers. */
type Lab = { readonly [Peer in keyof typeof PEERS]: string };

/** Which repository, and how restic gets there. */
interface ResticTarget {
  /** As after `-r`. */
  readonly repo: string;
  /** Extended options, as after `-o`: `{ 'rclone.program': 'ssh …' }`. */
  readonly options?: Readonly<Record<string, string>>;
  /** 'password' by default. */
  readonly password?: string;
}

let found: Lab | undefined;
let cache: string | undefined;

/** @throws Error that names scripts/lab/setup, when a peer is missing */
export function lab(): Lab {
  if (found !== undefined) return found;
  const file = path.join(path.resolve(labDirectory()), 'lab.env');
  const paths = existsSync(file)
    ? new Map(
        readFileSync(file, 'utf8')
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      )
    : new Map<string, string>();
  const locate = (name: string): string => {
    const place = paths.get(name);
    if (place === undefined || !existsSync(place)) throw new Error(`${name} is missing; run scripts/lab/setup`);
    return place;
  };
  found = Object.fromEntries(Object.entries(PEERS).map(([peer, name]) => [peer, locate(name)])) as Lab;
  return found;
}

/** Runs a restic, one of `lab()`, with a password and a cache of the test file's own; 300 s at most unless `timeoutMs` says otherwise. */
export async function restic(
  binary: string,
  { repo, options = {}, password = 'password', ...rest }: ResticTarget & RunOptions,
  args: readonly string[],
): Promise<Outcome> {
  cache ??= tempDir();
  const extended = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return run(binary, ['-r', repo, ...extended, ...args], {
    timeoutMs: 300_000,
    ...rest,
    env: { RESTIC_PASSWORD: password, RESTIC_CACHE_DIR: cache, ...rest.env },
  });
}

/** The same as in scripts/lab/common. */
function labDirectory(): string {
  const { LAB_DIR, XDG_CACHE_HOME } = process.env;
  if (LAB_DIR !== undefined && LAB_DIR !== '') return LAB_DIR;
  const caches =
    XDG_CACHE_HOME !== undefined && XDG_CACHE_HOME !== '' ? XDG_CACHE_HOME : path.join(homedir(), '.cache');
  return path.join(caches, 'restic-gateway-lab');
}
