/** What a shell offers for the word at the cursor. It must be quick, and never fail: where something cannot be read, nothing is offered. */
import { chooseConfigFile, goOnAsUser } from '../own-user.ts';
import type { Candidate } from './complete-from-records.ts';
import type { Command, OptionSpec, ValueKind } from './command.ts';
import { GLOBAL_OPTIONS, shownCommands } from './help.ts';

/** What is offered: words, or the names of files, which the shell itself knows best. */
export type Offer =
  { readonly files: 'file' | 'directory' } | { readonly files?: never; readonly candidates: readonly Candidate[] };

/** The state of a command line up to the word at the cursor. */
interface Line {
  readonly command: Command;
  readonly words: readonly string[];
  readonly given: ReadonlyMap<string, string>;
  /** The option whose value the word at the cursor is. */
  readonly pending: readonly [string, OptionSpec] | undefined;
  readonly passedOn: boolean;
}

/** @param argv - the words after the program's name; the last one is at the cursor, and may be empty */
export async function complete(program: Command, argv: readonly string[]): Promise<Offer> {
  const current = argv.at(-1) ?? '';
  const before = argv.slice(0, -1);
  // `help` takes the words of commands.
  const helped = before[0] === 'help';
  const line = readLine(program, helped ? before.slice(1) : before);
  const { command, words, pending, passedOn } = line;
  if (passedOn) return { files: 'file' };
  if (pending !== undefined) return offer(await valuesOf(pending[1].kind, line), current);
  const inline = /^(--[a-z0-9-]+=)([^]*)$/.exec(current);
  if (inline !== null) {
    const [, written = '', value = ''] = inline;
    const spec = optionsOf(command)[written.slice(2, -1)];
    const found = offer(await valuesOf(spec?.kind, line), value);
    return found.files === undefined
      ? { candidates: found.candidates.map(({ word, about }) => ({ word: written + word, about })) }
      : found;
  }
  if (current.startsWith('-')) return offer(optionWords(line), current);
  if (command.commands !== undefined) {
    if (words.length > 0) return { candidates: [] };
    const commands = shownCommands(command).map(({ name, about }) => ({ word: name, about }));
    const own = [
      { word: 'help', about: 'say more about a command' },
      { word: 'version', about: 'show the version' },
    ];
    return offer(command === program && !helped ? [...commands, ...own] : commands, current);
  }
  if (helped) return { candidates: [] };
  const specs = Object.values(command.positionals);
  const spec = specs[words.length] ?? (specs.at(-1)?.takes === 'rest' ? specs.at(-1) : undefined);
  if (spec === undefined) return offer(optionWords(line), current);
  return offer(await valuesOf(spec.kind, line), current);
}

function readLine(program: Command, argv: readonly string[]): Line {
  let command = program;
  let pending: readonly [string, OptionSpec] | undefined;
  const words: string[] = [];
  const given = new Map<string, string>();
  for (const word of argv) {
    if (pending !== undefined) {
      given.set(pending[0], word);
      pending = undefined;
    } else if (word === '--') return { command, words, given, pending, passedOn: true };
    else if (word.startsWith('-') && word !== '-') {
      const [, name = '', value] = /^--?(?:no-)?([^=]+)(?:=([^]*))?$/.exec(word) ?? [];
      const known = optionsOf(command);
      const found = Object.entries(known).find(([one, { short }]) => (word.startsWith('--') ? one : short) === name);
      given.set(found?.[0] ?? name, value ?? '');
      if (found !== undefined && value === undefined && found[1].type !== 'flag' && found[1].type !== 'text-or-no')
        pending = found;
    } else {
      const next: Command | undefined =
        words.length === 0 ? command.commands?.find(({ name }) => name === word) : undefined;
      if (next === undefined) words.push(word);
      else command = next;
    }
  }
  return { command, words, given, pending, passedOn: false };
}

function optionsOf(command: Command): Readonly<Record<string, OptionSpec>> {
  return { ...command.options, ...GLOBAL_OPTIONS };
}

function optionWords({ command, given }: Line): readonly Candidate[] {
  return Object.entries(optionsOf(command)).flatMap(([name, spec]) => {
    if (given.has(name) && spec.type !== 'list') return [];
    const { about } = spec;
    if (spec.type === 'text-or-no') return [`--${name}`, `--no-${name}`].map((word) => ({ word, about }));
    return [{ word: spec.type === 'flag' && spec.default === true ? `--no-${name}` : `--${name}`, about }];
  });
}

/** What a value may be: words as they stand, a kind of file, or undefined where nothing is known of it. */
type Known = readonly (Candidate | string)[] | 'file' | 'directory' | undefined;

function offer(known: Known, current: string): Offer {
  if (known === 'file' || known === 'directory') return { files: known };
  const candidates = (known ?? []).map((one) => (typeof one === 'string' ? { word: one, about: '' } : one));
  // A shell would take other characters apart, or for something to run.
  return { candidates: candidates.filter(({ word }) => word.startsWith(current) && /^[\w@%+=:,./-]+$/.test(word)) };
}

async function valuesOf(kind: ValueKind | undefined, line: Line): Promise<Known> {
  if (kind === undefined || typeof kind === 'object') return kind;
  if (kind === 'file' || kind === 'directory') return kind;
  if (kind === 'event') return (await import('../../audit/fields.ts')).EVENT_KINDS;
  const file = line.given.get('config');
  const { loadConfig } = await import('../../config/load.ts');
  const config = loadConfig(
    chooseConfigFile(file === undefined ? undefined : file.replace(/^~(?=\/)/, process.env['HOME'] ?? '~')),
  );
  const clients = Object.values(config.clients);
  const [first = ''] = line.words;
  switch (kind) {
    case 'client':
      return clients.map(({ name, repository: { store, prefix } }) => ({
        word: name,
        about: `store ${store}, prefix ${prefix}`,
      }));
    case 'store':
      return Object.values(config.stores).map(({ name, type }) => ({ word: name, about: type }));
    case 'target':
      return Object.values(config.notify).map(({ name, channel: { type } }) => ({ word: name, about: type }));
    case 'fingerprint':
      return clients
        .filter(({ name }) => name === first)
        .flatMap(({ keys }) => keys.map(({ fingerprint, comment }) => ({ word: fingerprint, about: comment })));
    case 'session':
      await goOnAsUser(config);
      return (await import('./complete-from-records.ts')).newestSessions(config, line.given.get('client') ?? first);
    case 'undo':
      await goOnAsUser(config);
      return (await import('./complete-from-records.ts')).quarantinesOf(config, first);
  }
}
