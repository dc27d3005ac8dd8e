/**
 * `kill -9` of the gateway in the middle of a real backup, again and again: what was answered 200 is there and whole, nothing else is seen,
 * and the next backup and check are good. KILL_ROUNDS says how many rounds each way in and store has.
 */
import { randomInt } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, jest, test } from '@jest/globals';
import { stringify } from 'yaml';
import { GATEWAY } from '../support/gateway-process.ts';
import {
  freePort,
  generateKey,
  lab,
  makeTree,
  restic,
  sshClientArgs,
  startProcess,
  tempDir,
  type Outcome,
} from '../support/lab.ts';
import { sample, sha256, type ResticClient } from '../support/restic-client.ts';
import { startSshSession } from '../support/ssh-session.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, STORES } from '../support/stores.ts';

const ROUNDS = Number(process.env['KILL_ROUNDS'] ?? 1);
jest.setTimeout(400_000 + ROUNDS * 120_000);

/** A gateway that can be killed and started again. */
interface Mortal {
  /** What restic is given as rclone.program. */
  readonly program: string;
  start(): Promise<void>;
  /** Kills it, or the process that serves the last run of `program` and that of the last `connect`. */
  kill(): Promise<void>;
  /** A session of the client `witness`. */
  connect(): ResticClient;
}

interface Site {
  readonly configFile: string;
  readonly auditFile: string;
  readonly port: number;
  readonly appsrv: Awaited<ReturnType<typeof generateKey>>;
  readonly witness: Awaited<ReturnType<typeof generateKey>>;
  readonly knownHosts: string;
}

async function makeSite(kind: (typeof STORES)[number]): Promise<Site> {
  const directory = tempDir();
  const [hostKey, appsrv, witness] = [await generateKey(), await generateKey(), await generateKey()];
  const port = await freePort();
  const configFile = path.join(directory, 'gateway.yaml');
  const auditFile = path.join(directory, 'audit.jsonl');
  const knownHosts = path.join(directory, 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicLine}\n`);
  writeFileSync(
    configFile,
    stringify({
      listen: `127.0.0.1:${port}`,
      hostKeys: [hostKey.privateFile],
      stores: { main: await freshStore(kind) },
      clients: {
        appsrv: { keys: [appsrv.publicLine], repository: { store: 'main', prefix: 'appsrv' } },
        witness: { keys: [witness.publicLine], repository: { store: 'main', prefix: 'witness' } },
      },
      audit: { file: auditFile },
    }),
  );
  return { configFile, auditFile, port, appsrv, witness, knownHosts };
}

function daemon({ configFile, port, appsrv, witness, knownHosts }: Site): Mortal {
  let running: Awaited<ReturnType<typeof startProcess>> | undefined;
  return {
    program: [lab().ssh, ...sshClientArgs({ port, key: appsrv, knownHosts })].join(' '),
    start: async () => {
      running = await startProcess(process.execPath, [GATEWAY, 'serve', '-c', configFile]);
      await running.waitForLine(/listening on/);
    },
    kill: async () => {
      running?.signal('SIGKILL');
      await running?.exited;
    },
    connect: () => startSshSession({ port, key: witness, knownHosts }),
  };
}

function forcedCommand({ configFile }: Site): Mortal {
  const directory = tempDir();
  const pidFile = path.join(directory, 'pid');
  const program = path.join(directory, 'program');
  const command = `"${process.execPath}" "${GATEWAY}" stdio appsrv -c "${configFile}"`;
  writeFileSync(program, `#!/bin/sh\necho $$ > "${pidFile}"\nexec ${command}\n`, { mode: 0o755 });
  let client: ReturnType<typeof startStdio> | undefined;
  return {
    program,
    start: () => Promise.resolve(),
    kill: async () => {
      if (existsSync(pidFile))
        try {
          process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL');
        } catch {
          // The backup was faster, and its gateway has ended by itself.
        }
      client?.kill();
      await client?.exited;
    },
    connect: () => (client = startStdio(['witness', '-c', configFile])),
  };
}

/** Saves objects of many sizes until the session breaks. @returns the names that were answered 200 */
async function saveUntilBroken(client: ResticClient): Promise<string[]> {
  const saved: string[] = [];
  const saver = async (): Promise<void> => {
    for (;;) {
      const { name, body } = sample(randomInt(1, 1_500_000));
      const answer = await client.request('POST', `/data/${name}`, { body }).catch(() => undefined);
      if (answer === undefined) return;
      expect(answer.status).toBe(200);
      saved.push(name);
    }
  };
  await Promise.all([saver(), saver(), saver()]);
  return saved;
}

/** Reads all data objects. @returns their names @throws when one is not what its name says */
async function allWhole(client: ResticClient): Promise<Set<string>> {
  const list = await client.request('GET', '/data/');
  expect(list.status).toBe(200);
  const names = JSON.parse(list.body.toString()) as string[];
  for (const name of names) expect(sha256((await client.request('GET', `/data/${name}`)).body)).toBe(name);
  return new Set(names);
}

const MORTALS = { serve: daemon, stdio: forcedCommand } as const;

describe.each(STORES)('on the %s store', (kind) => {
  test.each(['serve', 'stdio'] as const)('%s', async (wayIn) => {
    const site = await makeSite(kind);
    const gateway = MORTALS[wayIn](site);
    const run = (...args: string[]): Promise<Outcome> =>
      restic(lab().resticNewest, { repo: 'rclone:x', options: { 'rclone.program': gateway.program } }, [
        ...args,
        '--no-cache',
      ]);
    const good = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await run(...args);
      expect(`${args.join(' ')}: ${code} ${code === 0 ? '' : stderr}`).toBe(`${args.join(' ')}: 0 `);
    };
    const creates = (): number =>
      readFileSync(site.auditFile, 'utf8').match(/"event":"create".*"client":"appsrv"/g)?.length ?? 0;

    await gateway.start();
    await good('init');
    const table: string[] = [];
    for (let round = 1; round <= ROUNDS; round++) {
      const source = path.join(tempDir(), 'source');
      await makeTree(source, { files: 12, bytes: 24_000_000, seed: `${kind} ${wayIn} ${round}` });
      const before = creates();
      const client = gateway.connect();
      const witnessed = saveUntilBroken(client);
      const state = { over: false };
      const backup = run('backup', source, '--pack-size', '4').finally(() => (state.over = true));
      // From the lock on to the last pack: the lock, six packs or so, the index, the snapshot.
      const sharedTime = before + randomInt(1, 9);
      while (!state.over && creates() < sharedTime) await sleep(5);
      await sleep(randomInt(0, 50));
      await gateway.kill();
      const [{ code }, saved] = await Promise.all([backup, witnessed]);

      await gateway.start();
      const again = gateway.connect();
      const present = await allWhole(again);
      expect(saved.filter((name) => !present.has(name))).toEqual([]);
      const reported = readFileSync(site.auditFile, 'utf8');
      expect([...present].filter((name) => !reported.includes(name))).toEqual([]);
      again.close();
      await good('unlock');
      await good('backup', source);
      await good('check', '--read-data');
      table.push(`${round}: after ${creates() - before} creates, backup ${code}, ${saved.length} answered and whole`);
    }
    await gateway.kill();
    if (process.env['KILL_ROUNDS'] !== undefined) process.stderr.write(`${kind} ${wayIn}\n${table.join('\n')}\n`);
  });
});
