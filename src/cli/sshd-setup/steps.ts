/** Changes to this machine that are known before they are made, and can all be taken back. */
import { spawnSync } from 'node:child_process';
import { GatewayError } from '../../core/errors.ts';
import { SYSTEM_PATH } from '../account.ts';

/** One change. */
export interface Step {
  /** What it does, as an admin would say it: `make the user backup`. */
  readonly what: string;
  /** @throws when it cannot be done */
  readonly run: () => void;
  /** Takes back what was done of it. */
  readonly undo: () => void;
}

/** The steps that were done, to be taken back, the last first. */
interface Done {
  readonly run: (step: Step) => void;
  /** @returns what could not be taken back */
  readonly undo: () => readonly string[];
}

/** Begins with nothing done. */
export function stepsDone(): Done {
  const done: Step[] = [];
  return {
    run: (step) => {
      // One that fails may have been done by half.
      done.push(step);
      step.run();
    },
    undo: () =>
      done
        .splice(0)
        .reverse()
        .flatMap(({ what, undo }) => {
          try {
            undo();
            return [];
          } catch {
            return [what];
          }
        }),
  };
}

/** Runs one of the system's own programs. @throws GatewayError with what it says on stderr */
export function runSystem(program: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { PATH: SYSTEM_PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status === 0) return;
  const said = error?.message ?? stderr.trim();
  throw new GatewayError('usage', { detail: `${program} ${args.join(' ')} failed: ${said}` });
}
