/** How what went wrong is told on stderr: in a line for people, or as JSON where the command line says `--json`. */
import type { Problem } from '../config/problems.ts';
import { asGatewayError } from '../core/errors.ts';
import { printable, printableJson, printableLines } from '../core/printable.ts';
import { isJournal, journalLines } from './journal.ts';
import { saysOwn } from './own-words.ts';

let makeRoom: () => void = () => undefined;

/** Has this done before anything is said: a line of progress stands where it is to be. */
export function beforeWords(does: () => void): void {
  makeRoom = does;
}

/** What makes a command fail, or a part of it. @param client - whose part that was */
export function sayError(error: unknown, client?: string): void {
  makeRoom();
  const failure: { readonly usage?: unknown; readonly problems?: unknown } & ReturnType<typeof asGatewayError> =
    asGatewayError(error);
  const { code, message } = failure;
  const usage = typeof failure.usage === 'string' ? failure.usage : undefined;
  const problems = failure.problems as readonly Problem[] | undefined;
  if (saysOwn('--json')) {
    const told = {
      code,
      message,
      ...(client !== undefined && { client }),
      ...(usage && { usage }),
      ...(problems && { problems }),
    };
    process.stderr.write(line('error', told));
    return;
  }
  const words = `restic-gateway: ${client === undefined ? '' : `${printable(client)}: `}${printableLines(message)}`;
  process.stderr.write(`${isJournal() ? journalLines('error', words) : words}\n`);
  if (usage !== undefined) process.stderr.write(`usage: ${usage}; --help says more\n`);
}

/** What a person should know, and changes no exit status. @param prefix - before the line for people */
export function sayWarning(message: string, prefix = 'restic-gateway: '): void {
  makeRoom();
  const words = `${prefix}${printable(message)}`;
  const plain = isJournal() ? journalLines('warn', words) : words;
  process.stderr.write(saysOwn('--json') ? line('warning', { message }) : `${plain}\n`);
}

/** As in json.ts, which the forced command does not load. */
function line(kind: 'error' | 'warning', value: object): string {
  return `${printableJson(JSON.stringify({ v: 1, kind, ...value }))}\n`;
}
