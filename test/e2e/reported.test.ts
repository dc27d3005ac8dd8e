/** What people report of such set-ups, as the docs tell it: each line is what the real programs say. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readPage } from '../support/doc-fences.ts';
import { startGateway, type RunningGateway } from '../support/gateway-process.ts';
import {
  generateKey,
  lab,
  makeTree,
  restic,
  run,
  sshClientArgs,
  startProcess,
  tempDir,
  type KeyFiles,
} from '../support/lab.ts';
import { freshStore } from '../support/stores.ts';

const directory = tempDir();
const at = (name: string): string => path.join(directory, name);
const keys: Record<string, KeyFiles> = {};
let gateway: RunningGateway;

/** How ssh of the lab reaches a client's repository. @param port - another than the gateway's */
function program(client: string, { port = gateway.port, more = [] as readonly string[] } = {}): string {
  const key = keys[client];
  if (key === undefined) throw new Error(`there is no key of ${client}`);
  return [lab().ssh, ...more, ...sshClientArgs({ port, key, knownHosts: gateway.knownHosts })].join(' ');
}
const target = (rcloneProgram: string, repo = 'rclone:x') => ({
  repo,
  options: { 'rclone.program': rcloneProgram },
  password: 'secret',
});
/** A script for sh, as a program without arguments of its own. */
function script(name: string, text: string): string {
  writeFileSync(at(name), text);
  chmodSync(at(name), 0o755);
  return at(name);
}

beforeAll(async () => {
  for (const name of ['gw-old', 'gw-new', 'forgetful', 'forgetful-too']) keys[name] = await generateKey(name);
  gateway = await startGateway(at('gateway'), {
    stores: { main: await freshStore('directory') },
    clients: Object.fromEntries(
      Object.entries(keys).map(([name, key]) => [name, { keys: [key.publicLine], repository: { store: 'main' } }]),
    ),
  });
  await makeTree(at('source'), { files: 5, bytes: 300_000, seed: 'reported' });
  for (const args of [['init'], ['backup', at('source')]])
    expect(await restic(lab().resticNewest, target(program('gw-old')), args)).toMatchObject({ code: 0 });
});
afterAll(async () => {
  await gateway.stop();
});

test('a login that prints something, and one whose shell is nologin, in the words of restic that the docs explain', async () => {
  const page = readPage('docs/troubleshooting.md');
  expect(page.unfenced).toEqual([]);
  const noisy = script('noisy', `#!/bin/sh\necho "Welcome to this machine, $USER"\nexec ${program('gw-old')} "$@"\n`);
  expect((await restic(lab().resticNewest, target(noisy), ['snapshots'])).stderr).toContain('http2: frame too large');
  const nologin = script('nologin', '#!/bin/sh\n/usr/sbin/nologin >&2\nexit 1\n');
  const { stderr } = await restic(lab().resticNewest, target(nologin), ['snapshots']);
  expect(stderr).toContain('This account is currently not available.');
  expect(stderr).toContain('error talking HTTP to rclone');
});

