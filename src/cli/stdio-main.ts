/** The entry of `restic-gateway stdio` alone, which sshd starts once a connection. */
import { conclude } from './conclude.ts';
import { runStdio } from './stdio.ts';

/** Runs `argv` (without node and script, with the command's name) and ends the process's work with its exit status. */
export async function main([, ...argv]: readonly string[]): Promise<void> {
  await conclude(() => runStdio(argv));
}
