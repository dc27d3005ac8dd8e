/** The monitor on a real audit: what it keeps, what it tells and to whom, and several of them at once. */
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { ClientConfig, GatewayConfig } from '../../src/config/types.ts';
import { trashState } from '../../src/maintenance/trash-state.ts';
import { openMonitor, type Monitor } from '../../src/monitor/monitor.ts';
import type { ClientStatus } from '../../src/monitor/client-status.ts';
import { DAY, HOUR, inOrder, nightly, sessionLines, type HistoryLine } from '../support/audit-history.ts';
import { tempDir } from '../support/lab.ts';
import { testClient, testGateway } from '../support/test-client.ts';

let directory: string;
let config: GatewayConfig;
let warnings: string[];
/** Two weeks ago, at midnight. */
const START = Math.floor(Date.now() / DAY) * DAY - 14 * DAY;
const DENIED: HistoryLine = { event: 'denied', operation: 'remove', reason: 'append-only', object: 'data/aa' };

beforeEach(() => {
  directory = tempDir();
  warnings = [];
  config = testGateway(directory, { clients: { appsrv: testClient('appsrv'), dbsrv: testClient('dbsrv') } });
  mkdirSync(config.state);
});

const write = (lines: readonly HistoryLine[]): void => {
  appendFileSync(
    config.audit.file,
    inOrder(lines)
      .map((line) => `${JSON.stringify(line)}\n`)
      .join(''),
  );
};
const attack = (hours: number): HistoryLine[] => sessionLines(START + 13 * DAY + hours * HOUR, { also: [DENIED] });
const audit = (): HistoryLine[] =>
  readFileSync(config.audit.file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as HistoryLine);
const reported = (): HistoryLine[] => audit().filter(({ event }) => event === 'anomaly');
const open = (watch = false, only?: ClientConfig): Monitor =>
  openMonitor({
    ...{ config, watch, only },
    log: { info: () => undefined, error: () => undefined, warn: (_fields, message) => warnings.push(message) },
  });
const once = async (): Promise<readonly ClientStatus[]> => {
  const monitor = open();
  try {
    return await monitor.statuses();
  } finally {
    await monitor.close();
  }
};
const checkpoint = (): string => path.join(config.state, 'monitor', 'checkpoint.json');

test('what the trash was last found to hold is told, and when the oldest of it is purged', async () => {
  config = testGateway(directory, { clients: { appsrv: testClient('appsrv', { trashMs: 14 * DAY }) } });
  const [first, at] = [new Date(START), new Date(START + DAY)];
  const session = { session: 's', by: 'client', first, last: first, snapshots: 1, objects: 2, bytes: 3 } as const;
  const repository = { store: 'store', prefix: 'appsrv' };
  const contents = { sessions: [session], objects: 2, bytes: 3, strangers: 0, versions: 'none', noted: false } as const;
  await trashState(config.state, repository).write(contents, at, 14 * DAY);
  const purgeAt = new Date(START + 14 * DAY);
  expect(await once()).toMatchObject([{ trash: { at, snapshots: 1, objects: 2, bytes: 3, purgeAt } }]);
});

