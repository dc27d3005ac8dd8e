/**
 * Where a run of the benchmarks takes place: the real peers of scripts/lab, an S3 server, directories and processes, of which nothing is
 * left when the run is over, however it ends.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { constants, homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

/** The project's own directory. */
export const ROOT = path.resolve(import.meta.dirname, '../..');
/** The executable that is measured. */
export const GATEWAY = path.join(ROOT, 'bin/restic-gateway');

const SCRIPTS = path.join(ROOT, 'scripts/lab');

/** Absolute paths of the programs that take part. */
export interface Peers {
  readonly restic: string;
  readonly rclone: string;
  readonly ssh: string;
  readonly sshd: string;
  readonly sshKeygen: string;
}

/** How to reach the S3 server. */
export interface S3Access {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** How a program ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** From its start to its end. */
  readonly seconds: number;
}

/** What a program is run with. */
interface RunOptions {
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Then it is killed; 15 minutes by default. */
  readonly timeoutMs?: number;
}

/** A run's place and means. */
export interface Lab {
  readonly peers: Peers;
  /** This Node as a file of its own, so that the memory of the gateway's program is not shared with whatever else runs Node here. */
  readonly node: string;
  /** Marks each process of the run in its environment, as LAB_RUN_ID. */
  readonly id: string;
  /** A new directory on disk. */
  directory(name: string): string;
  /** A new directory in memory where there is room for `bytes` twice over, else on disk: for what the client reads and writes. */
  fastDirectory(name: string, bytes: number): string;
  /** Starts the S3 server anew, empty but for one bucket; always under the same address. */
  freshS3(): Promise<S3Access & { readonly bucket: string }>;
  /** Ends what is left and removes all directories. */
  close(): Promise<void>;
}

/**
 * What the programs are given of the environment here: whatever else the person at the terminal has set would change what they do. With
 * NODE_EXTRA_CA_CERTS, for one, Node parses all those certificates at every start.
 */
const GIVEN = /^(PATH|HOME|USER|TMPDIR|LAB_|AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED$)/;

/** The environment that everything runs in. */
export function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => GIVEN.test(name));
  return { ...(Object.fromEntries(own) as Record<string, string>), LC_ALL: 'C.UTF-8', ...extra };
}

const wholeEnvironment = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined));

/**
 * Opens the lab; fetches the peers when they are not there.
 * @throws Error in words for a person, when something is missing
 */
export async function openLab(say: (line: string) => void): Promise<Lab> {
  const peers = await findPeers(say);
  const id = randomUUID();
  process.env['LAB_RUN_ID'] = id;
  const disk = mkdtempSync(path.join(tmpdir(), 'restic-gateway-bench-'));
  // sshd reads the keys as the user who logs in.
  chmodSync(disk, 0o711);
  let memory: string | undefined;
  // Reads from a pipe that ends with this process, a kill -9 included; it is not of the run itself, so it does not carry its id.
  const enders = [endRunWith(disk, id)];
  let port: number | undefined;
  const node = path.join(disk, 'node');
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);

  const inMemory = (bytes: number): string | undefined => {
    if (!existsSync('/dev/shm')) return undefined;
    const { bavail, bsize } = statfsSync('/dev/shm');
    const available = /MemAvailable:\s+(\d+) kB/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    if (Math.min(bavail * bsize, Number(available) * 1024 * 0.5) < 2 * bytes) return undefined;
    if (memory === undefined) {
      memory = mkdtempSync('/dev/shm/restic-gateway-bench-');
      enders.push(endRunWith(memory, id));
    }
    return memory;
  };

  return {
    peers,
    node,
    id,
    directory: (name) => makeDirectory(disk, name),
    fastDirectory: (name, bytes) => makeDirectory(inMemory(bytes) ?? disk, name),
    freshS3: async () => {
      const data = path.join(disk, 'radosgw');
      await must(await run(path.join(SCRIPTS, 'stop-radosgw'), [data]));
      port ??= await freePort();
      const { stdout } = await must(await run(path.join(SCRIPTS, 'start-radosgw'), ['-p', String(port), data]));
      const access = parseAccess(stdout);
      const client = s3Client(access);
      await client.send(new CreateBucketCommand({ Bucket: 'backups' }));
      client.destroy();
      return { ...access, bucket: 'backups' };
    },
    close: async () => {
      await Promise.all(
        enders.map(
          (ender) =>
            new Promise((resolve) => {
              ender.ref();
              ender.once('exit', resolve);
              ender.stdin?.end();
            }),
        ),
      );
    },
  };
}

