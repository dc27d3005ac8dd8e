/** Gives each system its turn, round after round, so that whatever else the machine does falls on all of them alike. */

/** What was measured in one turn, by name: seconds or bytes. */
export type Sample = Readonly<Record<string, number>>;

/** What was measured of each system, one sample a round. */
export type Samples<System extends string> = Readonly<Record<System, readonly Sample[]>>;

/**
 * Runs `turn` for every system in every round; every other round in the reverse order, so that a machine that slowly gets faster or slower
 * favours none.
 * @param prepare - runs before each round, for what all systems share in it
 */
export async function alternate<System extends string>(
  systems: readonly System[],
  rounds: number,
  turn: (system: System, round: number) => Promise<Sample>,
  prepare: (round: number) => Promise<void> = () => Promise.resolve(),
): Promise<Samples<System>> {
  const samples = Object.fromEntries(systems.map((system) => [system, [] as Sample[]])) as Record<System, Sample[]>;
  for (let round = 0; round < rounds; round++) {
    await prepare(round);
    for (const system of round % 2 === 0 ? systems : systems.toReversed())
      samples[system].push(await turn(system, round));
  }
  return samples;
}

/** All values of one name, in the order of the rounds. @throws Error when a sample lacks it */
export function valuesOf(samples: readonly Sample[], name: string): number[] {
  return samples.map((sample) => {
    const value = sample[name];
    if (value === undefined) throw new Error(`nothing was measured as ${name}`);
    return value;
  });
}
