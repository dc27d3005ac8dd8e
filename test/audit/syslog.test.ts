/** Lines of the audit as syslog messages, on real sockets. */
import { readdirSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { openSyslog, type SyslogSender } from '../../src/audit/syslog.ts';
import { parseSyslogAddress } from '../../src/config/values.ts';
import { freePort, tempDir } from '../support/lab.ts';
import { makeCertificate } from '../support/tls-front.ts';
import { receiveTcp, receiveUdp, receiveUnix } from '../support/syslog-receiver.ts';

const LINES = ['session-start', 'denied', 'failed'].map((kind, index) => {
  const time = `2026-11-25T06:00:0${index}.000Z`;
  return { kind, time, bytes: Buffer.from(JSON.stringify({ time, v: 1, event: kind, user: 'Grüße\u2028' })) };
});
const open = (address: string, facility = 10): SyslogSender => openSyslog({ ...parseSyslogAddress(address), facility });
const allOf = async (messages: readonly string[], count: number): Promise<readonly string[]> => {
  while (messages.length < count) await sleep(5);
  return messages;
};
/** RFC 5424, section 6: header, no structured data, the line as it is. */
const message = (priority: number, { kind, time, bytes }: (typeof LINES)[number]): string =>
  `<${priority}>1 ${time} ${hostname()} restic-gateway ${process.pid} ${kind} - ${shown(bytes)}`;
/** What would steer a terminal is escaped, and the JSON says the same. */
const shown = (bytes: Buffer): string => bytes.toString().replaceAll('\u2028', '\\u2028');

test('a line that no gateway wrote steers no terminal, forges no header, and stops none of those after it', async () => {
  const receiver = await receiveUdp();
  const sender = open(`udp://127.0.0.1:${receiver.port}`);
  const forged = { kind: 'x - -\n', time: '- evil 1 -\n<0>1', bytes: Buffer.from('{"a":"\u009b2J\u202e\u007f"}\r') };
  const long = { kind: 'denied', time: '', bytes: Buffer.from(`{"a":"${'\u009b'.repeat(32_000)}"}`) };
  await sender.send([forged, long, ...LINES.slice(0, 1)]);
  const [first = '', second = '', third = ''] = await allOf(receiver.messages, 3);
  expect(first).toBe(`<86>1 - ${hostname()} restic-gateway ${process.pid} - - {"a":"\\u009b2J\\u202e\\u007f"}\\u000d`);
  expect(second).toMatch(/^<84>1 - [^\u0080-\uffff]*$/);
  expect(third).toContain('session-start');
  sender.close();
  await receiver.close();
});

test.each([
  ['tcp', receiveTcp],
  ['udp', receiveUdp],
] as const)('%s: each line is one message, in order, with its priority', async (transport, receive) => {
  const receiver = await receive();
  const sender = open(`${transport}://127.0.0.1:${receiver.port}`);
  await sender.send(LINES);
  // authpriv, and informational, warning and error
  const priorities = [86, 84, 83];
  const wanted = LINES.map((line, index) => message(priorities[index] ?? 0, line));
  expect(await allOf(receiver.messages, 3)).toEqual(wanted);
  sender.close();
  await receiver.close();
});

test('the socket of this machine, by logger: as it is written there, in order', async () => {
  const socket = path.join(tempDir(), 'log');
  const receiver = await receiveUnix(socket);
  const sender = open(`unix://${socket}`, 17);
  const large = { kind: 'session-start', time: '', bytes: Buffer.from(JSON.stringify({ filling: 'x'.repeat(8000) })) };
  await sender.send([...LINES, large]);
  await sender.send(LINES);
  const messages = await allOf(receiver.messages, 7);
  for (const [index, line] of [...LINES, large, ...LINES].entries()) {
    expect(messages[index]).toMatch(new RegExp(`^<${[142, 140, 139][index % 4] ?? 142}>`));
    expect(messages[index]).toContain(`restic-gateway[${process.pid}]: ${shown(line.bytes)}`);
  }
  sender.close();
  await receiver.close();
});

test('a receiver that is not there, or is gone, is an error, and one that is there again is not', async () => {
  const port = await freePort();
  const sender = open(`tcp://127.0.0.1:${port}`);
  await expect(sender.send(LINES)).rejects.toThrow('ECONNREFUSED');
  const receiver = await receiveTcp(port);
  await sender.send(LINES);
  await allOf(receiver.messages, 3);
  await receiver.close();
  // What was written into a connection that is just being closed is lost; soon it is told.
  const untilFails = async (): Promise<void> => {
    for (;;) {
      await sender.send(LINES);
      await sleep(5);
    }
  };
  await expect(untilFails()).rejects.toThrow();
  const next = await receiveTcp(port);
  await sender.send(LINES);
  await allOf(next.messages, 3);
  sender.close();
  await next.close();
  await expect(open(`unix://${path.join(tempDir(), 'none')}`).send(LINES)).rejects.toThrow('ENOENT');
});

test('a receiver whose name is not known is told as such, again and again, and leaves nothing open', async () => {
  const sender = open('udp://no-such-host.invalid:514');
  const files = (): number => readdirSync('/proc/self/fd').length;
  await expect(sender.send(LINES)).rejects.toThrow(/ENOTFOUND|EAI_AGAIN/);
  const before = files();
  for (let times = 0; times < 20; times++) await expect(sender.send(LINES)).rejects.toThrow(/ENOTFOUND|EAI_AGAIN/);
  expect(files()).toBeLessThan(before + 10);
  sender.close();
});

test('a receiver by TLS whose certificate nobody vouches for is sent nothing', async () => {
  const receiver = await receiveTcp(0, await makeCertificate());
  const sender = open(`tls://127.0.0.1:${receiver.port}`);
  await expect(sender.send(LINES)).rejects.toThrow('self-signed certificate');
  expect(receiver.messages).toEqual([]);
  sender.close();
  await receiver.close();
});
