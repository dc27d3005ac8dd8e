/** `serve` with several processes on one port: real workers, real ssh, and signals to any of them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { generateKey, startProcess, tempDir, type KeyFiles } from '../support/lab.ts';
import { startSshSession, type SshSession } from '../support/ssh-session.ts';
import { freshStore } from '../support/stores.ts';

const DRAIN_SECONDS = 600;

interface Site extends RunningGateway {
  ask(): SshSession;
  /** Opens sessions and waits until each is served. */
  open(count: number): Promise<SshSession[]>;
  /** Pids of the workers that run. */
  workers(): number[];
  audit(event: string): Record<string, unknown>[];
}

async function startSite(client: Record<string, unknown> = {}, workers: unknown = 2): Promise<Site> {
  const key: KeyFiles = await generateKey();
  const gateway = await startGateway(tempDir(), {
    stores: { main: await freshStore('directory') },
    clients: { a: { keys: [key.publicLine], repository: { store: 'main' }, ...client } },
    workers,
    drainSeconds: DRAIN_SECONDS,
  });
  const ask = (): SshSession => startSshSession({ port: gateway.port, knownHosts: gateway.knownHosts, key });
  const { pid } = gateway.process;
  return {
    ...gateway,
    ask,
    open: async (count) => {
      const sessions = Array.from({ length: count }, ask);
      for (const session of sessions) expect((await session.request('GET', '/locks/')).status).toBe(200);
      return sessions;
    },
    workers: () => childrenOf(pid),
    audit: (event) =>
      readFileSync(gateway.auditFile, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter((line) => line['event'] === event),
  };
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** One that has ended and that nobody has asked after counts as ended. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

const until = async (done: () => boolean): Promise<void> => {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 20));
};

const isServed = (session: SshSession): Promise<boolean> =>
  Promise.race([
    session.request('GET', '/locks/').then(
      ({ status }) => status === 200,
      () => false,
    ),
    session.ended.then(() => false),
  ]);

describe('workers', () => {
  test('serve as many sessions as the client may have over all of them, whoever asks at once', async () => {
    const site = await startSite({ maxSessions: 3 });
    expect(site.workers()).toHaveLength(2);
    expect(site.process.lines.filter((line) => line.includes('listening on'))).toHaveLength(1);
    const asked = Array.from({ length: 8 }, () => site.ask());
    const served = await Promise.all(asked.map(isServed));
    expect(served.filter(Boolean)).toHaveLength(3);
    expect(site.audit('session-refused').map((line) => line['reason'])).toEqual(Array(5).fill('max-sessions'));
    const ids = site.audit('session-start').map((line) => line['session']);
    expect(new Set(ids).size).toBe(3);

    // A place that is given back by one worker is there for all.
    asked[served.indexOf(true)]?.close();
    await until(() => site.audit('session-end').length === 1);
    expect(await isServed(site.ask())).toBe(true);
    expect(await isServed(site.ask())).toBe(false);
    for (const line of site.process.lines) expect(() => JSON.parse(line) as unknown).not.toThrow();
  });

  test('one that is killed takes its own sessions alone, gives their places back, and is replaced', async () => {
    const site = await startSite({ maxSessions: 4 });
    const sessions = await site.open(4);
    const [victim = 0, other] = site.workers();
    process.kill(victim, 'SIGKILL');
    const line = await site.process.waitForLine(/worker \d+ died/);
    expect(line).toContain(`worker ${victim} died (SIGKILL) with 2 sessions; another one is started in 1 s`);
    const over = new Set<SshSession>();
    for (const session of sessions) void session.ended.then(() => over.add(session));
    await until(() => over.size === 2);
    const left = sessions.filter((session) => !over.has(session));
    expect(await Promise.all(left.map(isServed))).toEqual([true, true]);
    await site.process.waitForLine(/worker \d+ serves/);
    expect(site.workers()).toContain(other);
    expect(site.workers()).toHaveLength(2);
    await site.open(2);
    expect(await isServed(site.ask())).toBe(false);
  });

  test('take up another config, all of them, and one that starts later too', async () => {
    const site = await startSite();
    const [victim = 0] = site.workers();
    const sessions = await site.open(4);
    const yaml = parse(readFileSync(site.configFile, 'utf8')) as { clients: Record<string, Record<string, unknown>> };
    (yaml.clients['a'] ?? {})['access'] = 'read-only';
    writeFileSync(site.configFile, stringify(yaml));
    for (const { ended } of sessions)
      expect(await ended).toEqual({
        status: 1,
        stderr: 'restic-gateway: what client a may do was changed; connect again.\n',
      });
    process.kill(victim, 'SIGKILL');
    await site.process.waitForLine(/worker \d+ serves/);
    for (const session of await site.open(4)) {
      const { status } = await session.request('POST', '/config', { body: Buffer.from('x') });
      expect(status).toBe(403);
    }
  });

  test('finish their sessions when the primary is told to stop, by a signal to all as systemd sends it', async () => {
    const site = await startSite();
    const sessions = await site.open(4);
    for (const pid of [site.process.pid, ...site.workers()]) process.kill(pid, 'SIGTERM');
    await site.process.waitForLine(/stopping on SIGTERM: 4 sessions/);
    expect(await site.ask().ended).toMatchObject({ status: 255 });
    expect(await Promise.all(sessions.map(isServed))).toEqual([true, true, true, true]);
    for (const session of sessions) session.close();
    expect(await Promise.all(sessions.map(({ ended }) => ended))).toEqual(Array(4).fill({ status: 0, stderr: '' }));
    expect(await site.process.exited).toBe(0);
    expect(site.process.lines.filter((line) => line.includes('died'))).toEqual([]);
  });

  test('end their sessions at a second signal', async () => {
    const site = await startSite();
    const sessions = await site.open(2);
    site.process.signal('SIGTERM');
    await site.process.waitForLine(/stopping on/);
    site.process.signal('SIGTERM');
    for (const { ended } of sessions) expect(await ended).toMatchObject({ status: 1 });
    expect(await site.process.exited).toBe(0);
    expect(site.audit('session-end').map((line) => line['reason'])).toEqual(['gateway-stopped', 'gateway-stopped']);
  });

  test('end when the primary is killed, and end their sessions in the audit', async () => {
    const site = await startSite();
    await site.stop();
    // The lab kills what a program leaves behind when it ends; so the program is a shell that stays.
    const command = `'${process.execPath}' '${GATEWAY}' serve -c '${site.configFile}'; sleep 600`;
    const shell = await startProcess('/bin/sh', ['-c', command]);
    await shell.waitForLine(/listening on/);
    const [primary = 0] = childrenOf(shell.pid);
    const workers = childrenOf(primary);
    expect(workers).toHaveLength(2);
    const sessions = await site.open(2);
    process.kill(primary, 'SIGKILL');
    for (const { ended } of sessions) expect(await ended).toMatchObject({ status: 1 });
    await until(() => workers.every((pid) => !isRunning(pid)));
    expect(site.audit('session-end').map((line) => line['reason'])).toEqual(['gateway-stopped', 'gateway-stopped']);
    await shell.stop();
  });

  test('fail as one when they cannot start', async () => {
    const site = await startSite();
    const second = startGateway(tempDir(), {
      listen: `127.0.0.1:${site.port}`,
      stores: { main: await freshStore('directory') },
      clients: {},
      workers: 'auto',
    });
    await expect(second).rejects.toThrow(/the port is in use by another program/);
  });
});