/** The SDK's client for the S3 server. */
export function s3Client({ endpoint, region, accessKeyId, secretAccessKey }: S3Access): S3Client {
  // What it has to say about the future of this Node is nothing for the middle of a benchmark.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  return new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

/** Runs a program to its end. @throws Error when it cannot be started or does not end in time */
export function run(
  command: string,
  args: readonly string[],
  { env = {}, timeoutMs = 900_000 }: RunOptions = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(command, args, { env: environment(env), stdio: ['ignore', 'pipe', 'pipe'] });
    const output: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
    child.stdout.on('data', (chunk: Buffer) => output.stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => output.stderr.push(chunk));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${command} ${args.join(' ')} did not end in ${timeoutMs / 1000} s`));
    }, timeoutMs);
    let seconds = 0;
    child.once('error', reject);
    child.once('exit', () => {
      seconds = (performance.now() - started) / 1000;
    });
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      const code = status ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      const [stdout, stderr] = [Buffer.concat(output.stdout).toString(), Buffer.concat(output.stderr).toString()];
      resolve({ code, stdout, stderr, seconds });
    });
  });
}

/** @throws Error with its last words, when a program failed */
export async function must(ended: Ended | Promise<Ended>): Promise<Ended> {
  const done = await ended;
  if (done.code !== 0) throw new Error(`a program failed (${done.code}): ${(done.stderr + done.stdout).slice(-1500)}`);
  return done;
}

/** A TCP port of the loopback that is free now, below those that the kernel gives to outgoing connections. */
export async function freePort(): Promise<number> {
  for (;;) {
    const candidate = 15_000 + Math.floor(Math.random() * 15_000);
    const free = await new Promise<number | undefined>((resolve) => {
      const server = createServer();
      server.once('error', () => {
        resolve(undefined);
      });
      server.listen(candidate, '127.0.0.1', () => {
        const { port } = server.address() as AddressInfo;
        server.close(() => {
          resolve(port);
        });
      });
    });
    if (free !== undefined) return free;
  }
}

function makeDirectory(parent: string, name: string): string {
  const directory = path.join(parent, name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  return directory;
}

function endRunWith(directory: string, id: string): ChildProcess {
  const ender = spawn(path.join(SCRIPTS, 'end-run'), [id, directory], {
    detached: true,
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'LAB_RUN_ID')),
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  ender.unref();
  return ender;
}

function parseAccess(text: string): S3Access {
  const get = (name: string): string => {
    const value = new RegExp(`^S3_${name}=(.*)$`, 'm').exec(text)?.[1];
    if (value === undefined) throw new Error(`start-radosgw told no S3_${name}`);
    return value;
  };
  return {
    endpoint: get('ENDPOINT'),
    region: get('REGION'),
    accessKeyId: get('ACCESS_KEY_ID'),
    secretAccessKey: get('SECRET_ACCESS_KEY'),
  };
}

async function findPeers(say: (line: string) => void): Promise<Peers> {
  const { LAB_DIR, XDG_CACHE_HOME } = process.env;
  const caches =
    XDG_CACHE_HOME === undefined || XDG_CACHE_HOME === '' ? path.join(homedir(), '.cache') : XDG_CACHE_HOME;
  const directory = LAB_DIR === undefined || LAB_DIR === '' ? path.join(caches, 'restic-gateway-lab') : LAB_DIR;
  const file = path.join(path.resolve(directory), 'lab.env');
  if (!existsSync(file)) {
    say('setting up the lab; the first time this takes some minutes');
    // It fetches over the network, so that it needs what is set for that, proxies and certificates.
    await must(run(path.join(SCRIPTS, 'setup'), [], { env: wholeEnvironment() }));
  }
  const text = readFileSync(file, 'utf8');
  const locate = (name: string): string => {
    const place = new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1];
    if (place === undefined || !existsSync(place)) throw new Error(`${name} is missing; run scripts/lab/setup`);
    return place;
  };
  return {
    restic: locate('RESTIC_NEWEST'),
    rclone: locate('RCLONE'),
    ssh: locate('SSH'),
    sshd: locate('SSHD'),
    sshKeygen: locate('SSH_KEYGEN'),
  };
}
