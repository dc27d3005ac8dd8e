/** `restic-gateway completion SHELL`, and `complete`, which the printed scripts ask at each TAB. */
import { printable } from '../core/printable.ts';
import type { Command } from './command-line/command.ts';
import { complete, type Offer } from './command-line/complete.ts';
import { BASH, FISH, ZSH } from './completion-scripts.ts';

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

/** After so long a shell is told that there is nothing, in ms. */
const PATIENCE_MS = 3000;

/** Prints the script of a shell; by SHELL unless one is named. @returns the exit status */
export function runCompletion(shell: string | undefined): number {
  const named = shell ?? (process.env['SHELL'] ?? '').replace(/^.*\//, '');
  process.stdout.write(SCRIPTS[named] ?? BASH);
  return 0;
}

/**
 * Prints what the shell is to offer: a line that says of what kind it is (`words`, `files`, `directories`), and for words a line each.
 * @param argv - the words of the command line up to the cursor, without the program's name; for bash the line itself, as it breaks words
 * @returns 0, always: a shell shows what goes wrong in the middle of a line
 */
export async function runComplete(program: Command, shell: string, argv: readonly string[]): Promise<number> {
  setTimeout(() => process.exit(0), PATIENCE_MS).unref();
  const [line = '', breaks = ''] = argv;
  const words = shell === 'bash' ? wordsOf(line).slice(1) : argv;
  let offer: Offer;
  try {
    offer = await complete(program, words);
  } catch {
    return 0;
  }
  if (offer.files !== undefined) process.stdout.write(offer.files === 'file' ? 'files\n' : 'directories\n');
  else {
    // bash replaces only what stands after the last character at which it breaks words.
    const current = words.at(-1) ?? '';
    const kept =
      shell === 'bash'
        ? Math.max(-1, ...[':', '='].map((one) => (breaks.includes(one) ? current.lastIndexOf(one) : -1))) + 1
        : 0;
    const lines = offer.candidates.map(({ word, about }) => {
      const rest = word.slice(kept);
      return shell === 'bash' || about === '' ? rest : `${rest}\t${printable(about)}`;
    });
    process.stdout.write(['words', ...lines].map((one) => `${one}\n`).join(''));
  }
  return 0;
}

/** The words of a line that is being typed, quotes and backslashes taken away; the last is the one at the cursor. */
function wordsOf(line: string): readonly string[] {
  const words = [''];
  let quote = '';
  let isBlank = true;
  const add = (text: string): void => {
    words.push(`${words.pop() ?? ''}${text}`);
    isBlank = false;
  };
  for (let at = 0; at < line.length; at++) {
    const character = line.charAt(at);
    if (quote !== '') {
      if (character === quote) quote = '';
      else add(character);
    } else if (character === '\\') add(line.charAt(++at));
    else if (character === "'" || character === '"') {
      quote = character;
      isBlank = false;
    } else if (/\s/.test(character)) {
      if (!isBlank) words.push('');
      isBlank = true;
    } else add(character);
  }
  return words;
}
