/** A stranger's and a client's words, meant to steer the terminal of whoever reads the log or the audit: through the built program. */
import { mkdirSync } from 'node:fs';
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
