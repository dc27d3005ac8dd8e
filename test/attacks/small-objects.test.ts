/** A client whose key an attacker has, and who wants to drown storage and audit in objects that are next to nothing. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createGateway } from '../../src/gateway/gateway.ts';
import { socketPair } from '../support/raw-http2.ts';
import { resticClient, sample } from '../support/restic-client.ts';
import { startStack, type Stack, type StackClient } from '../support/stack.ts';

const MIB = 1024 * 1024;

let stack: Stack;
beforeEach(async () => {
  // Four hours' worth of them at once: 240.
  stack = await startStack({ appsrv: { smallObjects: 60 }, neighbour: { smallObjects: 60 } });
});
afterEach(async () => {
  await stack.close();
});

const save = async (client: StackClient, size: number, type = 'data'): Promise<number> => {
  const { name, body } = sample(size);
  return (await client.request('POST', `/${type}/${name}`, { body })).status;
};

test('a flood over sessions and types of object runs dry; packs, reading and the neighbour go on', async () => {
  const clients = await Promise.all([1, 2, 3].map(() => stack.connect('appsrv')));
  const types = ['data', 'index', 'snapshots', 'locks'];
  const statuses: number[] = [];
  const flood = clients.flatMap((client, number) =>
    Array.from({ length: 40 }, async (_, index) => {
      for (let times = 0; times < 4; times++)
        statuses.push(await save(client, 100, types[(number + index) % 4]).catch(() => 0));
    }),
  );
  const count = (status: number): number => statuses.filter((each) => each === status).length;
  // One a minute waits for its turn, and is not waited for here.
  while (count(200) < 240 || count(200) + count(429) < 470) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(count(200)).toBe(240);
  expect(statuses.filter((status) => status !== 200 && status !== 429)).toEqual([]);

  const again = await stack.connect('appsrv');
  expect(await save(again, 100)).toBe(429);
  expect(again.reported).toEqual(['this client stores more small objects than it may; try again in a while.']);
  expect(await save(again, MIB)).toBe(200);
  expect((await again.request('GET', '/snapshots/')).status).toBe(200);
  expect(await save(await stack.connect('appsrv', { via: 'admin' }), 100)).toBe(200);
  expect(await save(await stack.connect('neighbour'), 100)).toBe(200);
  expect(stack.audit().filter((line) => line['reason'] === 'too-many-objects')).not.toEqual([]);
  expect(stack.audit().filter((line) => line['event'] === 'create')).toHaveLength(243);

  for (const client of clients) client.close();
  await Promise.all(flood);
  await Promise.all(clients.map(({ served }) => served.ended));
});

test('what one process has used up, the next one does not have: forced commands, and restarts', async () => {
  const client = await stack.connect('appsrv');
  for (let times = 0; times < 6; times++) {
    const statuses = await Promise.all(Array.from({ length: 40 }, () => save(client, 100, 'index')));
    expect(new Set(statuses)).toEqual(new Set([200]));
  }
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const gateway = await createGateway({ config: stack.config, log: silent });
  const pair = await socketPair();
  await gateway.openSession({
    principal: { client: 'appsrv', via: 'stdio' },
    stream: pair.server,
    notify: () => undefined,
    ending: () => undefined,
  });
  const next = resticClient(pair.client);
  const saves = Array.from({ length: 2 }, async () => {
    const { name, body } = sample();
    return (await next.request('POST', `/data/${name}`, { body }).catch(() => ({ status: 0 }))).status;
  });
  expect(await Promise.race(saves)).toBe(429);
  next.close();
  await Promise.all(saves);
  await gateway.close();
});
