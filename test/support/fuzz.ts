/** Chance that can be had again: fuzzing tests print their seed, and FUZZ_SEED gives it back to them; FUZZ_CASES makes them longer. */

/** A source of chance. */
export interface Chance {
  /** A whole number from 0 to `count` - 1. */
  below(count: number): number;
  /** True once in `count` times. */
  once(count: number): boolean;
  of<T>(list: readonly T[]): T;
  bytes(length: number): Buffer;
}

/** Runs cases one after the other in `lanes` lanes, each with a chance of its own that depends on the seed and the case's number alone. */
export async function fuzz(
  what: string,
  { cases, lanes }: { readonly cases: number; readonly lanes: number },
  run: (chance: Chance, index: number) => Promise<void>,
): Promise<void> {
  const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
  const count = Number(process.env['FUZZ_CASES'] ?? cases);
  process.stderr.write(`fuzz ${what}: FUZZ_SEED=${seed} FUZZ_CASES=${count}\n`);
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++)
      try {
        await run(chanceOf(seed + index * 7919), index);
      } catch (cause) {
        throw new Error(`case ${index} of FUZZ_SEED=${seed} went wrong`, { cause });
      }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** Mulberry32, which is as good as needed and the same everywhere. */
function chanceOf(seed: number): Chance {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (count: number): number => Math.floor(next() * count);
  return {
    below,
    once: (count) => below(count) === 0,
    of: (list) => {
      const one = list[below(list.length)];
      if (one === undefined) throw new Error('nothing to choose from');
      return one;
    },
    bytes: (length) => Buffer.from(Array.from({ length }, () => below(256))),
  };
}

/** Numbers at which programs that count go wrong. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** Bytes with something changed: a bit, a number, a piece gone, doubled, inserted or moved; sometimes nothing. */
export function mutated(bytes: Uint8Array, chance: Chance): Buffer {
  const at = chance.below(bytes.length + 1);
  const length = chance.below(Math.min(64, bytes.length - at) + 1);
  const [head, piece, tail] = [bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at + length)];
  switch (chance.below(9)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      if (flipped.length > 0) {
        const place = chance.below(flipped.length);
        flipped.writeUInt8(flipped.readUInt8(place) ^ (1 << chance.below(8)), place);
      }
      return flipped;
    }
    case 1: {
      const changed = Buffer.from(bytes);
      if (changed.length >= 4) changed.writeUInt32BE(chance.of(EDGES), chance.below(changed.length - 3));
      return changed;
    }
    case 2:
      return Buffer.concat([head, tail]);
    case 3:
      return Buffer.concat([head, piece, piece, tail]);
    case 4:
      return Buffer.concat([head, chance.bytes(1 + chance.below(40)), tail]);
    case 5:
      return Buffer.from(head);
    case 6:
      return Buffer.concat([piece, head, tail]);
    case 7:
      return mutated(mutated(bytes, chance), chance);
    default:
      return Buffer.from(bytes);
  }
}
