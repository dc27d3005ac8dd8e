/** What a session held goes with it: neither rates nor counts, which are kept for each client, keep its first session. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import { socketPair } from '../support/raw-http2.ts';
import { resticClient, sample } from '../support/restic-client.ts';
import { startStack, type Stack } from '../support/stack.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

let stack: Stack;
afterEach(() => stack.close());

/** Serves one session that uploads, downloads and lists, and ends. */
async function serveOne(): Promise<WeakRef<object>> {
  const { client, server } = await socketPair();
  const session = await stack.serve('appsrv', server);
  const restic = resticClient(client);
  const { name, body } = sample();
  expect((await restic.request('POST', `/data/${name}`, { body })).status).toBe(200);
  expect((await restic.request('GET', `/data/${name}`)).status).toBe(200);
  expect((await restic.request('GET', '/data/')).status).toBe(200);
  restic.close();
  await session.ended;
  return new WeakRef(session);
}

test('the first session of a client with a quota and rates is collected', async () => {
  stack = await startStack({ appsrv: { quota: 1_000_000, bandwidth: { upload: 100_000_000 } } });
  const first = await serveOne();
  // Collected as soon as nothing holds it; should anything do, this never ends.
  for (let tries = 0; first.deref() !== undefined && tries < 4000; tries++) {
    await sleep(25);
    collect();
  }
  expect(first.deref()).toBeUndefined();
});
