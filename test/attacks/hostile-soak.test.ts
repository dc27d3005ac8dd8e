/**
 * One client does at once everything that wears a gateway out (test/support/hostile-client.ts), while another backs up and restores on the same
 * gateway and a third keeps a session open. `scripts/hostile-soak` has it for a minute, measures how much longer the honest one takes, and
 * prints a table; HOSTILE_SECONDS, HOSTILE_STORE and HOSTILE_ACTIONS (with commas) say for how long, where and with what. With
 * HOSTILE_APART=1 the attack goes to a gateway of its own beside the honest one's, on the same machine and S3 server: how much longer the
 * honest one takes then is what the machine is short of, and no gateway can help.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, jest, test } from '@jest/globals';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  s3,
  sameTree,
  sshClientArgs,
  startProcess,
  tempDir,
  type KeyFiles,
  type Outcome,
} from '../support/lab.ts';
import { HOSTILE_ACTIONS } from '../support/hostile-client.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { withTmpfs } from '../support/mounts.ts';
import { sample } from '../support/restic-client.ts';
import { startSshSession } from '../support/ssh-session.ts';
import { freshStore, STORES, type StoreEntry } from '../support/stores.ts';

const MIB = 1024 * 1024;
const SECONDS = Number(process.env['HOSTILE_SECONDS'] ?? 15);
const ONLY = process.env['HOSTILE_STORE'];
const ACTIONS = process.env['HOSTILE_ACTIONS']?.split(',') ?? Object.keys(HOSTILE_ACTIONS);
/** Then the same is done in quiet first, and the times are printed. */
const MEASURED = process.env['HOSTILE_MEASURED'] === '1';
const APART = process.env['HOSTILE_APART'] === '1';
jest.setTimeout(400_000 + SECONDS * 4000);

/** What the gateway may hold beyond what it holds at rest: its budget of buffered bytes, and what V8 needs for requests under way. */
const MOST_MEMORY = 512 * MIB;
/** What the hostile client may add to the audit. */
const MOST_AUDIT = 10 * MIB;
/** How many objects are in the hostile client's repository, for its lists. */
const LISTED = { directory: 4000, s3: 1000 };
const BIG = 4 * MIB;
/** How often it is looked what the gateway holds, in ms: each look takes CPU from those who are measured. */
const LOOK_MS = 20;

/** Fills the repository of `hostile` behind the gateway's back. @returns names of objects that are large */
async function fill(kind: 'directory' | 's3', store: StoreEntry): Promise<readonly string[]> {
  const large = [sample(BIG), sample(BIG)];
  const small = Array.from({ length: LISTED[kind] }, () => sample(1));
  const all = [...large, ...small];
  const keyOf = (name: string): string => `hostile/data/${name.slice(0, 2)}/${name}`;
  if (kind === 'directory') {
    for (const { name, body } of all) {
      const file = path.join(store['path'] ?? '', keyOf(name));
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, body);
    }
  } else {
    const { endpoint, region, accessKeyId, secretAccessKey } = s3();
    const client = new S3Client({
      ...{ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true },
    });
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let next = all.pop(); next !== undefined; next = all.pop())
          await client.send(new PutObjectCommand({ Bucket: store['bucket'], Key: keyOf(next.name), Body: next.body }));
      }),
    );
    client.destroy();
  }
  return large.map(({ name }) => name);
}

/** What ssh says when a server hangs up on it before it has logged in. */
const LOGIN_DROPPED = /kex_exchange_identification|Connection (?:closed|reset) by 127\.0\.0\.1/;

/** Where the honest clients store, where the hostile one does, and what of its config is its own. */
interface Stage {
  readonly store: StoreEntry;
  readonly hostileStore: StoreEntry;
  readonly limits: Readonly<Record<string, unknown>>;
}

