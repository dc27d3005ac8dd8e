/**
 * A hundred clients at once for a while, over real SSH: they upload, download, list, lock, break off and come again, and the gateway's memory
 * and descriptors stay as they are. `npm run soak` runs it for minutes and prints a table; SOAK_SECONDS says for how long.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, jest, test } from '@jest/globals';
import ssh2, { type Client } from 'ssh2';
import { startGateway } from '../support/gateway-process.ts';
import { tempDir } from '../support/lab.ts';
import { resticClient, sample, sha256, type ResticClient } from '../support/restic-client.ts';
import { keyPair } from '../support/ssh-stack.ts';
import { freshStore, STORES } from '../support/stores.ts';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 24);
jest.setTimeout(300_000 + SECONDS * 2000);

/** SOAK_STORE=s3 has it on the other store. */
const STORE = STORES.find((kind) => kind === process.env['SOAK_STORE']) ?? 'directory';
const CLIENTS = 100;
const MIB = 1024 * 1024;
/** What all of them may store; from then on they send again what is there. */
const MOST_STORED = 1024 * MIB;
/** How much more the last third of the time may need than the second, beyond a quarter: what garbage collection leaves lying for a while. */
const SPARE_MEMORY = 48 * MIB;
/** Connections and files that are just being opened or closed. */
const SPARE_DESCRIPTORS = 40;

/** What all clients together have done. */
interface Work {
  requests: number;
  sessions: number;
  up: number;
  down: number;
  brokenOff: number;
  stored: number;
}

interface SharedTime extends Readonly<Work> {
  readonly seconds: number;
  readonly memory: number;
  readonly descriptors: number;
}

/** One client: a connection at a time, with a session at a time on it. */
class Soaker {
  readonly #name: string;
  readonly #port: number;
  readonly #key: string;
  readonly #work: Work;
  readonly #objects: { readonly name: string; readonly size: number }[] = [];
  #connection: Client | undefined;
  #restic: ResticClient | undefined;

  constructor(name: string, port: number, key: string, work: Work) {
    this.#name = name;
    this.#port = port;
    this.#key = key;
    this.#work = work;
  }

  async connect(): Promise<void> {
    const connection = new ssh2.Client();
    this.#connection = connection;
    await new Promise<void>((resolve, reject) => {
      connection.on('ready', resolve);
      connection.on('error', reject);
      connection.connect({
        ...{ host: '127.0.0.1', port: this.#port, username: this.#name, privateKey: this.#key },
        ...{ readyTimeout: 120_000 },
      });
    });
    this.#restic = await new Promise<ResticClient>((resolve, reject) =>
      connection.exec('serve restic', (error, channel) => {
        if (error === undefined) resolve(resticClient(channel));
        else reject(error);
      }),
    );
    this.#work.sessions++;
  }

  /** Leaves: as restic does, or as a client that lost its network. */
  async leave(rudely: boolean): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    const closed = new Promise<void>((resolve) => {
      connection.once('close', () => {
        resolve();
      });
    });
    if (rudely) connection.destroy();
    else {
      this.#restic?.close();
      connection.end();
    }
    await closed;
  }

  /** One of the things that clients do. @throws Error when the answer is not the right one */
  async act(): Promise<void> {
    const what = Math.random();
    if (what < 0.4) await this.#upload();
    else if (what < 0.65) await this.#download();
    else if (what < 0.75) await this.#ask('GET', '/data/', 200);
    else if (what < 0.85) await this.#lock();
    else if (what < 0.95) this.#breakOff();
    else {
      await this.leave(Math.random() < 0.5);
      await this.connect();
    }
  }

  async #ask(method: string, where: string, status: number, body?: Uint8Array): Promise<Buffer> {
    if (this.#restic === undefined) throw new Error(`${this.#name} is not connected`);
    const answer = await this.#restic.request(method, where, body === undefined ? {} : { body });
    this.#work.requests++;
    this.#work.up += body?.length ?? 0;
    this.#work.down += answer.body.length;
    if (answer.status !== status) throw new Error(`${this.#name}: ${method} ${where} was answered ${answer.status}`);
    return answer.body;
  }

  async #upload(): Promise<void> {
    if (this.#work.stored > MOST_STORED) {
      await this.#download();
      return;
    }
    const { name, body } = sample(1 + Math.floor(Math.random() ** 3 * 1.5 * MIB));
    this.#work.stored += body.length;
    await this.#ask('POST', `/data/${name}`, 200, body);
    this.#objects.push({ name, size: body.length });
    // As after an answer that was lost.
    if (Math.random() < 0.1) await this.#ask('POST', `/data/${name}`, 200, body);
  }

  async #download(): Promise<void> {
    const one = this.#objects[Math.floor(Math.random() * this.#objects.length)];
    if (one === undefined) return;
    expect(sha256(await this.#ask('GET', `/data/${one.name}`, 200))).toBe(one.name);
  }

  async #lock(): Promise<void> {
    const { name, body } = sample(200);
    await this.#ask('POST', `/locks/${name}`, 200, body);
    await this.#ask('GET', '/locks/', 200);
    await this.#ask('DELETE', `/locks/${name}`, 200);
  }

  /** Begins an upload or a download and calls it off. */
  #breakOff(): void {
    const { name, body } = sample(200_000);
    const one = this.#objects[0];
    const head =
      one === undefined || Math.random() < 0.5
        ? { ':method': 'POST', ':path': `/data/${name}`, 'content-length': String(body.length) }
        : { ':method': 'GET', ':path': `/data/${one.name}` };
    const stream = this.#restic?.session.request(head, { endStream: head[':method'] === 'GET' });
    stream?.on('error', () => undefined);
    if (head[':method'] === 'POST') stream?.write(body.subarray(0, 100_000));
    setTimeout(() => stream?.close(8), Math.random() * 100);
    this.#work.brokenOff++;
  }
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

