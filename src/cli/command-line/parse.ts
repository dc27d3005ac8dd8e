/** Reads a command line by what the commands say of themselves. */
import yargs, { type Argv } from 'yargs';
import { didYouMean } from '../../config/problems.ts';
import { shellQuote } from '../../frontends/authorized-keys.ts';
import type { Command, Common, OptionSpec, ValueKind } from './command.ts';
import { GLOBAL_OPTIONS, usageOf } from './help.ts';
import { UsageError } from './usage-error.ts';

/** A command with the words that lead to it, the program's own command among them: `audit show`. */
export interface Found {
  readonly command: Command;
  readonly path: readonly string[];
}

/** What a command line asks for. */
type Asked =
  | { readonly do: 'help'; readonly found: Found }
  | { readonly do: 'version' }
  | {
      readonly do: 'run';
      readonly found: Found;
      readonly given: Readonly<Record<string, unknown>> & Common;
      readonly passedOn: readonly string[];
    };

/** A command line cut up: words, and options with their values. What stands after `--` is kept apart. */
interface Scanned {
  readonly found: Found;
  readonly words: readonly string[];
  readonly options: ReadonlyMap<string, readonly (string | boolean)[]>;
  readonly passedOn: readonly string[];
}

/** @param root - the program: its commands. @throws UsageError */
export function parse(root: Command, argv: readonly string[]): Asked {
  const scanned = scan(root, argv);
  const { found, words, options } = scanned;
  if (options.has('help')) return { do: 'help', found };
  if (options.has('version')) return { do: 'version' };
  const { command } = found;
  if (command.run === undefined) throw noCommand(found, words);
  const given: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries({ ...GLOBAL_OPTIONS, ...command.options }))
    given[camel(name)] = valueOf(found, name, spec, options.get(name) ?? []);
  takeWords(scanned, given);
  return { do: 'run', found, given: given as Record<string, unknown> & Common, passedOn: scanned.passedOn };
}

/** The command that words lead to. @throws UsageError */
export function findCommand(root: Command, words: readonly string[]): Found {
  let found: Found = { command: root, path: [] };
  for (const word of words) {
    const next = found.command.commands?.find(({ name }) => name === word);
    if (next === undefined) throw noCommand(found, [word]);
    found = { command: next, path: [...found.path, word] };
  }
  return found;
}

/** Options and their values by yargs; what they may be, and how it is said when they may not, is ours. */
function scan(root: Command, argv: readonly string[]): Scanned {
  const end = argv.indexOf('--');
  const own = end < 0 ? argv : argv.slice(0, end);
  const passedOn = end < 0 ? [] : argv.slice(end + 1);
  let found: Found = { command: root, path: [] };
  const declare = (args: Argv, here: Found): Argv => {
    found = here;
    for (const [name, { type, short }] of Object.entries(optionsOf(here)))
      args.option(name, { type: type === 'flag' ? 'boolean' : 'string', ...(short !== undefined && { alias: short }) });
    for (const command of here.command.commands ?? [])
      args.command(
        command.name,
        false,
        (below) => declare(below, { command, path: [...here.path, command.name] }),
        () => undefined,
      );
    return args;
  };
  const parsed = declare(
    yargs([...own])
      .help(false)
      .version(false),
    found,
  )
    .parserConfiguration({
      'boolean-negation': true,
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'unknown-options-as-args': true,
    })
    .exitProcess(false)
    .fail(false)
    .parseSync() as Readonly<Record<string, unknown>> & { readonly _: readonly (string | number)[] };
  const words = parsed._.slice(found.path.length).map(String);
  const known = optionsOf(found);
  const stray = words.findIndex((each) => each.startsWith('-') && each !== '-');
  if (stray >= 0) throw unknownOption(words, stray, found, passedOn);
  const options = new Map<string, readonly (string | boolean)[]>();
  for (const [name, spec] of Object.entries(known)) {
    const values = [parsed[name] ?? []].flat() as (string | boolean)[];
    if (spec.type === 'flag' && own.some((each) => each.startsWith(`--${name}=`)))
      throw wrong(found, `--${name} takes no value`);
    // What yargs makes of `--no-NAME`, for any option.
    if (spec.type !== 'flag' && spec.type !== 'text-or-no' && values.includes(false))
      throw unknownOption([`--no-${name}`], 0, found, passedOn);
    if (spec.type !== 'flag' && spec.type !== 'text-or-no' && values.includes(''))
      throw wrong(found, `a value is missing after --${name}: --${name} ${spec.value}`);
    if (values.length > 0) options.set(name, values);
  }
  return { found, words, options, passedOn };
}

