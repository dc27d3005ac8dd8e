/** The command line: finds the command and runs it. */
import { conclude, goOnUnheard } from './conclude.ts';

/** Runs `argv` (without node and script) and ends the process's work with its exit status. */
export async function main(argv: readonly string[]): Promise<void> {
  // Here stdout is the session, whose end the session itself takes care of.
  if (argv[0] !== 'stdio') goOnUnheard();
  await conclude(() => run(argv));
}

async function run(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  // These have entries of their own (see scripts/build.mjs); here they are for whatever has but one, as the single-file bundle.
  if (command === 'stdio') return (await import('./stdio.ts')).runStdio(rest);
  if (command === 'authorized-keys') return (await import('./authorized-keys.ts')).runAuthorizedKeys(rest);
  if (command === 'authorized-principals') return (await import('./authorized-keys.ts')).runAuthorizedPrincipals(rest);
  return (await import('./command-line/run.ts')).runCommand(argv);
}
