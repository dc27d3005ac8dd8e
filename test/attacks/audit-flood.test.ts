/** A client whose key an attacker has, or had: it wants to fill the disk of the audit, after which nobody's backup is taken. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { messageOf } from '../../src/core/errors.ts';
import { createGateway, type Gateway } from '../../src/gateway/gateway.ts';
import type { Principal } from '../../src/core/principal.ts';
import type { Log } from '../../src/ports/log.ts';
import { openSharedTally } from '../../src/state/shared-tally.ts';
import { startGateway } from '../support/gateway-process.ts';
import { generateKey, tempDir } from '../support/lab.ts';
import { socketPair } from '../support/raw-http2.ts';
import { resticClient, sample, type ResticClient } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';
import { startStack, type AuditLine, type Stack } from '../support/stack.ts';

/** As docs/limits.md says. */
const REFUSED = 20;
const TROUBLE = 100;
const SUMMARIES = 3;
const FAILURES = 500;
/** What the rates give back while the test runs, of each kind. */
const MEANWHILE = 30;
const LINE_BYTES = 4096;

/** Six bytes each as they are written. */
const PEER = { user: '\u0007'.repeat(2048), command: '"\u202e'.repeat(1024), from: '192.0.2.1', fromPort: 50022 };

let stack: Stack;
/** What were three processes: `serve`, a worker, and a forced command, with nothing in common but `state` and the audit. */
let gateways: readonly Gateway[];
const logged: string[] = [];
beforeAll(async () => {
  stack = await startStack({
    gone: { disabled: true },
    moved: { from: ['203.0.113.0/24'] },
    hostile: { sessions: 60, smallObjects: 60 },
    honest: {},
  });
  const note = (fields: unknown, message: string): number => logged.push(`${message} ${JSON.stringify(fields)}`);
  const log: Log = { info: note, warn: note, error: note };
  gateways = [stack.gateway, ...(await Promise.all([1, 2].map(() => createGateway({ config: stack.config, log }))))];
});
afterAll(async () => {
  await Promise.all(gateways.slice(1).map((gateway) => gateway.close()));
  await stack.close();
});

interface Connected extends ResticClient {
  end(): Promise<unknown>;
}

const waysIn = ['ssh', 'ssh', 'stdio'] as const;
/** A session through one of the processes, by its way in. */
async function connect(client: string, through: number, principal: Partial<Principal> = {}): Promise<Connected> {
  const { client: socket, server } = await socketPair();
  const [gateway, via] = [gateways[through % 3] ?? stack.gateway, waysIn[through % 3] ?? 'ssh'];
  try {
    const session = await gateway.openSession({
      principal: { client, via, ...PEER, ...principal },
      ...{ stream: server, notify: () => undefined, ending: () => undefined },
    });
    const restic = resticClient(socket);
    return {
      ...restic,
      end: () => {
        restic.close();
        return session.ended;
      },
    };
  } catch (error) {
    socket.destroy();
    server.destroy();
    throw error;
  }
}

const linesOf = (client: string, kind?: string): AuditLine[] =>
  stack.audit().filter((line) => line['client'] === client && (kind === undefined || line['event'] === kind));

/** What was only counted: in the summaries, and what waits to be told. */
async function counted(client: string, kind: 'more-refused' | 'more-denied'): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  const add = (reason: string, many: number): void => {
    sums[reason] = (sums[reason] ?? 0) + many;
  };
  for (const { reasons } of linesOf(client, kind))
    for (const [reason, many] of Object.entries(reasons as Record<string, number>)) add(reason, many);
  const tally = openSharedTally(path.join(stack.config.state, 'counted', client));
  const { counts } = tally.any() ? await tally.take() : { counts: new Map<string, number>() };
  tally.add(counts);
  for (const [name, many] of counts) if (name.startsWith(`${kind}/`)) add(name.slice(kind.length + 1), many);
  return sums;
}

const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
};