describe('what it keeps', () => {
  test('is enough for the next one, without the files that were read', async () => {
    write(nightly(START, 14));
    expect(await once()).toMatchObject([
      { client: 'appsrv', state: 'ok', snapshots: 14 },
      { client: 'dbsrv', state: 'never' },
    ]);
    renameSync(config.audit.file, path.join(directory, 'elsewhere'));
    expect(await once()).toMatchObject([{ state: 'ok', snapshots: 14 }, { state: 'never' }]);
    write(sessionLines(START + 13 * DAY + 5 * HOUR, { snapshots: 1 }));
    expect(await once()).toMatchObject([{ snapshots: 15 }, {}]);
  });

  test.each<[string, (text: string) => string]>([
    ['cut', (text) => text.slice(0, -20)],
    ['changed', (text) => text.replace('"snapshots":14', '"snapshots":99')],
    ['empty', () => ''],
    ['without one of its lines', (text) => text.split('\n').toSpliced(1, 1).join('\n')],
    ['without the end of its last line', (text) => text.trimEnd()],
    ['of another version', (text) => text.replace('"v":', '"v":9')],
  ])('is not used when it is %s: all is read anew', async (_what, damage) => {
    write(nightly(START, 14));
    await once();
    writeFileSync(checkpoint(), damage(readFileSync(checkpoint(), 'utf8')));
    expect(await once()).toMatchObject([{ snapshots: 14 }, {}]);
    // And is right again.
    renameSync(config.audit.file, path.join(directory, 'elsewhere'));
    expect(await once()).toMatchObject([{ snapshots: 14 }, {}]);
  });

  test('is forgotten when the audit is another one', async () => {
    write(nightly(START, 14));
    await once();
    writeFileSync(config.audit.file, '');
    write(nightly(START, 3));
    expect(await once()).toMatchObject([{ snapshots: 3 }, {}]);
    config = { ...config, audit: { file: path.join(directory, 'second.jsonl') } };
    write(sessionLines(START + 13 * DAY, { snapshots: 1 }));
    expect(await once()).toMatchObject([{ snapshots: 1 }, {}]);
  });

  test('is forgotten by one that is open, too, for all who ask at once', async () => {
    write(nightly(START, 14));
    const monitor = open();
    await monitor.statuses();
    writeFileSync(config.audit.file, '');
    write(nightly(START, 3));
    for (const one of await Promise.all([monitor.statuses(), monitor.statuses(), monitor.statuses()]))
      expect(one).toMatchObject([{ snapshots: 3 }, {}]);
    await monitor.close();
  });

  test('is not written again when nothing came, and cannot be written without harm', async () => {
    write(nightly(START, 2));
    await once();
    const before = statSync(checkpoint()).ino;
    await once();
    expect(statSync(checkpoint()).ino).toBe(before);
    rmSync(config.state, { recursive: true });
    writeFileSync(config.state, 'no directory');
    expect(await once()).toMatchObject([{ snapshots: 2 }, {}]);
  });

  test("is the gateway's own user's, though root asked first, and makes no state directory", async () => {
    write(nightly(START, 2));
    const nobody = 65_534;
    chownSync(config.state, nobody, nobody);
    await once();
    expect(statSync(path.dirname(checkpoint())).uid).toBe(nobody);
    rmSync(config.state, { recursive: true });
    await once();
    expect(existsSync(config.state)).toBe(false);
  });

  test('of many clients leaves others their turn while it is read and written, and is written as it was at one time', async () => {
    const names = Array.from({ length: 150 }, (_, index) => `client-${index}`);
    write(names.flatMap((client) => nightly(START, 14, { client, from: `192.0.2.${client.length}` })));
    config = { ...config, clients: Object.fromEntries(names.map((name) => [name, testClient(name)])) };
    const monitor = open();
    expect(await monitor.statuses()).toHaveLength(150);
    let [turns, writing] = [0, true];
    const turn = (): void => {
      turns += 1;
      if (writing) setImmediate(turn);
    };
    turn();
    const closed = monitor.close();
    // What comes now is for the next one.
    write(sessionLines(START + 13 * DAY + 5 * HOUR, { client: 'client-149', snapshots: 1 }));
    await closed;
    writing = false;
    // Pieces of 64 KiB.
    const pieces = statSync(checkpoint()).size / 65_536;
    expect(pieces).toBeGreaterThan(10);
    expect(turns).toBeGreaterThan(pieces);
    [turns, writing] = [0, true];
    turn();
    const next = await once();
    writing = false;
    expect(turns).toBeGreaterThan(pieces);
    expect(next.map(({ snapshots }) => snapshots)).toEqual(names.map((name) => (name === 'client-149' ? 15 : 14)));
  });

  test('is read for one client alone, with what came since, and not written by who knows no other', async () => {
    const shared = { client: 'dbsrv', prefix: 'appsrv' };
    config = testGateway(directory, {
      clients: {
        appsrv: testClient('appsrv'),
        dbsrv: testClient('dbsrv', { repository: { store: 'store', prefix: 'appsrv' } }),
        'appsrv-2': testClient('appsrv-2'),
      },
    });
    write([...nightly(START, 14), ...nightly(START, 3, { client: 'appsrv-2' })]);
    await once();
    write(sessionLines(START + 13 * DAY + 5 * HOUR, { snapshots: 1, packs: 2 }));
    write(sessionLines(START + 13 * DAY + 6 * HOUR, { ...shared, snapshots: 1, packs: 3 }));
    write(sessionLines(START + 13 * DAY + 7 * HOUR, { client: 'appsrv-2', snapshots: 1 }));
    const before = statSync(checkpoint());
    const alone = async (name: string): Promise<ClientStatus | undefined> => {
      const monitor = open(false, config.clients[name]);
      const found = await monitor.status(name);
      await monitor.close();
      return found;
    };
    const parts = [await alone('appsrv'), await alone('dbsrv'), await alone('appsrv-2')];
    expect(statSync(checkpoint())).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs });
    const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
    expect(plain(parts)).toEqual(plain(await once()));
    expect(parts.map((one) => one?.snapshots)).toEqual([15, 1, 4]);

    // An old one is brought up to date, and a damaged one is read by nobody.
    write(sessionLines(START + 13 * DAY + 8 * HOUR, { snapshots: 1 }));
    const old = new Date(Date.now() - DAY);
    utimesSync(checkpoint(), old, old);
    expect(await alone('appsrv-2')).toMatchObject({ snapshots: 4 });
    expect(statSync(checkpoint()).mtimeMs).toBeGreaterThan(old.getTime());
    writeFileSync(checkpoint(), readFileSync(checkpoint(), 'utf8').replace('"snapshots":4', '"snapshots":9'));
    expect(await alone('appsrv-2')).toMatchObject({ snapshots: 4 });
  });

  test('survives many who read and write at once', async () => {
    write(nightly(START, 14));
    const all = await Promise.all(Array.from({ length: 10 }, once));
    for (const one of all) expect(one).toMatchObject([{ snapshots: 14 }, {}]);
    renameSync(config.audit.file, path.join(directory, 'elsewhere'));
    expect(await once()).toMatchObject([{ snapshots: 14 }, {}]);
    expect(readdirSync(path.dirname(checkpoint()))).toEqual(['checkpoint.json']);
  });
});

