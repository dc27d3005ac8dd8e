/** Asks the admin on a terminal for what the command line left open. */
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { GatewayError } from '../../core/errors.ts';

/** A person at a terminal. Each question throws GatewayError `usage` on ctrl-C or the end of input. */
export interface Terminal {
  /** @param fallback - taken when the answer is empty; without one the question is asked again */
  ask(question: string, fallback?: string): Promise<string>;
  /** Asks without showing the answer; an empty one is asked for again. */
  askSecret(question: string): Promise<string>;
  close(): void;
}

/** The terminal of this process, or undefined when nobody sits there. Questions go to stderr. */
export function openTerminal(): Terminal | undefined {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  let hidden = false;
  const output = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      if (!hidden) process.stderr.write(chunk);
      done();
    },
  });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  const left = new AbortController();
  lines.once('SIGINT', () => {
    left.abort();
  });
  lines.once('close', () => {
    left.abort();
  });
  const question = async (text: string): Promise<string> => {
    try {
      return (await lines.question(text, { signal: left.signal })).trim();
    } catch (error) {
      process.stderr.write('\n');
      throw new GatewayError('usage', { detail: 'nothing was made', cause: error });
    }
  };
  return {
    ask: async (text, fallback) => {
      for (;;) {
        const answer = (await question(`${text}${fallback === undefined ? '' : ` [${fallback}]`}: `)) || fallback;
        if (answer !== undefined) return answer;
      }
    },
    askSecret: async (text) => {
      for (;;) {
        process.stderr.write(`${text}: `);
        hidden = true;
        const answer = await question('').finally(() => {
          hidden = false;
        });
        process.stderr.write('\n');
        if (answer !== '') return answer;
      }
    },
    close: () => {
      lines.close();
    },
  };
}
