/** A gateway that is fuzzed: the built program with a daemon's process of its own, and what must still be so when the fuzzing is over. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import ssh2, { type Client } from 'ssh2';
import { startGateway } from './gateway-process.ts';
import { generateKey, tempDir } from './lab.ts';
import { resticClient, sample, sha256, type ResticClient } from './restic-client.ts';

/** The gateway, its clients `hostile` and `honest`, and the honest one's object. */
export interface FuzzedGateway {
  readonly port: number;
  /** The hostile client's private key, in OpenSSH's format. */
  readonly hostileKey: string;
  /** Connects; rejects when the gateway does not let it in. */
  connect(client: 'hostile' | 'honest'): Promise<Client>;
  /**
   * Holds it to what no packet may change, and stops it.
   * @param reasons - how sessions must have ended, at least ten by each
   */
  conclude(reasons: readonly string[]): Promise<void>;
}

/** What the daemon may take while it is fuzzed, in bytes. */
const MEMORY = 512 * 1024 ** 2;

/** After this, what is still open counts as leaked. */
const PATIENCE_MS = 120_000;

/** Starts a gateway on a directory store, with an object of each client in it. */
export async function startFuzzedGateway(): Promise<FuzzedGateway> {
  const directory = tempDir();
  const store = tempDir();
  const keys = { hostile: await generateKey(), honest: await generateKey() };
  const client = (name: 'hostile' | 'honest'): object => ({
    keys: [keys[name].publicLine],
    repository: { store: 'main', prefix: name },
    maxSessions: 500,
  });
  const gateway = await startGateway(directory, {
    stores: { main: { type: 'directory', path: store } },
    clients: { hostile: client('hostile'), honest: client('honest') },
    ssh: { limits: { maxDelaySeconds: 0, loginSeconds: 5, idleSeconds: 5 } },
  });
  const dead = { value: undefined as number | undefined };
  void gateway.process.exited.then((status) => (dead.value = status));
  const privateKey = (name: 'hostile' | 'honest'): string => readFileSync(keys[name].privateFile, 'utf8');

  const connect = async (name: 'hostile' | 'honest'): Promise<Client> => {
    const connection = new ssh2.Client();
    const ready = new Promise<void>((resolve, reject) => {
      connection.on('ready', resolve);
      connection.on('error', reject);
      connection.on('close', () => {
        reject(new Error(`the connection was closed; the gateway said: ${gateway.process.lines.slice(-5).join('\n')}`));
      });
    });
    connection.connect({ host: '127.0.0.1', port: gateway.port, username: name, privateKey: privateKey(name) });
    await ready;
    return connection;
  };
  const session = async (name: 'hostile' | 'honest'): Promise<{ connection: Client; restic: ResticClient }> => {
    const connection = await connect(name);
    const restic = await new Promise<ResticClient>((resolve, reject) =>
      connection.exec('x', (error, channel) => {
        if (error === undefined) resolve(resticClient(channel));
        else reject(error);
      }),
    );
    return { connection, restic };
  };
  const descriptors = (): number => readdirSync(`/proc/${gateway.process.pid}/fd`).length;
  const sockets = (): number =>
    readdirSync(`/proc/${gateway.process.pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${gateway.process.pid}/fd/${fd}`).startsWith('socket:');
      } catch {
        return false;
      }
    }).length;
  const listening = sockets();
  const events = (kind: string): number =>
    readFileSync(gateway.auditFile, 'utf8').split(`"event":"${kind}"`).length - 1;
  const objects = (): string[] =>
    readdirSync(store, { recursive: true, encoding: 'utf8' }).filter((file) => /[/](config|[0-9a-f]{64})$/.test(file));

  const kept = sample(100_000);
  const locked = sample(200);
  for (const name of ['hostile', 'honest'] as const) {
    const { connection, restic } = await session(name);
    expect((await restic.request('POST', `/data/${kept.name}`, { body: kept.body })).status).toBe(200);
    if (name === 'honest')
      expect((await restic.request('POST', `/locks/${locked.name}`, { body: locked.body })).status).toBe(200);
    restic.close();
    connection.end();
  }
  const settled = async (most: number): Promise<void> => {
    const over = Date.now() + PATIENCE_MS;
    while (dead.value === undefined && (descriptors() > most || events('session-start') > events('session-end'))) {
      if (Date.now() > over)
        throw new Error(
          `${descriptors()} descriptors are open, where ${most} were; sessions: ${events('session-start')} begun, ${events('session-end')} ended`,
        );
      await sleep(50);
    }
  };
  await settled(Infinity);
  // The connections that have just ended, too.
  while (sockets() > listening) await sleep(20);
  const before = descriptors();

  return {
    port: gateway.port,
    hostileKey: privateKey('hostile'),
    connect,
    conclude: async (reasons) => {
      expect([dead.value, gateway.process.lines.filter((line) => /uncaught|unhandled|^\s+at /i.test(line))]).toEqual([
        undefined,
        [],
      ]);
      // Every session has ended, and whatever was open for it is closed.
      await settled(before + 2);
      expect(dead.value).toBeUndefined();
      expect(gateway.process.rssBytes()).toBeLessThan(MEMORY);
      const audit = readFileSync(gateway.auditFile, 'utf8');
      for (const reason of reasons)
        expect([reason, audit.split(`"reason":"${reason}"`).length > 10]).toEqual([reason, true]);
      const { connection, restic } = await session('honest');
      expect(sha256((await restic.request('GET', `/data/${kept.name}`)).body)).toBe(kept.name);
      expect(sha256((await restic.request('GET', `/locks/${locked.name}`)).body)).toBe(locked.name);
      const more = sample(1_000_000);
      expect((await restic.request('POST', `/data/${more.name}`, { body: more.body })).status).toBe(200);
      restic.close();
      connection.end();
      const stored = objects();
      for (const object of ['hostile', 'honest'].map((name) => `${name}/data/${kept.name.slice(0, 2)}/${kept.name}`))
        expect(stored).toContain(object);
      for (const object of stored.filter((file) => !file.endsWith('config')))
        expect(sha256(readFileSync(path.join(store, object)))).toBe(path.basename(object));
      expect(stored.filter((file) => file.startsWith('honest/')).length).toBe(3);
      await gateway.stop();
    },
  };
}
