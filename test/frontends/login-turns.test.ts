/** Turns for the work of logins, on a thread whose time is the test's own. */
import { describe, expect, test } from '@jest/globals';
import { networksOf } from '../../src/core/fair-pool.ts';
import { createLoginTurns, type LoginTurns, type ThreadClock } from '../../src/frontends/login-turns.ts';

/** What one login takes, in ms. */
const COST = 4;

/** A thread that does sessions' work all the time that it is let, or none at all. */
class Thread implements ThreadClock {
  readonly #sessions: boolean;
  #time = 0;
  #idle = 0;
  #due: { readonly at: number; readonly run: () => void }[] = [];
  /** What was done for whom, in its order. */
  readonly done: string[] = [];
  readonly turns: LoginTurns;

  constructor(sessions: boolean) {
    this.#sessions = sessions;
    this.turns = createLoginTurns(this);
  }
  now = (): number => this.#time;
  idle = (): number => this.#idle;
  later = (ms: number, run: () => void): void => {
    this.#due.push({ at: this.#time + ms, run });
  };
  /** Asks for one login. */
  login(from: string): () => void {
    return this.turns.take(networksOf(from), () => {
      this.#time += COST;
      this.done.push(from);
    });
  }
  /** Lets it go on until a moment. */
  async until(end: number): Promise<void> {
    for (;;) {
      // What is left to microtasks.
      await Promise.resolve();
      this.#due.sort((a, b) => a.at - b.at);
      const [first] = this.#due;
      const next = Math.min(end, first?.at ?? end);
      if (next > this.#time) {
        if (!this.#sessions) this.#idle += next - this.#time;
        this.#time = next;
      }
      if (first === undefined || first.at > end) return;
      this.#due.shift();
      first.run();
    }
  }
}

const times = (count: number, from: string): string[] => Array.from({ length: count }, () => from);

describe('a flood of logins', () => {
  test('has a quarter of the thread while sessions want all of it, after a burst that is free', async () => {
    const thread = new Thread(true);
    for (let i = 0; i < 1000; i++) thread.login('192.0.2.1');
    await thread.until(4000);
    const used = thread.done.length * COST;
    expect(used).toBeGreaterThan(1000);
    expect(used).toBeLessThan(1100);
  });

  test('has nearly all of a thread that has nothing else to do', async () => {
    const thread = new Thread(false);
    for (let i = 0; i < 1000; i++) thread.login('192.0.2.1');
    await thread.until(4000);
    expect(thread.done.length * COST).toBeGreaterThan(3500);
  });

  test('makes a newcomer wait for one turn of each network, and not for all of it', async () => {
    const thread = new Thread(true);
    for (let i = 0; i < 1000; i++) thread.login(`10.0.${i % 5}.${i % 7}`);
    await thread.until(100);
    const before = thread.done.length;
    thread.login('192.0.2.1');
    await thread.until(1000);
    expect(thread.done.indexOf('192.0.2.1') - before).toBeLessThanOrEqual(6);
  });

  test('leaves its neighbour in the same network every second turn', async () => {
    const thread = new Thread(true);
    for (let i = 0; i < 1000; i++) thread.login('192.0.2.1');
    await thread.until(100);
    for (let i = 0; i < 10; i++) thread.login('192.0.2.2');
    const before = thread.done.length;
    await thread.until(2000);
    expect(thread.done.slice(before, before + 20).filter((from) => from === '192.0.2.2').length).toBeGreaterThanOrEqual(
      9,
    );
  });
});

test('one login at a time waits for nobody, and is done before the call returns', async () => {
  const thread = new Thread(true);
  for (let i = 1; i < 20; i++) {
    thread.login('192.0.2.1');
    expect(thread.done).toHaveLength(i);
    await thread.until(i * 40);
  }
});

test('what is taken back is not done, and holds nothing up', async () => {
  const thread = new Thread(true);
  for (let i = 0; i < 20; i++) thread.login('192.0.2.1');
  const takeBack = Array.from({ length: 500 }, (_, i) => thread.login(`10.${i}.0.1`));
  for (const take of [...takeBack, ...takeBack]) take();
  thread.login('198.51.100.1');
  await thread.until(2000);
  expect(thread.done.filter((from) => from.startsWith('10.'))).toEqual([]);
  expect([...thread.done].sort()).toEqual([...times(20, '192.0.2.1'), '198.51.100.1']);
});

test('work that fails has its turn, and the others theirs', async () => {
  const thread = new Thread(true);
  expect(() =>
    thread.turns.take(['a'], () => {
      throw new Error('no');
    }),
  ).toThrow('no');
  thread.login('192.0.2.1');
  await thread.until(100);
  expect(thread.done).toEqual(['192.0.2.1']);
});
