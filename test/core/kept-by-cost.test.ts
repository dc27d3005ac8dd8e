/** What is given again, for how long, and what is never. */
import { beforeEach, expect, test } from '@jest/globals';
import { keptByCost, type KeptByCost } from '../../src/core/kept-by-cost.ts';

let clock: number;
let takes: number;
let made: number;
let fails: boolean;
let kept: KeptByCost<number>;
beforeEach(() => {
  [clock, takes, made, fails] = [0, 0, 0, false];
  kept = keptByCost(
    async () => {
      const number = ++made;
      await Promise.resolve();
      clock += takes;
      if (fails) throw new Error(`number ${number}`);
      return number;
    },
    () => clock,
  );
});

/** Lets what is made in the background come to its end. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('what is made quickly is made anew for each, but once for those who ask at the same time', async () => {
  expect(await Promise.all([kept.get(), kept.get()])).toEqual([1, 1]);
  expect(await kept.get()).toBe(2);
});

test('what takes long is given again, and made anew behind that once it is older than ten times as long', async () => {
  takes = 500;
  expect(await kept.get()).toBe(1);
  clock += 5000;
  expect(await kept.get()).toBe(1);
  await settle();
  expect(made).toBe(1);
  clock += 1;
  expect(await Promise.all([kept.get(), kept.get()])).toEqual([1, 1]);
  await settle();
  expect(await kept.get()).toBe(2);
  clock += 30_001;
  expect(await kept.get()).toBe(3);
});

test('what fails is not kept, nor what was before it; what was dropped while it was made is none', async () => {
  takes = 500;
  expect(await kept.get()).toBe(1);
  fails = true;
  clock += 6000;
  expect(await kept.get()).toBe(1);
  await settle();
  await expect(kept.get()).rejects.toThrow('number 3');
  fails = false;
  const early = kept.get();
  kept.drop();
  expect(await kept.get()).toBe(5);
  expect(await early).toBe(4);
  expect(await kept.get()).toBe(5);
});