describe('what it tells', () => {
  test('stands in the audit once, whoever tells it and how often, and in the log with what to do', async () => {
    write([...nightly(START, 14), ...attack(4)]);
    const monitors = [open(), open(), open()];
    const counts = await Promise.all(monitors.map((monitor) => monitor.report()));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1);
    const [line, ...others] = reported();
    expect(others).toEqual([]);
    expect(line).toMatchObject({
      ...{ client: 'appsrv', rule: 'denied-delete', via: 'admin', store: 'store', prefix: 'appsrv' },
      session: expect.stringMatching(/^20\d{6}T040000Z-/),
      detail: 'Once it tried to remove backups, and was refused.',
    });
    expect(warnings).toEqual([expect.stringMatching(/^client appsrv: Once it tried to remove backups.*recovery\.md/)]);
    for (const monitor of monitors) await monitor.report();
    for (const monitor of monitors) await monitor.close();
    const later = open();
    expect(await later.report()).toBe(0);
    await later.close();
    expect(reported()).toHaveLength(1);
  });

  test('is told by another one when a process died before it wrote', async () => {
    write([...nightly(START, 14), ...attack(4)]);
    const first = open();
    const [{ anomalies } = { anomalies: [] }] = await first.statuses();
    const claims = path.join(config.state, 'monitor', 'reported');
    await first.report();
    await first.close();
    const [name = ''] = readdirSync(claims);
    expect(name).toBe(`appsrv.${anomalies[0]?.id ?? ''}`);
    // As if its line had not come: the claim alone.
    writeFileSync(config.audit.file, '');
    write([...nightly(START, 14), ...attack(4)]);
    const second = open();
    const unreportedId = (await second.statuses())[0]?.anomalies[0]?.id ?? '';
    writeFileSync(path.join(claims, `appsrv.${unreportedId}`), '');
    expect(await second.report()).toBe(0);
    const old = new Date(Date.now() - HOUR);
    utimesSync(path.join(claims, `appsrv.${unreportedId}`), old, old);
    expect(await second.report()).toBe(1);
    await second.close();
  });

  test('is told by a watching one by itself, of what comes as well', async () => {
    write(nightly(START, 14));
    const monitor = open(true);
    expect((await monitor.statuses())[0]?.state).toBe('ok');
    write(attack(4));
    await until(() => reported().length === 1);
    await monitor.close();
    expect(existsSync(checkpoint())).toBe(true);
    expect(warnings).toHaveLength(1);
  });

  test('was seen once it is acknowledged, of one client or of all', async () => {
    const other = sessionLines(START + 13 * DAY + 6 * HOUR, { client: 'dbsrv', also: [DENIED] });
    write([...nightly(START, 14), ...attack(4), ...other]);
    const monitor = open();
    const states = async (): Promise<string[]> => (await monitor.statuses()).map(({ state }) => state);
    expect(await states()).toEqual(['attention', 'attention']);
    expect(await monitor.acknowledge('appsrv')).toBe(1);
    expect(await states()).toEqual(['ok', 'attention']);
    expect(await monitor.acknowledge(undefined)).toBe(1);
    expect(await states()).toEqual(['ok', 'never']);
    expect(await monitor.acknowledge(undefined)).toBe(0);
    await monitor.close();
    expect((await once()).map(({ state }) => state)).toEqual(['ok', 'never']);
  });
});

test('another config counts from the next look on', async () => {
  write(nightly(START, 13));
  const monitor = open();
  expect((await monitor.statuses()).map(({ client, state }) => [client, state])).toEqual([
    ['appsrv', 'ok'],
    ['dbsrv', 'never'],
  ]);
  monitor.reconfigure({ ...config, clients: { appsrv: { ...testClient('appsrv'), expectEvery: HOUR } } });
  expect((await monitor.statuses()).map(({ client, state }) => [client, state])).toEqual([['appsrv', 'late']]);
  expect(await monitor.status('dbsrv')).toBeUndefined();
  await monitor.close();
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 50));
}