test(`${CLIENTS} clients for ${SECONDS} s: memory and descriptors stay flat, and all of it is given back`, async () => {
  const keys = Array.from({ length: CLIENTS }, () => keyPair());
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore(STORE) },
    clients: Object.fromEntries(
      keys.map(({ public: line }, index) => [
        `soak${index}`,
        {
          ...{ keys: [line], repository: { store: 'main', prefix: `soak${index}` }, maxSessions: 20 },
          ...{ smallObjects: '1000000/h', requests: '10000/s' },
        },
      ]),
    ),
    ssh: { limits: { unauthenticatedPerAddress: 500 } },
  });
  const descriptors = (): number => readdirSync(`/proc/${gateway.process.pid}/fd`).length;
  const before = descriptors();
  // What fails because it has died should say so.
  const died: string[] = [];
  void gateway.process.exited.then((status) => {
    died.push(`the gateway ended with ${status} and said:\n${gateway.process.lines.slice(-30).join('\n')}`);
  });
  const alive = async <T>(doing: Promise<T>): Promise<T> => {
    try {
      return await doing;
    } catch (cause) {
      await sleep(500);
      throw died[0] === undefined ? cause : new Error(died[0], { cause });
    }
  };
  const work: Work = { requests: 0, sessions: 0, up: 0, down: 0, brokenOff: 0, stored: 0 };
  const soakers = keys.map((key, index) => new Soaker(`soak${index}`, gateway.port, key.private, work));
  // A few at a time, or they would all wait for each other's handshakes.
  const waiting = [...soakers];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await next.connect();
    }),
  );

  const sharedTimes: SharedTime[] = [];
  const began = Date.now();
  const over = (): boolean => Date.now() - began > SECONDS * 1000;
  const watched = (async () => {
    while (!over() && died.length === 0) {
      await sleep(Math.min(1000, SECONDS * 10));
      const seconds = (Date.now() - began) / 1000;
      sharedTimes.push({ seconds, memory: gateway.process.rssBytes(), descriptors: descriptors(), ...work });
    }
  })();
  await alive(
    Promise.all(
      soakers.map(async (soaker) => {
        while (!over()) {
          await soaker.act();
          await sleep(Math.random() * 200);
        }
      }),
    ),
  );
  await watched;
  await Promise.all(soakers.map((soaker) => soaker.leave(false)));

  const audit = (event: string): number =>
    readFileSync(gateway.auditFile, 'utf8').split(`"event":"${event}"`).length - 1;
  // All is given back: sessions, connections and files.
  const patience = Date.now() + 180_000;
  while (Date.now() < patience && (audit('session-end') < audit('session-start') || descriptors() > before + 2))
    await sleep(100);
  expect([audit('session-start') - audit('session-end'), descriptors() - before]).toEqual([0, expect.any(Number)]);
  expect(descriptors()).toBeLessThanOrEqual(before + 2);
  expect(gateway.process.lines.filter((line) => /uncaught|unhandled|^\s+at /i.test(line))).toEqual([]);

  const third = (from: number): readonly SharedTime[] =>
    sharedTimes.filter(({ seconds }) => seconds >= (from * SECONDS) / 3 && seconds < ((from + 1) * SECONDS) / 3);
  const [early, late] = [third(1), third(2)].map((part) => ({
    memory: median(part.map(({ memory }) => memory)),
    descriptors: median(part.map(({ descriptors: open }) => open)),
  })) as [{ memory: number; descriptors: number }, { memory: number; descriptors: number }];
  process.stderr.write(
    `${tableOf(sharedTimes)}medians of the second and the last third: ${(early.memory / MIB).toFixed(0)} and ${(late.memory / MIB).toFixed(0)} MiB, ${early.descriptors} and ${late.descriptors} descriptors\n`,
  );
  expect(late.memory).toBeLessThan(early.memory * 1.25 + SPARE_MEMORY);
  expect(late.descriptors).toBeLessThan(early.descriptors + SPARE_DESCRIPTORS);
  // It was no idle hour.
  expect(work.sessions).toBeGreaterThan(CLIENTS);
  expect(work.requests).toBeGreaterThan(CLIENTS * 5);
  expect(await gateway.stop()).toBe(0);
});

/** A dozen lines of what was seen. */
function tableOf(sharedTimes: readonly SharedTime[]): string {
  const step = Math.max(1, Math.floor(sharedTimes.length / 12));
  const columns = ['s', 'requests', 'sessions', 'MiB up', 'MiB down', 'broken off', 'MiB memory', 'descriptors'];
  const rows = sharedTimes
    .filter((_, index) => index % step === 0 || index === sharedTimes.length - 1)
    .map((at) => [
      ...[at.seconds, at.requests, at.sessions, at.up / MIB, at.down / MIB, at.brokenOff, at.memory / MIB],
      at.descriptors,
    ]);
  return [columns, ...rows.map((row) => row.map((value) => value.toFixed(0)))]
    .map((row) => `${row.map((cell, index) => cell.padStart(Math.max(6, columns[index]?.length ?? 0))).join('  ')}\n`)
    .join('');
}
