/** The entry of `restic-gateway authorized-keys` and `authorized-principals` alone, which sshd starts at every login. */
import { runAuthorizedKeys, runAuthorizedPrincipals } from './authorized-keys.ts';
import { conclude, goOnUnheard } from './conclude.ts';

/** Runs `argv` (without node and script, with the command's name) and ends the process's work with its exit status. */
export async function main([command, ...argv]: readonly string[]): Promise<void> {
  goOnUnheard();
  await conclude(() => (command === 'authorized-principals' ? runAuthorizedPrincipals(argv) : runAuthorizedKeys(argv)));
}
