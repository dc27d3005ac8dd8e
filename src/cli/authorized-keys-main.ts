/** The entry of `restic-gateway authorized-keys` alone, which sshd starts at every login. */
import { runAuthorizedKeys } from './authorized-keys.ts';
import { conclude, goOnUnheard } from './conclude.ts';

/** Runs `argv` (without node and script, with the command's name) and ends the process's work with its exit status. */
export async function main([, ...argv]: readonly string[]): Promise<void> {
  goOnUnheard();
  await conclude(() => runAuthorizedKeys(argv));
}
