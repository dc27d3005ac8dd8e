/** Where `serve` listens: on all addresses, on a list of them, and on a machine that has no IPv6. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { freePort, generateKey, run, tempDir, type KeyFiles } from '../support/lab.ts';
import { resticClient } from '../support/restic-client.ts';
import { channelOf } from '../support/ssh-stack.ts';
import { freshStore } from '../support/stores.ts';

let key: KeyFiles;
let store: Readonly<Record<string, unknown>>;
beforeAll(async () => {
  key = await generateKey();
  store = await freshStore('directory');
});

const start = (given: Readonly<Record<string, unknown>>, within?: readonly string[]): Promise<RunningGateway> =>
  startGateway(
    tempDir(),
    {
      stores: { main: store },
      clients: { appsrv: { keys: [key.publicLine], repository: { store: 'main' } } },
      ...given,
    },
    {},
    within,
  );

/** Opens a session there, and ends it. */
async function serves(host: string, port: number): Promise<void> {
  const client = new ssh2.Client();
  client.connect({ host, port, username: 'x', privateKey: readFileSync(key.privateFile) });
  await once(client, 'ready');
  const restic = resticClient(await channelOf((done) => client.exec('x', done)));
  expect((await restic.request('GET', '/file-1')).status).toBe(404);
  const closed = once(client, 'close');
  client.end();
  await closed;
}

const froms = ({ auditFile }: RunningGateway): unknown[] =>
  readFileSync(auditFile, 'utf8')
    .split('\n')
    .filter((line) => line.includes('"session-start"'))
    .map((line) => (JSON.parse(line) as { readonly from: string }).from);

/** Runs a command on a machine whose kernel has no IPv6: each IPv6 socket that it opens is refused with EAFNOSUPPORT, by seccomp(2). */
function withoutIPv6(): readonly string[] {
  const file = path.join(tempDir(), 'without-ipv6.py');
  writeFileSync(
    file,
    `import ctypes, errno, os, platform, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
SOCKET = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
load = lambda at: struct.pack('HBBI', 0x20, 0, 0, at)
unless = lambda value, skip: struct.pack('HBBI', 0x15, 0, skip, value)
answer = lambda value: struct.pack('HBBI', 0x06, 0, 0, value)
# Fields of struct seccomp_data: the call at 0, its first argument at 16.
code = [load(0), unless(SOCKET, 3), load(16), unless(socket.AF_INET6, 1), answer(0x00050000 | errno.EAFNOSUPPORT), answer(0x7fff0000)]
text = ctypes.create_string_buffer(b''.join(code))
class Program(ctypes.Structure):
    _fields_ = [('count', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(len(code), ctypes.addressof(text))
for call in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
    if libc.prctl(*call) != 0: sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
`,
  );
  return ['python3', file];
}

describe.each([1, 2])('a port alone, with %s process(es) that serve', (workers) => {
  test('is that port of IPv4 and of IPv6, and the audit has addresses as their peers know them', async () => {
    const port = await freePort();
    const gateway = await start({ listen: port, workers });
    expect(gateway.process.lines.join('\n')).toContain(`listening on 0.0.0.0:${port}, [::]:${port} for 1 client`);
    await serves('127.0.0.1', port);
    await serves('::1', port);
    expect(froms(gateway)).toEqual(['127.0.0.1', '::1']);
    expect(await gateway.stop()).toBe(0);
  });

  test('is that port of IPv4 where the machine has no IPv6, which the log says once', async () => {
    const port = await freePort();
    const gateway = await start({ listen: port, workers }, withoutIPv6());
    await serves('127.0.0.1', port);
    const said = gateway.process.lines.join('\n');
    expect(said).toContain(`listening on 0.0.0.0:${port} for 1 client`);
    expect(said).toContain(`listen: [::]:${port} is left out: this machine has no IPv6`);
    const health = await run(process.execPath, [GATEWAY, 'health', '-c', gateway.configFile]);
    expect(health).toMatchObject({ code: 0, stdout: expect.stringContaining('accepts connections') });
    expect(await gateway.stop()).toBe(0);
  });
});

test('a list of addresses is served at each of them, and a change of it waits for a restart', async () => {
  const [first, second] = [await freePort(), await freePort()];
  const gateway = await start({ listen: [`127.0.0.1:${first}`, `[::1]:${second}`, `127.0.0.1:${second}`] });
  await serves('127.0.0.1', first);
  await serves('::1', second);
  await serves('127.0.0.1', second);
  const config = readFileSync(gateway.configFile, 'utf8');
  writeFileSync(gateway.configFile, config.replace(/^ *- 127.*\n/m, ''));
  gateway.process.signal('SIGHUP');
  await gateway.process.waitForLine(/listen: what was changed there needs a restart/);
  await serves('127.0.0.1', first);
  expect(await gateway.stop()).toBe(0);
});

test('one address of a list that is in use keeps the server from starting, and leaves none of them open', async () => {
  const [free, taken] = [await freePort(), await freePort()];
  const other = await start({ listen: `127.0.0.1:${taken}` });
  await expect(start({ listen: [`127.0.0.1:${free}`, `127.0.0.1:${taken}`] })).rejects.toThrow(
    `listen: 127.0.0.1:${taken}: the port is in use by another program`,
  );
  await expect(start({ listen: `[2001:db8::77]:${free}` })).rejects.toThrow(
    `listen: [2001:db8::77]:${free}: this machine does not have that address`,
  );
  expect(await other.stop()).toBe(0);
});
