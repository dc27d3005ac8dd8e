/** `serve` sends the audit to a syslog receiver: every line of every process, over outages of either. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { startGateway } from '../support/gateway-process.ts';
import { generateKey, tempDir } from '../support/lab.ts';
import { sample } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore } from '../support/stores.ts';
import { receiveTcp } from '../support/syslog-receiver.ts';
import { makeCertificate } from '../support/tls-front.ts';

test.each(['tcp', 'tls'] as const)('%s', async (transport) => {
  const tls = transport === 'tls' ? await makeCertificate() : undefined;
  const first = await receiveTcp(0, tls);
  const address = `${transport}://127.0.0.1:${first.port}`;
  const directory = tempDir();
  const config = {
    stores: { main: await freshStore('directory') },
    clients: { appsrv: { keys: [(await generateKey()).publicLine], repository: { store: 'main' } } },
    audit: { file: `${directory}/audit.jsonl`, syslog: { address, facility: 'local3' } },
  };
  const start = () => startGateway(directory, config, tls && { NODE_EXTRA_CA_CERTS: tls.certificate });
  let gateway = await start();
  const session = async (): Promise<void> => {
    const client = startStdio(['appsrv', '-c', gateway.configFile]);
    const { name, body } = sample();
    expect((await client.request('POST', `/data/${name}`, { body })).status).toBe(200);
    client.end();
    expect((await client.exited).status).toBe(0);
  };
  const audit = (): string[] => readFileSync(`${directory}/audit.jsonl`, 'utf8').trimEnd().split('\n');
  /** The lines in the messages, each at its first coming. */
  const received = (messages: readonly string[]): string[] => [
    ...new Set(messages.map((message) => message.replace(/^<15\d>1 \S+ \S+ restic-gateway \d+ \S+ - /, ''))),
  ];
  const until = async (right: () => boolean): Promise<void> => {
    while (!right()) await sleep(20);
  };

  await session();
  await until(() => received(first.messages).length === audit().length);
  expect(received(first.messages)).toEqual(audit());

  // The receiver is away for a while; backups go on.
  await first.close();
  await session();
  await gateway.process.waitForLine(/the audit cannot be sent to/);
  const second = await receiveTcp(first.port, tls);
  await session();
  const all = (): string[] => received([...first.messages, ...second.messages]);
  await until(() => all().length === audit().length);
  expect(all()).toEqual(audit());

  // So is serve; what came meanwhile is sent when it is back.
  await gateway.stop();
  await session();
  gateway = await start();
  await until(() => all().length === audit().length);
  expect(all()).toEqual(audit());
  await gateway.stop();
  await second.close();
});
