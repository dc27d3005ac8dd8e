/** What `--help` prints of a command, and the line that says how it is written. */
import { padded, textWidth, wrapped } from '../text.ts';
import type { Command, OptionSpec } from './command.ts';

/** Options that every command takes. */
export const GLOBAL_OPTIONS = {
  config: {
    ...{ type: 'text', value: 'FILE', short: 'c', kind: 'file' },
    about: 'config file; else $RESTIC_GATEWAY_CONFIG, ./gateway.yaml (not for root), /etc/restic-gateway/gateway.yaml',
  },
  utc: { type: 'flag', about: "times in UTC, printed and given; in this machine's zone unless given" },
  help: { type: 'flag', short: 'h', about: 'show this' },
  version: { type: 'flag', about: 'show the version' },
} as const satisfies Readonly<Record<string, OptionSpec>>;

const PROGRAM = 'restic-gateway';
/** The column at which descriptions begin, unless a name is longer. */
const MOST_NAME = 30;

/** How a command is written: `restic-gateway undo CLIENT [OPTIONS]`. */
export function usageOf({ positionals, options, commands, passesOn }: Command, path: readonly string[]): string {
  const words = [PROGRAM, ...path];
  if (commands !== undefined) words.push('COMMAND');
  for (const [name, { takes }] of Object.entries(positionals)) {
    const word = name.toUpperCase();
    words.push(takes === 'one' ? word : takes === 'optional' ? `[${word}]` : `[${word}…]`);
  }
  for (const [name, spec] of Object.entries(options))
    if (spec.type === 'text' && spec.required === true) words.push(`--${name} ${spec.value}`);
  words.push('[OPTIONS]');
  if (passesOn !== undefined) words.push(`-- ${passesOn}`);
  return words.join(' ');
}

/** An option as it is written: `-q, --quiet`, `    --since TIME`. */
function writtenOption(name: string, spec: OptionSpec): string {
  const negative = spec.type === 'flag' && spec.default === true;
  const value = spec.type === 'flag' ? '' : spec.type === 'text-or-no' ? `[=${spec.value}]` : ` ${spec.value}`;
  return `${spec.short === undefined ? '    ' : `-${spec.short}, `}--${negative ? 'no-' : ''}${name}${value}`;
}

/** An option's description, with what holds where it is not given and what it takes. */
function aboutOption(spec: OptionSpec): string {
  const { about, kind } = spec;
  const notes = [
    typeof kind === 'object' && kind.join(', '),
    spec.type === 'number' && `${spec.default} unless given`,
    spec.type === 'list' && 'may be repeated',
    spec.type === 'text' && spec.required === true && 'needed',
  ].filter((note) => note !== false);
  return notes.length === 0 ? about : `${about} (${notes.join('; ')})`;
}

/** Commands that are for people. */
export function shownCommands({ commands = [] }: Command): readonly Command[] {
  return commands.filter(({ hidden }) => hidden !== true);
}

/** All of a command's help. @param width - columns to fit in */
export function describeCommand(command: Command, path: readonly string[], width: number): string {
  const parts = [
    lines([`usage: ${usageOf(command, path)}`], width),
    lines(
      [
        `${command.about.charAt(0).toUpperCase()}${command.about.slice(1)}.`,
        ...(command.more === undefined ? [] : [command.more]),
      ],
      width,
    ),
  ];
  const section = (title: string, rows: readonly (readonly [string, string])[]): void => {
    if (rows.length > 0) parts.push(`${title}:\n${columns(rows, width)}`);
  };
  section(
    'Words',
    Object.entries(command.positionals).map(([name, { about, kind }]) => [
      name.toUpperCase(),
      typeof kind === 'object' ? `${about} (${kind.join(', ')})` : about,
    ]),
  );
  section(
    'Commands',
    shownCommands(command).map(({ name, about }) => [name, about]),
  );
  section('Options', optionRows(command.options));
  section('Options of every command', optionRows(GLOBAL_OPTIONS));
  if (command.examples.length > 0) {
    const examples = command.examples.flatMap(([line, what]) => [
      `  ${PROGRAM} ${line}`,
      ...wrapped(`      ${what}`, width, '      '),
    ]);
    parts.push(`Examples:\n${examples.map((line) => `${line}\n`).join('')}`);
  }
  if (command.commands !== undefined)
    parts.push(lines([`${[PROGRAM, 'help', ...path].join(' ')} COMMAND says more about one.`], width));
  return parts.join('\n');
}

function optionRows(options: Readonly<Record<string, OptionSpec>>): readonly (readonly [string, string])[] {
  return Object.entries(options).map(([name, spec]) => [writtenOption(name, spec), aboutOption(spec)]);
}

/** Names with their descriptions beside them. */
function columns(rows: readonly (readonly [string, string])[], width: number): string {
  const most = Math.min(MOST_NAME, Math.max(12, Math.floor(width / 2) - 4));
  const names = Math.max(...rows.map(([name]) => textWidth(name)).filter((one) => one <= most), 8);
  const indent = ' '.repeat(names + 4);
  return rows
    .flatMap(([name, about]) => {
      const beside = wrapped(about, width - indent.length).map((line) => indent + line);
      if (textWidth(name) > names) return [`  ${name}`, ...beside];
      return [`  ${padded(name, names)}  ${(beside[0] ?? '').slice(indent.length)}`, ...beside.slice(1)];
    })
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

function lines(all: readonly string[], width: number): string {
  return all
    .flatMap((line) => wrapped(line, width))
    .map((line) => `${line}\n`)
    .join('');
}
