/** A stranger's and a client's words, meant to steer the terminal of whoever reads the log or the audit: through the built program. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { message } from '../support/hostile-ssh.ts';
import { GATEWAY, startGateway, type RunningGateway } from '../support/gateway-process.ts';
import { run, startProcess, tempDir } from '../support/lab.ts';
import { MESSAGE, rawClient } from '../support/raw-ssh.ts';
import { channelOf, keyPair, outcomeOf } from '../support/ssh-stack.ts';

/** Clears the screen by C1 and by ESC, turns the order of reading, and begins a line of its own. */
const WORDS = 'said\u009b2J\u001b[2J\u202e\u2066\u2028\n{"level":50}\r\u200f';
/** What none of it may be in, but for line breaks and a terminal's own. */
const TRICKS = /[\u0080-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]|(?<!\ufffd|\\u001b|\\ufffd)\[2J/;
const KEY = keyPair();

let gateway: RunningGateway;
beforeAll(async () => {
  const directory = tempDir();
  mkdirSync(path.join(directory, 'store'));
  gateway = await startGateway(directory, {
    stores: { disk: { type: 'directory', path: path.join(directory, 'store') } },
    clients: { dbsrv: { keys: [KEY.public], repository: { store: 'disk' } } },
  });
});
afterAll(() => gateway.stop());

/** Leaves before any login, with some last words (RFC 4253, 11.1). */
async function leave(port: number): Promise<void> {
  const client = await rawClient({ host: '127.0.0.1', port });
  await client.next();
  client.send(message(MESSAGE.disconnect, [2], WORDS, ''));
  while ((await client.next()) !== undefined);
  client.close();
}

test('the last words of a stranger reach the log as one printable line', async () => {
  await leave(gateway.port);
  const line = await gateway.process.waitForLine(/"error":"said/);
  expect(line).not.toMatch(TRICKS);
  expect((JSON.parse(line) as { error: string }).error).toMatch(
    /^said\ufffd2J\ufffd\[2J\ufffd{4}\{"level":50\}\ufffd{2}$/,
  );
});

test('and the log of who sits at a terminal', async () => {
  const line = `exec ${process.execPath} ${GATEWAY} serve -c ${gateway.configFile}`;
  await gateway.stop();
  const shown = await startProcess('script', ['-qec', line, '/dev/null'], { env: { TERM: 'xterm' } });
  await shown.waitForLine(/listening on/);
  await leave(gateway.port);
  await shown.waitForLine(/said/);
  await shown.stop();
  expect(shown.lines.join('\n')).not.toMatch(TRICKS);
});

test('a client’s user name and command are printable in the audit and whatever shows it', async () => {
  const running = await startProcess(process.execPath, [GATEWAY, 'serve', '-c', gateway.configFile]);
  await running.waitForLine(/listening on/);
  const client = new ssh2.Client();
  const ready = new Promise<void>((resolve) => client.once('ready', resolve));
  client.connect({ host: '127.0.0.1', port: gateway.port, username: `u${WORDS}`, privateKey: KEY.private });
  await ready;
  const channel = await channelOf((done) => client.exec(`c${WORDS}`, done));
  const ended = outcomeOf(channel);
  channel.end();
  await ended;
  client.end();
  await running.stop();
  for (const command of [
    ['audit', 'show'],
    ['audit', 'show', '--json'],
    ['sessions'],
    ['sessions', '--json'],
    ['status'],
    ['status', 'dbsrv'],
  ]) {
    const { code, stdout, stderr } = await run(process.execPath, [GATEWAY, ...command, '-c', gateway.configFile]);
    expect([command, code === 2 ? stderr : '', stdout + stderr]).toEqual([
      command,
      '',
      expect.not.stringMatching(TRICKS),
    ]);
  }
});

const show = async (command: readonly string[], config: string): Promise<string> => {
  const { code, stdout, stderr } = await run(process.execPath, [GATEWAY, ...command, '-c', config]);
  expect([command, code === 2 ? stderr : '']).toEqual([command, '']);
  return stdout + stderr;
};

test('lines that someone put into the audit, and its name, steer no terminal of those who look into it', async () => {
  const directory = tempDir();
  mkdirSync(path.join(directory, 'store'));
  const stolen = keyPair();
  const { stop, configFile } = await startGateway(directory, {
    stores: { disk: { type: 'directory', path: path.join(directory, 'store') } },
    clients: {
      dbsrv: { keys: [`${stolen.public.split(' ').slice(0, 2).join(' ')} c`], repository: { store: 'disk' } },
    },
  });
  await stop();
  const audit = path.join(directory, 'audit.jsonl');
  const long = `${WORDS}${'x'.repeat(30_000)}`;
  const line = {
    time: new Date().toISOString(),
    v: 1,
    client: 'dbsrv',
    session: WORDS,
    via: WORDS,
    from: WORDS,
    store: 'disk',
    prefix: '',
  };
  const words = { reason: WORDS, operation: WORDS, object: `snapshots/${WORDS}`, detail: long, key: WORDS };
  const kinds = ['session-start', 'create', 'denied', 'session-refused', 'session-end', WORDS];
  // As a program writes JSON that escapes no more than it must.
  const text = kinds.map((event) => JSON.stringify({ ...line, event, ...words })).join('\n');
  writeFileSync(audit, `${text}\n${text.slice(0, 40)}\u009b2J\u202e\n${'x\u009b2J'.repeat(1024 * 1024)}\n`);
  const rotated = `${audit}.1-\u009b2J`;
  writeFileSync(rotated, `${JSON.stringify({ ...line, prev: [], event: 'denied' })}\n`);
  for (const command of [
    ['audit', 'show'],
    ['audit', 'show', '--json'],
    ['audit', 'verify'],
    ['audit', 'verify', '--json'],
    ['audit', 'verify', rotated],
    ['audit', 'verify', `${audit}.\u009b2J`],
    ['sessions'],
    ['sessions', '--json'],
    ['status'],
    ['status', 'dbsrv'],
    ['status', '--json'],
    ['undo', 'dbsrv', '--list'],
  ]) {
    const said = await show(command, configFile);
    expect([command, said.slice(0, 20_000)]).toEqual([command, expect.not.stringMatching(TRICKS)]);
    expect(said).not.toMatch(TRICKS);
    expect(said.length).toBeLessThan(200_000);
  }
});

test('what an S3 server answers is printable in check, as a table and as JSON', async () => {
  const body = `<?xml version="1.0"?><Error><Code>Access${WORDS}</Code><Message>${WORDS}${'y'.repeat(1024 * 1024)}</Message></Error>`;
  const server = createServer((_request, answer) => {
    answer.writeHead(403, { 'content-type': 'application/xml' }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  const directory = tempDir();
  const { port } = server.address() as AddressInfo;
  const secret = path.join(directory, 'secret');
  writeFileSync(secret, 'secret', { mode: 0o600 });
  const store = { type: 's3', endpoint: `http://127.0.0.1:${port}`, bucket: 'backups', region: 'us-east-1' };
  const configFile = path.join(directory, 'gateway.yaml');
  writeFileSync(
    configFile,
    JSON.stringify({
      state: path.join(directory, 'state'),
      audit: { file: path.join(directory, 'audit.jsonl') },
      stores: { far: { ...store, accessKeyId: 'id', secretAccessKeyFile: secret } },
      clients: { dbsrv: { keys: [KEY.public], repository: { store: 'far' } } },
    }),
  );
  for (const command of [
    ['check', '--live'],
    ['check', '--live', '--json'],
    ['scrub', 'dbsrv'],
    ['undo', 'dbsrv', '--list'],
  ]) {
    const { stdout, stderr } = await run(process.execPath, [GATEWAY, ...command, '-c', configFile]);
    expect([command, stdout + stderr]).toEqual([command, expect.stringMatching(/said|refuses|fails/)]);
    expect(stdout + stderr).not.toMatch(TRICKS);
    expect((stdout + stderr).length).toBeLessThan(20_000);
  }
  server.closeAllConnections();
  server.close();
});