/** Each has a store for the hostile client that fails it when it writes, as attackers like best. */
const STAGES: Readonly<Record<'directory' | 's3', (work: (stage: Stage) => Promise<void>) => Promise<void>>> = {
  /** On a file system that is full with its first uploads. */
  directory: async (work) => {
    const store = await freshStore('directory');
    const hostileStore = await freshStore('directory');
    await withTmpfs('size=48m', () => work({ store, hostileStore, limits: {} }), hostileStore['path']);
  },
  /** On an S3 server that breaks off its uploads, for which its bandwidth makes it wait. */
  s3: async (work) => {
    const store = await freshStore('s3');
    const proxy = await startFaultProxy(s3().endpoint);
    const fault = { kind: 'refuse', after: 100_000, status: 503, code: 'SlowDown' } as const;
    proxy.set({ method: 'PUT', path: /\/hostile\/data\//, over: BIG, fault });
    const hostileStore = { ...store, endpoint: proxy.endpoint };
    await work({ store, hostileStore, limits: { bandwidth: { upload: '2MiB/s' } } }).finally(() => proxy.close());
  },
};

/** The honest client: real restic through real OpenSSH. */
class Honest {
  readonly #options: Readonly<Record<string, string>>;
  readonly #source: string;
  readonly #target: string;
  #rounds = 0;
  /** Logins that were not let in at once. */
  dropped = 0;

  constructor(gateway: RunningGateway, key: KeyFiles, repository: string) {
    const { port, knownHosts } = gateway;
    this.#options = {
      'rclone.program': [lab().ssh, ...sshClientArgs({ port, key, knownHosts, user: repository })].join(' '),
    };
    this.#source = path.join(tempDir(), 'source');
    this.#target = tempDir();
  }

  async begin(): Promise<void> {
    await makeTree(this.#source, { files: 40, bytes: 24 * MIB, seed: 'honest' });
    await this.must('init');
  }

  async must(...args: readonly string[]): Promise<void> {
    const { code, stdout, stderr } = await this.#run(args);
    expect({ args, code, said: code === 0 ? '' : stdout + stderr }).toEqual({ args, code: 0, said: '' });
  }

  /** While all logins are fought for, one in twenty may be dropped; a person or a timer then tries again. */
  async #run(args: readonly string[]): Promise<Outcome> {
    for (let attempts = 1; ; attempts++) {
      const target = { repo: 'rclone:x', options: this.#options, timeoutMs: 300_000 };
      const outcome = await restic(lab().resticNewest, target, args);
      if (outcome.code === 0 || attempts === 3 || !LOGIN_DROPPED.test(outcome.stderr)) return outcome;
      this.dropped++;
    }
  }

  /** Backs up what has changed, restores all, and compares. @returns how long that took, in ms */
  async round(): Promise<number> {
    const restored = path.join(this.#target, String(this.#rounds++));
    // The last round's goes, so that each has as much to do.
    rmSync(path.join(this.#source, `round-${this.#rounds - 1}`), { recursive: true, force: true });
    await makeTree(path.join(this.#source, `round-${this.#rounds}`), {
      ...{ files: 10, bytes: 8 * MIB, seed: `round ${this.#rounds}` },
    });
    const began = performance.now();
    await this.must('backup', this.#source);
    await this.must('restore', 'latest', '--target', restored);
    const took = performance.now() - began;
    await sameTree(this.#source, path.join(restored, this.#source));
    return took;
  }
}

/** What a process holds, now and at most. */
function watch(pid: number): {
  memory(): number;
  descriptors(): number;
  readonly most: { memory: number; descriptors: number };
  stop(): void;
} {
  const memory = (): number =>
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;
  const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length;
  const most = { memory: 0, descriptors: 0 };
  const timer = setInterval(() => {
    try {
      most.memory = Math.max(most.memory, memory());
      most.descriptors = Math.max(most.descriptors, descriptors());
    } catch {
      clearInterval(timer);
    }
  }, LOOK_MS);
  return {
    memory,
    descriptors,
    most,
    stop: () => {
      clearInterval(timer);
    },
  };
}

test.each(STORES.filter((kind) => ONLY === undefined || kind === ONLY))(
  `one hostile client for ${SECONDS} s, and honest ones who do not suffer from it: %s`,
  async (kind) => {
    await STAGES[kind]((stage) => soak(kind, stage));
  },
);

async function soak(kind: 'directory' | 's3', { store, hostileStore, limits }: Stage): Promise<void> {
  const keys = {
    ...{ hostile: await generateKey(), disabled: await generateKey() },
    ...{ honest: await generateKey(), bystander: await generateKey() },
  };
  const client = (name: keyof typeof keys, on = 'main'): Record<string, unknown> => ({
    ...{ keys: [keys[name].publicLine], repository: { store: on, prefix: name } },
  });
  const objects = await fill(kind, hostileStore);
  const config = {
    stores: { main: store, hostile: hostileStore },
    clients: {
      honest: client('honest'),
      bystander: client('bystander'),
      disabled: { ...client('disabled'), disabled: true },
      hostile: { ...client('hostile', 'hostile'), ...limits },
    },
  };
  const gateway = await startGateway(tempDir(), config);
  const attacked = APART ? await startGateway(tempDir(), config) : gateway;
  const died: string[] = [];
  void gateway.process.exited.then((status) => {
    died.push(`the gateway ended with ${status} and said:\n${gateway.process.lines.slice(-30).join('\n')}`);
  });
  const honest = new Honest(gateway, keys.honest, 'honest');
  await honest.begin();
  await honest.round();
  const quiet = MEASURED ? [await honest.round(), await honest.round()] : [];

  // One more, whose session is open all the while.
  const bystander = startSshSession({ port: gateway.port, key: keys.bystander, knownHosts: gateway.knownHosts });
  const ask = async (): Promise<number> => (await bystander.request('GET', '/file-1')).status;
  expect(await ask()).toBe(404);

  const watched = watch(gateway.process.pid);
  const before = { memory: watched.memory(), descriptors: watched.descriptors() };
  const auditBefore = auditBytes(gateway.auditFile);
  const targetFile = path.join(tempDir(), 'target.json');
  const key = readFileSync(keys.hostile.privateFile, 'utf8');
  writeFileSync(
    targetFile,
    JSON.stringify({
      port: attacked.port,
      key,
      disabledKey: readFileSync(keys.disabled.privateFile, 'utf8'),
      objects,
    }),
  );
  // What the attacker's own machine has to do is not to be taken from the gateway's.
  const hostile = await startProcess('nice', [
    ...['-n', '19', process.execPath, '--import', './scripts/bench/typescript.mjs'],
    ...['test/support/hostile-program.ts', targetFile, '3600', ...ACTIONS],
  ]);
  await hostile.waitForLine(/^attacking$/);

  const cpuBefore = { gateway: cpuSeconds(gateway.process.pid), s3: s3CpuSeconds() };
  const began = Date.now();
  const times: number[] = [];
  const answers: number[] = [];
  while ((Date.now() - began < SECONDS * 1000 || times.length === 0) && died.length === 0) {
    times.push(await honest.round());
    answers.push(await ask());
  }
  expect(died).toEqual([]);
  const cpu = {
    ...{ gateway: cpuSeconds(gateway.process.pid) - cpuBefore.gateway, s3: s3CpuSeconds() - cpuBefore.s3 },
    ...{ attacker: cpuSeconds(hostile.pid), all: (Date.now() - began) / 1000 },
  };
  hostile.signal('SIGTERM');
  const counts = JSON.parse(await hostile.waitForLine(/^\{/)) as Record<string, number>;
  await hostile.exited;

  // All is given back: what is open is the bystander's session.
  const patience = Date.now() + 180_000;
  while (Date.now() < patience && watched.descriptors() > before.descriptors + 4) await sleep(100);
  const after = { memory: watched.memory(), descriptors: watched.descriptors() };
  watched.stop();
  const grown = auditBytes(gateway.auditFile) - auditBefore;
  process.stderr.write(
    `${kind}: ${JSON.stringify(counts)}\n` +
      hostile.lines
        .filter((line) => line.startsWith('the hostile client'))
        .map((line) => `${line}\n`)
        .join('') +
      `memory: ${mib(before.memory)} MiB before, ${mib(watched.most.memory)} at most, ${mib(after.memory)} after; ` +
      `descriptors: ${before.descriptors}, ${watched.most.descriptors}, ${after.descriptors}; audit: ${mib(grown)} MiB more; ` +
      `${times.length} rounds, ${honest.dropped} logins dropped\n` +
      (MEASURED ? `${sharesOf(cpu)}\n${ratioOf(quiet, times)}\n` : ''),
  );

  expect(died).toEqual([]);
  expect(gateway.process.lines.filter((line) => /uncaught|unhandled|"code":"internal"/i.test(line))).toEqual([]);
  // It was no idle minute.
  expect(Object.entries(counts).filter(([, count]) => count === 0)).toEqual([]);
  expect(watched.most.memory).toBeLessThan(before.memory + MOST_MEMORY);
  expect(after.descriptors).toBeLessThanOrEqual(before.descriptors + 4);
  expect(grown).toBeLessThan(MOST_AUDIT);
  // The session next door has not noticed, nor has what was stored.
  expect(answers.filter((status) => status !== 404)).toEqual([]);
  expect(await ask()).toBe(404);
  await honest.must('check', '--read-data');
  const verified = await run(process.execPath, [GATEWAY, 'audit', 'verify', '-c', gateway.configFile]);
  expect({ code: verified.code, said: verified.code === 0 ? '' : verified.stdout + verified.stderr }).toEqual({
    ...{ code: 0, said: '' },
  });
  bystander.close();
  expect(await gateway.stop()).toBe(0);
  if (APART) await attacked.stop();
}

/** CPU that a process has had, in s: proc(5), in hundredths on Linux for users' programs. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Of all of the S3 server's processes, which a loader starts, so that their names tell nothing. */
function s3CpuSeconds(): number {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/radosgw/ceph.conf');
      } catch {
        return false;
      }
    })
    .reduce((sum, pid) => sum + cpuSeconds(Number(pid)), 0);
}

/** Of one core, how much each of them had while the attack went on. */
function sharesOf({ all, ...cpu }: Readonly<Record<string, number>> & { readonly all: number }): string {
  const shares = Object.entries(cpu).map(([who, seconds]) => `${who} ${Math.round((100 * seconds) / all)} %`);
  return `CPU under attack, of one core: ${shares.join(', ')}`;
}

const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

/** Bytes of an audit, with its closed segments. */
function auditBytes(file: string): number {
  const directory = path.dirname(file);
  return readdirSync(directory)
    .filter((name) => name.startsWith(path.basename(file).replace(/\.jsonl$/, '')))
    .map((name) => statSync(path.join(directory, name)))
    .reduce((sum, one) => sum + (one.isFile() ? one.size : 0), 0);
}

function ratioOf(quiet: readonly number[], times: readonly number[]): string {
  const [calm, under] = [quiet, times].map((all) => all.reduce((sum, one) => sum + one, 0) / all.length / 1000) as [
    number,
    number,
  ];
  return `a round of backup and restore: ${calm.toFixed(2)} s in quiet, ${under.toFixed(2)} s under attack (${times.length} rounds): ratio ${(under / calm).toFixed(2)}`;
}
