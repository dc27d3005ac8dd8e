/** What a command is: its words, options and values. The parser, `--help`, completion and the manual page all go by it. */

/** What a value names, so that a shell can complete it: a list of words, which are then the only ones, or a kind of thing. */
export type ValueKind =
  | readonly string[]
  | 'client'
  | 'store'
  | 'session'
  | 'event'
  | 'fingerprint'
  | 'undo'
  | 'target'
  | 'file'
  | 'directory';

interface Described {
  /** A plain half-sentence. */
  readonly about: string;
  readonly kind?: ValueKind;
}

/** One word that stands at a place of its own. */
interface PositionalSpec extends Described {
  /** `rest` takes all that follow. */
  readonly takes: 'one' | 'optional' | 'rest';
}

interface OptionBase extends Described {
  /** One letter: `q` for -q. */
  readonly short?: string;
}

/** An option. `value` is what `--help` writes for its value: `TIME`. */
export type OptionSpec = OptionBase &
  (
    | { readonly type: 'flag'; readonly default?: true }
    | { readonly type: 'text'; readonly value: string; readonly required?: true }
    | { readonly type: 'number'; readonly value: string; readonly default: number }
    /** May be given again and again. */
    | { readonly type: 'list'; readonly value: string }
    /** Its value may be left out, which is an empty one, and `--no-NAME` is false. */
    | { readonly type: 'text-or-no'; readonly value: string }
  );

type Positionals = Readonly<Record<string, PositionalSpec>>;
type Options = Readonly<Record<string, OptionSpec>>;

// eslint-disable-next-line @typescript-eslint/no-generated-empty-object-type -- no names at all is what it is to be
type None = Readonly<Record<never, never>>;

type Camel<Name extends string> = Name extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name;

type PositionalValue<P> = P extends { readonly takes: 'one' }
  ? string
  : P extends { readonly takes: 'rest' }
    ? readonly string[]
    : string | undefined;

type OptionValue<O> = O extends { readonly type: 'flag' }
  ? boolean
  : O extends { readonly type: 'number' }
    ? number
    : O extends { readonly type: 'list' }
      ? readonly string[]
      : O extends { readonly type: 'text-or-no' }
        ? string | false | undefined
        : O extends { readonly required: true }
          ? string
          : string | undefined;

/** What every command is given beside its own. */
export interface Common {
  readonly config: string | undefined;
}

/** The values of a command line by the names of words and options, these in camel case. */
type Given<P, O> = Common & { readonly [Name in keyof P]: PositionalValue<P[Name]> } & {
  readonly [Name in keyof O as Camel<Name & string>]: OptionValue<O[Name]>;
};

/** A command, or a group of them. */
export interface Command {
  readonly name: string;
  /** A plain half-sentence. */
  readonly about: string;
  /** What else a reader of the manual page should know, in sentences. */
  readonly more?: string;
  readonly positionals: Positionals;
  readonly options: Options;
  /** What stands after `--` and is another program's. */
  readonly passesOn?: string;
  /** Command lines without the program's name, and what each does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** Not for people. */
  readonly hidden?: true;
  readonly commands?: readonly Command[];
  /** Undefined for a group. @returns the exit status */
  readonly run?: (given: Readonly<Record<string, unknown>> & Common, passedOn: readonly string[]) => Promise<number>;
}

/** A command whose `run` gets the values by the types that its words and options have. */
export function command<const P extends Positionals = None, const O extends Options = None>(spec: {
  readonly name: string;
  readonly about: string;
  readonly more?: string;
  readonly positionals?: P;
  readonly options?: O;
  readonly passesOn?: string;
  readonly examples: Command['examples'];
  readonly hidden?: true;
  readonly run: (given: Given<P, O>, passedOn: readonly string[]) => Promise<number>;
}): Command {
  // The parser gives what the specs say.
  const { run, positionals = {}, options = {}, ...rest } = spec;
  return { ...rest, positionals, options, run: run as NonNullable<Command['run']> };
}

/** Commands below one word; `options` are for each of them. */
export function group(
  spec: Pick<Command, 'name' | 'about' | 'more' | 'examples'> & {
    readonly options?: Options;
    readonly commands: readonly Command[];
  },
): Command {
  const { options = {}, commands, ...rest } = spec;
  return {
    ...rest,
    ...{ positionals: {}, options: {} },
    commands: commands.map((one) => ({ ...one, options: { ...one.options, ...options } })),
  };
}

/** An option that is given or not. */
export function flag(about: string) {
  return { type: 'flag', about } as const;
}

/** An option with a value. */
export function text<const K extends ValueKind | undefined = undefined>(value: string, about: string, kind?: K) {
  return { type: 'text', value, about, ...(kind !== undefined && { kind }) } as const;
}
