/** Reads a command line by what the commands say of themselves. */
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

function scan(root: Command, argv: readonly string[]): Scanned {
  const end = argv.indexOf('--');
  const own = end < 0 ? argv : argv.slice(0, end);
  const passedOn = end < 0 ? [] : argv.slice(end + 1);
  let found: Found = { command: root, path: [] };
  const words: string[] = [];
  const options = new Map<string, (string | boolean)[]>();
  const note = (name: string, value: string | boolean): void => {
    options.set(name, [...(options.get(name) ?? []), value]);
  };
  for (let at = 0; at < own.length; at++) {
    const arg = own[at] ?? '';
    if (!arg.startsWith('-') || arg === '-') {
      const next = words.length === 0 ? found.command.commands?.find(({ name }) => name === arg) : undefined;
      if (next === undefined) words.push(arg);
      else found = { command: next, path: [...found.path, arg] };
      continue;
    }
    for (const { written, name, spec, value } of optionsIn(arg, found, {
      words,
      rest: [...own.slice(at), ...passedOn],
    })) {
      if (spec.type === 'flag') {
        if (value !== undefined) throw wrong(found, `${written} takes no value`);
        note(name, !written.startsWith('--no-'));
      } else if (spec.type === 'text-or-no' && written.startsWith('--no-')) note(name, false);
      else if (value !== undefined) note(name, value);
      else {
        const next = own[at + 1];
        if (next !== undefined && (!next.startsWith('-') || next === '-')) {
          note(name, next);
          at++;
        } else if (spec.type === 'text-or-no') note(name, '');
        else throw wrong(found, `a value is missing after ${written}: ${written} ${spec.value}`);
      }
    }
  }
  return { found, words, options, passedOn };
}

/** The words before a place of a command line, and all that is from there on. */
interface Around {
  readonly words: readonly string[];
  readonly rest: readonly string[];
}

interface Named {
  /** As it was written, without its value. */
  readonly written: string;
  readonly name: string;
  readonly spec: OptionSpec;
  readonly value: string | undefined;
}

/** The options that one word is: `--since=2h`, `-qn`, `-cFILE`. */
function optionsIn(arg: string, found: Found, around: Around): readonly Named[] {
  const known: Readonly<Record<string, OptionSpec>> = { ...found.command.options, ...GLOBAL_OPTIONS };
  if (arg.startsWith('--')) {
    const [, written = arg, value] = /^([^=]+)(?:=([^]*))?$/.exec(arg) ?? [];
    const bare = written.slice(2);
    const positive = bare.startsWith('no-') ? bare.slice(3) : bare;
    const name = Object.hasOwn(known, bare) ? bare : positive;
    const spec = Object.hasOwn(known, name) ? known[name] : undefined;
    if (spec === undefined || (name !== bare && spec.type !== 'flag' && spec.type !== 'text-or-no'))
      throw unknownOption(written, found, known, around);
    return [{ written, name, spec, value }];
  }
  const named: Named[] = [];
  for (let at = 1; at < arg.length; at++) {
    const letter = arg.charAt(at);
    const [name, spec] = Object.entries(known).find(([, { short }]) => short === letter) ?? [];
    if (name === undefined || spec === undefined) throw unknownOption(`-${letter}`, found, known, around);
    const rest = arg.slice(at + 1).replace(/^=/, '');
    const takesRest = spec.type !== 'flag' && rest !== '';
    named.push({ written: `-${letter}`, name, spec, value: takesRest ? rest : undefined });
    if (takesRest) break;
  }
  return named;
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

function unknownOption(
  written: string,
  found: Found,
  known: Readonly<Record<string, OptionSpec>>,
  { words, rest }: Around,
): UsageError {
  const own = Object.keys(found.command.positionals).length;
  if (found.command.passesOn !== undefined && words.length >= own)
    return needsDashes(found, [...words.slice(own), ...rest], words.slice(0, own));
  const names = Object.keys(known).map((name) => `--${name}`);
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