test('a key that is disabled, and one from elsewhere, knock again and again at every process', async () => {
  const before = readFileSync(stack.config.audit.file).length;
  for (let times = 0; times < 300; times++) {
    await expect(connect('gone', times)).rejects.toThrow('is disabled');
    await expect(connect('moved', times, { from: `198.51.100.${times % 250}` })).rejects.toThrow('from this address');
  }
  for (const [client, reason] of [
    ['gone', 'disabled'],
    ['moved', 'address'],
  ] as const) {
    const written = linesOf(client, 'session-refused').length;
    expect(written).toBeGreaterThanOrEqual(REFUSED);
    expect(written).toBeLessThanOrEqual(REFUSED + 1);
    expect(linesOf(client, 'more-refused').length).toBeLessThanOrEqual(SUMMARIES + 1);
    await until(async () => written + ((await counted(client, 'more-refused'))[reason] ?? 0) >= 300);
    expect(await counted(client, 'more-refused')).toEqual({ [reason]: 300 - written });
  }
  expect(readFileSync(stack.config.audit.file).length - before).toBeLessThan(2 * (REFUSED + SUMMARIES + 2) * 1500);
  // Who is not known at all leaves nothing.
  await expect(connect('nobody', 0)).rejects.toThrow('not known');
  expect(linesOf('nobody')).toEqual([]);
});

test('a disabled key at the forced command, a process for each knock, beside a `serve` on the same config', async () => {
  const directory = tempDir();
  const gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    clients: { gone: { keys: [(await generateKey()).publicLine], repository: { store: 'main' }, disabled: true } },
  });
  const knock = async (): Promise<void> => {
    const env = { LOGNAME: 'u'.repeat(4096), SSH_ORIGINAL_COMMAND: '"'.repeat(8192) };
    const { stderr } = await startStdio(['gone', '-c', gateway.configFile], env).exited;
    expect(stderr).toContain('is disabled');
  };
  for (let times = 0; times < 7; times++) await Promise.all(Array.from({ length: 4 }, knock));
  // What the last ones have counted is told when `serve` ends, or waits until there is room for one more summary.
  await gateway.stop();
  const text = readFileSync(gateway.auditFile, 'utf8');
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);
  const written = lines.filter(({ event }) => event === 'session-refused').length;
  // Two that come in the very same moment may be counted as one.
  expect(written).toBeLessThanOrEqual(REFUSED + 10);
  const reported = lines.filter(({ event }) => event === 'more-refused').map(({ count }) => Number(count));
  expect(reported.length).toBeLessThanOrEqual(SUMMARIES + 3);
  const { counts } = await openSharedTally(path.join(directory, 'state', 'counted', 'gone'))
    .take()
    .catch(() => ({ counts: new Map<string, number>() }));
  const waiting = counts.get('more-refused/disabled') ?? 0;
  expect(written + reported.reduce((sum, many) => sum + many, waiting)).toBe(28);
  expect(text.length).toBeLessThan((written + reported.length) * 1500);
});

