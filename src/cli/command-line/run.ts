/** Runs one command line. */
import { PROGRAM } from '../commands.ts';
import { terminalWidth } from '../terminal.ts';
import { VERSION } from '../version.ts';
import { describeCommand, usageOf } from './help.ts';
import { findCommand, parse, type Found } from './parse.ts';
import { UsageError } from './usage-error.ts';

/** @returns the exit status @throws UsageError, and whatever the command throws */
export async function runCommand(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === 'help') return help(findCommand(PROGRAM, rest));
  if (first === 'version') return version();
  const asked = parse(PROGRAM, argv);
  switch (asked.do) {
    case 'help':
      return help(asked.found);
    case 'version':
      return version();
    case 'run': {
      const { found, given, passedOn } = asked;
      // Node goes by it for all that it knows of local time, and so do the programs that are started.
      if (given['utc'] === true) process.env['TZ'] = 'UTC';
      try {
        return (await found.command.run?.(given, passedOn)) ?? 0;
      } catch (error) {
        // What a command finds wrong with how it was called, it says without knowing its own words.
        if (!(error instanceof UsageError) || error.usage !== undefined) throw error;
        throw new UsageError(error.message, usageOf(found.command, found.path));
      }
    }
  }
}

function help({ command, path }: Found): number {
  process.stdout.write(describeCommand(command, path, Math.min(100, terminalWidth(process.stdout) ?? 100)));
  return 0;
}

function version(): number {
  process.stdout.write(`${VERSION}\n`);
  return 0;
}
