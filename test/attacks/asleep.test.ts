/**
 * Clients that fall silent in the middle of a run: a laptop that sleeps, a network that drops every packet. What comes back goes on, as long as TCP
 * does; what does not come back keeps nobody out.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import type { Client } from 'ssh2';
import type { GatewayConfig } from '../../src/config/types.ts';
import { startGateway } from '../support/gateway-process.ts';
import { tcpOf } from '../support/hostile-ssh.ts';
import { generateKey, lab, restic, sshClientArgs, tempDir } from '../support/lab.ts';
import { resticClient, type ResticClient } from '../support/restic-client.ts';
import { channelOf, outcomeOf, sshConnect, startSshStack, type SshStack } from '../support/ssh-stack.ts';
import { until } from '../support/store-calls.ts';
import { freshStore } from '../support/stores.ts';

let stack: SshStack | undefined;
const clients: Client[] = [];
afterEach(async () => {
  for (const each of clients.splice(0)) each.destroy();
  await stack?.close();
  stack = undefined;
});

const LIMITS = { keepaliveSeconds: 1 };
/** So long that four keepalives have not been answered. */
const ASLEEP_MS = 4500;

async function open(
  maxSessions: number,
  limits: NonNullable<GatewayConfig['ssh']['limits']> = LIMITS,
): Promise<SshStack> {
  stack = await startSshStack({ maxSessions }, { ssh: { extraCiphers: [], limits } });
  return stack;
}

async function connected(): Promise<Client> {
  const client = await sshConnect(stack as SshStack);
  clients.push(client);
  return client;
}

async function session(client: Client): Promise<ResticClient> {
  const opened = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await opened.request('GET', '/file-1')).status).toBe(404);
  return opened;
}

const ends = (reason: string): number =>
  stack?.audit().filter((line) => line['event'] === 'session-end' && line['reason'] === reason).length ?? 0;

test('a laptop sleeps in mid-backup, longer than four keepalives: its backup goes on when it wakes, and is whole', async () => {
  const key = await generateKey();
  const directory = tempDir();
  const gateway = await startGateway(directory, {
    stores: { main: await freshStore('directory') },
    clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
    ssh: { limits: LIMITS },
  });
  const pidFile = path.join(directory, 'ssh.pid');
  const ssh = [lab().ssh, ...sshClientArgs({ port: gateway.port, key, knownHosts: gateway.knownHosts }), 'restic'];
  const program = `sh -c 'echo $$ > ${pidFile}; exec ${ssh.join(' ')}'`;
  const target = { repo: 'rclone:x', options: { 'rclone.program': program } };
  const { resticNewest } = lab();
  expect((await restic(resticNewest, target, ['init'])).code).toBe(0);

  const env = { ...process.env, RESTIC_PASSWORD: 'password', RESTIC_CACHE_DIR: path.join(directory, 'cache') };
  const args = ['-r', target.repo, '-o', `rclone.program=${program}`, 'backup', '--stdin'];
  const backup = spawn(resticNewest, args, { env, stdio: ['pipe', 'ignore', 'inherit'] });
  const exited = once(backup, 'exit');
  const feed = (): void => {
    for (let i = 0; i < 40; i++) backup.stdin.write(randomBytes(1024 * 1024));
  };
  feed();
  // A first pack is there: it is under way.
  await until(() => readFileSync(gateway.auditFile, 'utf8').includes('"object":"data/'));
  const pid = Number(readFileSync(pidFile, 'utf8'));
  process.kill(pid, 'SIGSTOP');
  try {
    await sleep(ASLEEP_MS + 1500);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  feed();
  backup.stdin.end();
  expect(await exited).toEqual([0, null]);
  const check = await restic(resticNewest, target, ['--no-lock', 'check', '--read-data']);
  expect(check.code).toBe(0);
  expect(await gateway.stop()).toBe(0);
});

test('one that does not come back gives its place to another run of its client, and to nobody sooner', async () => {
  await open(2);
  const [gone, alive] = [await connected(), await connected()];
  await session(gone);
  const kept = await session(alive);
  tcpOf(gone).pause();
  // Silent for a moment only: it may be on its way.
  const early = await outcomeOf(await channelOf((done) => alive.exec('x', done)));
  expect(early.stderr).toContain('has 2 sessions open already');
  await sleep(ASLEEP_MS);
  // With room for it, nobody has to go.
  expect(ends('connection-lost')).toBe(0);
  await session(alive);
  expect(ends('connection-lost')).toBe(1);
  // Those that answer stay, however little they do.
  const late = await outcomeOf(await channelOf((done) => alive.exec('x', done)));
  expect(late.stderr).toContain('has 2 sessions open already');
  expect((await kept.request('GET', '/file-2')).status).toBe(404);
});

test('connections that do not come back give way to a new one of their client', async () => {
  await open(1);
  for (let i = 0; i < 11; i++) tcpOf(await connected()).pause();
  const turnedAway = await connected();
  await once(turnedAway, 'close');
  await sleep(ASLEEP_MS);
  const client = await connected();
  await session(client);
});

test('what is not heard of for as long as the config says is ended, whether anybody waits or not', async () => {
  await open(2, { keepaliveSeconds: 1, lostSeconds: 3 });
  const gone = await connected();
  await session(gone);
  tcpOf(gone).pause();
  await until(() => ends('connection-lost') === 1);
});
