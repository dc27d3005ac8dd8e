/** Programs on a terminal of their own, used as a person would. */
import { spawn } from 'node:child_process';

/** A person who waits until something is shown, cursor moves and colours aside, and then types. */
type Step = readonly [shown: RegExp, typed: string];

/** @returns how the program ended, as a shell says it, and all that was shown */
export async function onTerminal(
  command: readonly string[],
  steps: readonly Step[],
): Promise<{ readonly code: number | null; readonly shown: string }> {
  // In place of script's shell: dash for one would end with 130 after a ctrl-C, whatever the program made of it.
  const line = `exec ${command.join(' ')}`;
  const child = spawn('script', ['-qec', line, '/dev/null'], { stdio: 'pipe', timeout: 180_000 });
  const left = [...steps];
  let shown = '';
  let unseen = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    shown += chunk;
    unseen += chunk;
    const [next] = left;
    // eslint-disable-next-line no-control-regex -- what moves the cursor is none of what is read
    if (next === undefined || !next[0].test(unseen.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, ''))) return;
    left.shift();
    unseen = '';
    child.stdin.write(next[1]);
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, shown };
}
