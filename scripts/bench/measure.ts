/** What a measure is, what it is given, and what it gives. */
import type { Lab } from './lab.ts';

/** What a number should be. */
export type Aim = { readonly atMost: number } | { readonly atLeast: number };

/** One line of the table. */
export interface Row {
  /** What was measured. */
  readonly what: string;
  /** Whose it is, and against what when it is not OpenSSH with rclone. */
  readonly of: string;
  /** A ratio of two things measured in the same round, or bytes of memory. */
  readonly unit: 'ratio' | 'bytes';
  /** One a round. */
  readonly values: readonly number[];
  readonly aim?: Aim;
}

/** What a measure found. */
export interface Findings {
  readonly rows: readonly Row[];
  /** What must be said beside the table. */
  readonly notes?: readonly string[];
  /** Everything that the rows were made from, in seconds and bytes, for the curious. */
  readonly raw: unknown;
}

/** What a measure runs with. */
export interface Bench {
  readonly lab: Lab;
  /** Small sizes, for a run that ends within minutes. */
  readonly quick: boolean;
  /** How often each system has its turn. */
  readonly rounds: number;
  /** The gateway's ways in that take part where a measure is not about one; the quick run leaves the second out. */
  readonly waysIn: readonly ('ssh' | 'stdio')[];
  /** Added to the gateway's config. */
  readonly configExtra: Readonly<Record<string, unknown>>;
  /** Tells the person at the terminal how far it is. */
  say(line: string): void;
}

/** One benchmark; a file of its own each. */
export interface Measure {
  readonly name: string;
  /** One line that says what it is about. */
  readonly about: string;
  /** Whether it belongs to the quick run. */
  readonly quick: boolean;
  run(bench: Bench): Promise<Findings>;
}
