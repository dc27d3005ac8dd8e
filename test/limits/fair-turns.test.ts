/** Whose request begins next, turn by turn of an event loop that the test moves on. */
import { expect, test } from '@jest/globals';
import { createFairTurns } from '../../src/limits/fair-turns.ts';

const NEVER = new AbortController().signal;

/** Turns of a loop by hand, and who has begun so far. */
function byHand() {
  const immediates: (() => void)[] = [];
  const turns = createFairTurns((next) => immediates.push(next));
  const begun: string[] = [];
  return {
    begun,
    turns,
    ask: (client: string, signal = NEVER): void => {
      const wait = turns.of(client).take(signal);
      if (wait === undefined) begun.push(client);
      else void wait.then(() => begun.push(signal.aborted ? 'gone' : client));
    },
    loop: async (times: number): Promise<void> => {
      for (let turn = 0; turn < times; turn++) {
        for (const next of immediates.splice(0)) next();
        await new Promise(setImmediate);
      }
    },
    resting: () => immediates.length === 0,
  };
}

test('who comes alone begins at once, and again in the next turn; nothing is left running', async () => {
  const { ask, begun, loop, resting } = byHand();
  ask('appsrv');
  expect(begun).toEqual(['appsrv']);
  await loop(1);
  ask('appsrv');
  expect(begun).toEqual(['appsrv', 'appsrv']);
  await loop(2);
  expect(resting()).toBe(true);
});

test('who comes late takes turns with one that has hundreds waiting, over all of its sessions', async () => {
  const { ask, begun, loop, resting } = byHand();
  for (let i = 0; i < 300; i++) ask('hostile');
  ask('appsrv');
  ask('appsrv');
  ask('third');
  await loop(5);
  expect(begun).toEqual(['hostile', 'hostile', 'appsrv', 'third', 'hostile', 'appsrv']);
  await loop(400);
  expect(begun).toHaveLength(303);
  expect(resting()).toBe(true);
});

test('who goes away while it waits is let go at once and takes nobody a turn', async () => {
  const { ask, begun, loop, resting } = byHand();
  const gone = new AbortController();
  ask('hostile');
  for (let i = 0; i < 5; i++) ask('hostile', gone.signal);
  ask('appsrv');
  gone.abort();
  ask('hostile', gone.signal);
  await loop(1);
  expect(begun.filter((who) => who !== 'gone')).toEqual(['hostile', 'appsrv']);
  expect(begun).toHaveLength(8);
  await loop(2);
  expect(resting()).toBe(true);
});
