/**
 * The command line: finds the command, runs it, and turns whatever went wrong into one plain line and an exit status.
 *
 * Exit status: 0 good, 1 it failed, 2 wrong use or config.
 */
import { asGatewayError, type GatewayError } from '../core/errors.ts';

/** Runs `argv` (without node and script) and ends the process's work with its exit status. */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    process.exitCode = await run(argv);
  } catch (error) {
    const failure = asGatewayError(error);
    process.stderr.write(`restic-gateway: ${failure.message}\n`);
    if (failure.code === 'internal' && process.env['RESTIC_GATEWAY_DEBUG'] !== undefined)
      process.stderr.write(`${(error as Error).stack ?? ''}\n`);
    process.exitCode = exitStatus(failure);
  }
}

async function run(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  // sshd starts these at every login: they do without the parser of the others.
  if (command === 'stdio') return (await import('./stdio.ts')).runStdio(rest);
  if (command === 'authorized-keys') return (await import('./authorized-keys.ts')).runAuthorizedKeys(rest);
  return (await import('./commands.ts')).runCommand(argv);
}

function exitStatus(failure: GatewayError): number {
  return failure.code === 'invalid-config' || failure.code === 'usage' ? 2 : 1;
}