test('a key that is let in does all that makes lines, and the honest client beside it has each of its own', async () => {
  const before = readFileSync(stack.config.audit.file).length;
  const names: string[] = [];
  const honest = await connect('honest', 1);
  const work = async (): Promise<void> => {
    const { name, body } = sample(1000);
    expect((await honest.request('POST', `/data/${name}`, { body })).status).toBe(200);
    names.push(`data/${name}`);
  };
  await work();
  const clients = await Promise.all(Array.from({ length: 9 }, (_, index) => connect('hostile', index)));
  const [first] = clients;
  if (first === undefined) throw new Error('nobody was let in');

  // Denials, from several sessions in several processes
  const tried = 'a'.repeat(64);
  for (let times = 0; times < 5; times++)
    await Promise.all(
      clients.map((one) => Promise.all(Array.from({ length: 10 }, () => one.request('DELETE', `/data/${tried}`)))),
    );
  await work();

  // Removals that are announced and fail: of those that come at once one is first
  let removals = 0;
  let over = false;
  for (; removals < 60 && linesOf('hostile', 'remove-failed').length < 2 * FAILURES; removals++) {
    const lock = sample();
    expect((await first.request('POST', `/locks/${lock.name}`, { body: lock.body })).status).toBe(200);
    const answers = await Promise.all(
      clients.flatMap((one) => Array.from({ length: 12 }, () => one.request('DELETE', `/locks/${lock.name}`))),
    );
    over ||= answers.some(({ status }) => status === 429);
    if (over) break;
  }
  expect(over).toBe(true);
  expect(linesOf('hostile', 'remove-failed').length).toBeLessThanOrEqual(FAILURES + 9 * 12 + MEANWHILE);

  // What is there already, saved again and again
  const large = sample(1024 * 1024);
  await until(async () => (await first.request('POST', `/data/${large.name}`, { body: large.body })).status === 200);
  const creates = linesOf('hostile', 'create').length;
  const again = await Promise.all(
    clients.flatMap((one) =>
      Array.from({ length: 6 }, () => one.request('POST', `/data/${large.name}`, { body: large.body })),
    ),
  );
  expect(again.map(({ status }) => status)).toEqual(again.map(() => 200));
  expect(linesOf('hostile', 'create').length).toBeLessThanOrEqual(creates + MEANWHILE);
  await work();
  await Promise.all(clients.map((one) => one.end()));

  // Sessions, opened and ended
  let sessions = clients.length;
  const refusals: string[] = [];
  for (let times = 0; times < 160; times++) {
    const one = await connect('hostile', times).catch((error: unknown) => refusals.push(messageOf(error)));
    if (typeof one === 'number') continue;
    sessions++;
    await one.end();
  }
  expect(sessions).toBeLessThanOrEqual(120 + MEANWHILE);
  expect(refusals.length).toBe(160 + clients.length - sessions);
  expect(refusals[0]).toBe('client hostile opens more sessions than it may (60/h); try again in a while.');
  await work();
  await honest.end();

  const of = (kind: string): number => linesOf('hostile', kind).length;
  const trouble = of('denied') + of('failed') + of('throttled');
  expect(trouble).toBeLessThanOrEqual(TROUBLE + MEANWHILE);
  expect(of('more-denied') + of('more-refused')).toBeLessThanOrEqual(2 * (SUMMARIES + 1));
  expect(of('session-refused')).toBeLessThanOrEqual(REFUSED + 1);
  // What was only counted adds up.
  const ends = linesOf('hostile', 'session-end').reduce((sum, { denied }) => sum + Number(denied), 0);
  const { throttled = 0, ...denials } = await counted('hostile', 'more-denied');
  const sum = Object.values(denials).reduce((total, many) => total + many, 0);
  expect(ends).toBeGreaterThanOrEqual(450);
  expect([of('denied') + of('failed') + sum, throttled]).toEqual([ends, expect.any(Number)]);
  const refused = await counted('hostile', 'more-refused');
  expect(of('session-refused') + (refused['too-many-sessions'] ?? 0)).toBe(refusals.length);

  // Every line is short, and so is all of it.
  const raw = readFileSync(stack.config.audit.file, 'utf8').slice(before).split('\n');
  expect(Math.max(...raw.map((line) => Buffer.byteLength(line)))).toBeLessThan(LINE_BYTES);
  const most =
    2 * sessions + (REFUSED + TROUBLE + 2 * SUMMARIES) + 3 * (removals + 2) + 2 * (FAILURES + 9 * 12) + 3 * MEANWHILE;
  expect(linesOf('hostile').length).toBeLessThanOrEqual(most);

  // The honest client's are all there.
  const created = linesOf('honest', 'create').map(({ object }) => object);
  expect(created).toEqual(names);
  expect(linesOf('honest').map(({ event }) => event)).toEqual([
    'session-start',
    ...names.map(() => 'create'),
    'session-end',
  ]);
  // The log does not grow with it either.
  expect(logged.length).toBeLessThanOrEqual(2 * 3 * sessions + 400);
});