function optionsOf({ command }: Found): Readonly<Record<string, OptionSpec>> {
  return { ...command.options, ...GLOBAL_OPTIONS };
}

function valueOf(
  found: Found,
  name: string,
  spec: OptionSpec,
  values: readonly (string | boolean)[],
): string | number | boolean | readonly string[] | undefined {
  if (spec.type === 'list') {
    for (const value of values) mustBeKnown(found, `--${name}`, spec.kind, String(value));
    return values.map(String);
  }
  const last = values.at(-1);
  if (spec.type === 'flag') return last === undefined ? spec.default === true : last === true;
  if (values.length > 1) throw wrong(found, `--${name} is given more than once`);
  if (last === undefined) {
    if (spec.type === 'text' && spec.required === true) throw wrong(found, `--${name} ${spec.value} is missing`);
    return spec.type === 'number' ? spec.default : undefined;
  }
  if (typeof last === 'boolean') return last;
  if (spec.type === 'number') {
    if (!/^\d+(\.\d+)?$/.test(last)) throw wrong(found, `--${name} must be a number`);
    return Number(last);
  }
  mustBeKnown(found, `--${name}`, spec.kind, last);
  return last;
}

function mustBeKnown(found: Found, what: string, kind: ValueKind | undefined, value: string): void {
  if (kind === undefined || typeof kind === 'string' || kind.includes(value)) return;
  throw wrong(found, `${what} must be ${listed(kind)}${didYouMean(value, kind)}`);
}

function takeWords({ found, words, passedOn }: Scanned, given: Record<string, unknown>): void {
  const { command } = found;
  let at = 0;
  for (const [name, { takes, kind }] of Object.entries(command.positionals)) {
    if (takes === 'rest') {
      given[name] = words.slice(at);
      at = words.length;
      continue;
    }
    const word = words[at++];
    if (word === undefined && takes === 'one') throw wrong(found, `${name.toUpperCase()} is missing`);
    if (word !== undefined) mustBeKnown(found, name.toUpperCase(), kind, word);
    given[name] = word;
  }
  const stray = words[at];
  if (stray !== undefined)
    throw command.passesOn === undefined
      ? wrong(found, `${word(stray)} is one word too many`)
      : needsDashes(found, [...words.slice(at), ...passedOn], words.slice(0, at));
  if (passedOn.length > 0 && command.passesOn === undefined)
    throw wrong(found, `nothing can stand after -- here: ${word(passedOn[0] ?? '')} is one word too many`);
}

function noCommand({ command, path }: Found, [word_]: readonly string[]): UsageError {
  const commands = (command.commands ?? []).filter(({ hidden }) => hidden !== true).map(({ name }) => name);
  const of = path.length === 0 ? '' : ` ${path.join(' ')}`;
  if (word_ === undefined)
    return wrong(
      { command, path },
      path.length === 0 ? 'COMMAND is missing' : `COMMAND is missing: say ${listed(commands)}`,
    );
  const meant = didYouMean(word_, commands);
  const others = path.length > 0 && meant === '' ? `; there are: ${commands.join(', ')}` : meant;
  return wrong({ command, path }, `there is no command${of} ${word(word_)}${others}`);
}

/** @param at - which of the words is the option that nobody knows */
function unknownOption(words: readonly string[], at: number, found: Found, passedOn: readonly string[]): UsageError {
  const own = Object.keys(found.command.positionals).length;
  if (found.command.passesOn !== undefined && at >= own)
    return needsDashes(found, [...words.slice(own), ...passedOn], words.slice(0, own));
  const [written = ''] = (words[at] ?? '').split('=', 1);
  const names = Object.keys(optionsOf(found)).map((name) => `--${name}`);
  const of =
    found.path.length === 0 ? 'an option that stands before the command' : `an option of ${found.path.join(' ')}`;
  return wrong(found, `${word(written)} is not ${of}${didYouMean(written, names)}`);
}

function needsDashes(found: Found, rest: readonly string[], words: readonly string[]): UsageError {
  const line = ['restic-gateway', ...found.path, ...words, '--', ...rest].map(shellQuote);
  return wrong(found, `${found.command.passesOn ?? ''} stand after --: ${line.join(' ')}`);
}

function wrong({ command, path }: Found, detail: string): UsageError {
  return new UsageError(detail, usageOf(command, path));
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1) ?? ''}`;
}

/** A word of the command line in an error: what is long is no name. */
function word(text: string): string {
  return text.length > 64 ? `${text.slice(0, 63)}…` : text;
}

function camel(name: string): string {
  return name.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase());
}