test('restic copy: one program for both copies a repository onto itself, the wrapper of the docs from one to the other', async () => {
  const fence = readPage('docs/clients.md').fences.find(({ text }) => text.includes('restic-by-host'));
  const [, wrapper = ''] = /<<'END'\n([^]*?)END\n/.exec(fence?.text ?? '') ?? [];
  // As ~/.ssh/config would have them.
  mkdirSync(at('bin'));
  script(
    'bin/ssh',
    `#!/bin/sh\nhost=$1; shift\ncase $host in\n${['gw-old', 'gw-new'].map((name) => `  ${name}) exec ${program(name)} "$@" ;;`).join('\n')}\nesac\n`,
  );
  const byHost = script('restic-by-host', wrapper);
  const commands = (fence?.text ?? '').split('\n').filter((line) => line.startsWith('restic '));
  expect(commands).toHaveLength(2);
  const env = {
    PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`,
    RESTIC: lab().resticNewest,
    RESTIC_PASSWORD: 'secret',
    RESTIC_FROM_PASSWORD: 'secret',
    RESTIC_CACHE_DIR: at('cache'),
  };
  const shell = (command: string) => run('sh', ['-c', command], { env, timeoutMs: 120_000 });
  for (const command of commands) {
    const said = command.replace('/usr/local/bin/restic-by-host', byHost).replace(/^restic/, 'timeout 60 "$RESTIC"');
    expect(await shell(said)).toMatchObject({ code: 0, stderr: '' });
  }
  const count = async (name: string): Promise<number> => {
    const { stdout } = await restic(lab().resticNewest, target(program(name)), ['snapshots', '--json']);
    return (JSON.parse(stdout) as unknown[]).length;
  };
  expect([await count('gw-old'), await count('gw-new')]).toEqual([1, 1]);
  await shell(
    `timeout 60 "$RESTIC" -o rclone.program="${program('gw-old')}" -r rclone:gw-new copy --from-repo rclone:gw-old`,
  );
  expect(await count('gw-new')).toBe(1);
});

/** A backup whose gateway vanishes in the middle. @returns restic's exit status */
async function backUpToVanishing(): Promise<number | null> {
  let silent = false;
  const sockets = new Set<Socket>();
  const relay = createServer((near) => {
    const far = connect(gateway.port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (chunk) => {
        // As when packets are dropped: no reset, no end.
        if (!silent) to.write(chunk);
      });
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const { port } = relay.address() as AddressInfo;
  const locks = (): number =>
    readFileSync(gateway.auditFile, 'utf8')
      .split('\n')
      .filter((line) => line.includes('"object":"locks/') && line.includes('"gw-old"')).length;
  const before = locks();
  const fifo = at('fifo');
  await run('mkfifo', [fifo]);
  // Shorter than those, which take a minute.
  const way = program('gw-old', { port, more: ['-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=2'] });
  const known = at('known');
  writeFileSync(known, `[127.0.0.1]:${port} ${(await run('cut', ['-d', ' ', '-f2,3', gateway.knownHosts])).stdout}`);
  const backup = await startProcess(
    'sh',
    [
      ...['-c', `exec "$0" "$@" < '${fifo}'`, lab().resticNewest, '-r', 'rclone:x'],
      ...['-o', `rclone.program=${way.replace(gateway.knownHosts, known)}`, 'backup', '--stdin', '--no-cache'],
    ],
    { env: { RESTIC_PASSWORD: 'secret' } },
  );
  const writer = await startProcess('sh', ['-c', `exec 3>'${fifo}'; echo begun >&3; exec sleep 600`]);
  while (locks() === before) await new Promise((resolve) => setTimeout(resolve, 100));
  silent = true;
  await writer.stop();
  const status = await backup.exited;
  for (const socket of sockets) socket.destroy();
  relay.close();
  return status;
}

/** A client's own forget. @returns restic's exit status, and how many snapshots are there then */
async function forget(client: string, binary: string): Promise<readonly [number | null, number]> {
  const way = target(program(client));
  for (const args of [['init'], ['backup', at('source')], ['backup', at('source')]])
    expect(await restic(lab().resticNewest, way, args)).toMatchObject({ code: 0 });
  const { code } = await restic(binary, way, ['forget', '--keep-last', '1', '--no-cache']);
  const { stdout } = await restic(lab().resticNewest, way, ['snapshots', '--json']);
  return [code, (JSON.parse(stdout) as unknown[]).length];
}

test('what restic waits for: a gateway that vanishes, where the keepalives of client add end it; and a forget that is refused', async () => {
  const [vanished, newest, trixie] = await Promise.all([
    backUpToVanishing(),
    forget('forgetful', lab().resticNewest),
    forget('forgetful-too', lab().resticTrixie),
  ]);
  expect(vanished).not.toBe(0);
  // As docs/retention.md says.
  expect([newest, trixie]).toEqual([
    [3, 2],
    [0, 2],
  ]);
});
