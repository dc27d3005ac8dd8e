/** The budget of memory: what its bounds are, who gets what while it is scarce, and that all of it comes back whatever happens. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createMemoryBudget } from '../../src/limits/memory-budget.ts';
import { memoryOfOneSession, memoryOfServe, processesOf } from '../../src/limits/memory-limits.ts';
import type { GatewayConfig } from '../../src/config/types.ts';
import type { Lease } from '../../src/ports/memory.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const LIMITS = { total: 64 * MIB, perClient: 16 * MIB };
const NEVER = new AbortController().signal;

describe('a client', () => {
  test('never has more than its share, and whoever comes then gets what it needs', () => {
    const budget = createMemoryBudget(LIMITS);
    const greedy = budget.of('greedy');
    while (greedy.take(MIB) !== undefined);
    expect(budget.used).toBeLessThanOrEqual(LIMITS.perClient);
    expect(budget.of('greedy').take(MIB)).toBeUndefined();
    expect(budget.of('newcomer').take(MIB)).toBeDefined();
  });

  test('can still have a small need met when its large ones are not', () => {
    const budget = createMemoryBudget(LIMITS);
    const client = budget.of('client');
    while (client.take(MIB) !== undefined);
    expect(client.take(8 * KIB)).toBeDefined();
  });

  test('gets nothing for speed once half of all is taken, though it gets what it needs', () => {
    const budget = createMemoryBudget(LIMITS);
    const lease = budget.of('slow').take(256 * KIB);
    for (const name of ['a', 'b', 'c']) while (budget.of(name).take(MIB) !== undefined);
    expect(lease?.grow(MIB)).toBe(false);
    expect(budget.of('slow').take(MIB, 'faster')).toBeUndefined();
    expect(budget.of('slow').take(MIB)).toBeDefined();
  });

  test('that is served alone in its process may have all of it for speed', () => {
    const budget = createMemoryBudget({ total: 16 * MIB, perClient: 16 * MIB });
    expect(budget.of('one').take(12 * MIB, 'faster')).toBeDefined();
  });

  test('waits in its turn, and not behind another client', async () => {
    const budget = createMemoryBudget(LIMITS);
    const full = budget.of('full');
    const held: Lease[] = [];
    for (let lease = full.take(MIB); lease !== undefined; lease = full.take(MIB)) held.push(lease);
    const order: string[] = [];
    const waiting = ['first', 'second'].map(async (name) => {
      const lease = await full.wait(MIB, NEVER);
      order.push(name);
      return lease;
    });
    expect(await budget.of('other').wait(MIB, NEVER)).toBeDefined();
    expect(order).toEqual([]);
    held[0]?.release();
    await waiting[0];
    expect(order).toEqual(['first']);
    held[1]?.release();
    await waiting[1];
    expect(order).toEqual(['first', 'second']);
  });

  test('whose wait is called off leaves its turn to the next', async () => {
    const budget = createMemoryBudget({ total: 4 * MIB, perClient: 2 * MIB });
    const client = budget.of('client');
    const held = client.take(1.5 * MIB);
    const gone = new AbortController();
    const first = client.wait(1.8 * MIB, gone.signal);
    const second = client.wait(0.2 * MIB, NEVER);
    gone.abort();
    expect(await first).toBeUndefined();
    expect(await second).toBeDefined();
    held?.release();
  });
});

test('whatever is taken, widened, waited for, called off and given back, the bounds hold, and in the end nothing is taken', async () => {
  const client = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const bytes = fc.integer({ min: 1, max: 3 * MIB });
  const step = fc.oneof(
    fc.record({ kind: fc.constant('take' as const), client, bytes, use: fc.constantFrom('needed', 'faster') }),
    fc.record({ kind: fc.constant('wait' as const), client, bytes }),
    fc.record({ kind: fc.constant('grow' as const), which: fc.nat(), bytes }),
    fc.record({ kind: fc.constant('release' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('abort' as const), which: fc.nat() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 200 }), async (steps) => {
      const limits = { total: 16 * MIB, perClient: 5 * MIB };
      const budget = createMemoryBudget(limits);
      const leases: Lease[] = [];
      const aborts: AbortController[] = [];
      const waits: Promise<unknown>[] = [];
      for (const each of steps) {
        switch (each.kind) {
          case 'take': {
            const lease = budget.of(each.client).take(each.bytes, each.use);
            if (lease !== undefined) leases.push(lease);
            break;
          }
          case 'wait': {
            const abort = new AbortController();
            aborts.push(abort);
            const wait = Promise.resolve(budget.of(each.client).wait(each.bytes, abort.signal));
            waits.push(wait.then((lease) => lease !== undefined && leases.push(lease)));
            break;
          }
          case 'grow':
            leases[each.which % leases.length]?.grow(each.bytes);
            break;
          case 'release':
            // Some of them twice.
            leases[each.which % leases.length]?.release();
            break;
          case 'abort':
            aborts[each.which % aborts.length]?.abort();
        }
        expect(budget.used).toBeLessThanOrEqual(limits.total);
        expect(budget.used).toBeGreaterThanOrEqual(0);
      }
      for (const abort of aborts) abort.abort();
      await Promise.all(waits);
      for (const lease of leases) lease.release();
      expect(budget.used).toBe(0);
      // Nobody is left in anybody's way.
      for (const name of ['a', 'b', 'c']) expect(budget.of(name).take(4 * MIB)).toBeDefined();
    }),
    { numRuns: 100 },
  );
});

describe('what a process may hold', () => {
  const config = (memory: GatewayConfig['memory']): GatewayConfig =>
    ({ ...(memory && { memory }), clients: { a: { maxSessions: 10 } } }) as unknown as GatewayConfig;

  test.each([
    ['by default', config(undefined), 1, { total: 512 * MIB, perClient: 128 * MIB }],
    ['with a total', config({ total: 1024 * MIB }), 1, { total: 1024 * MIB, perClient: 256 * MIB }],
    ['with both', config({ total: 200 * MIB, perClient: 50 * MIB }), 1, { total: 200 * MIB, perClient: 50 * MIB }],
    ['one of four', config(undefined), 4, { total: 128 * MIB, perClient: 32 * MIB }],
    ['one of very many', config(undefined), 100, { total: 40 * MIB, perClient: 20 * MIB }],
  ])('%s', (_what, given, processes, limits) => {
    expect(memoryOfServe(given, processes)).toEqual(limits);
  });

  test.each<[GatewayConfig, number]>([
    [config(undefined), 12],
    [config({ total: 80 * MIB }), 2],
    [config({ total: 119 * MIB }), 2],
  ])('processes for which there is a number of cores are no more than there is memory for: %#', (given, most) => {
    expect(processesOf({ ...given, workers: 'auto' }, 64)).toBe(most);
    expect(processesOf({ ...given, workers: 'auto' }, 2)).toBe(2);
    // What all of them hold is no more than the total.
    expect(memoryOfServe(given, most).total * most).toBeLessThanOrEqual(given.memory?.total ?? 512 * MIB);
  });

  test('of forced commands, as many as the client may have make up its share', () => {
    expect(memoryOfOneSession(config({ perClient: 320 * MIB, total: 1024 * MIB }), 'a').total).toBe(32 * MIB);
    expect(memoryOfOneSession(config(undefined), 'a').total).toBe(20 * MIB);
  });
});
