/**
 * How every command ends: whatever went wrong becomes one plain line and an exit status.
 *
 * Exit status: 0 good, 1 it failed, 2 wrong use or config.
 */
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { printableLines } from '../core/printable.ts';

/** Runs a command and ends the process's work with its exit status. */
export async function conclude(command: () => number | Promise<number>): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    const failure = asGatewayError(outOfFiles(error) ?? error);
    process.stderr.write(`restic-gateway: ${printableLines(failure.message)}\n`);
    if (failure.code === 'internal' && process.env['RESTIC_GATEWAY_DEBUG'] !== undefined)
      process.stderr.write(`${printableLines((error as Error).stack ?? '')}\n`);
    process.exitCode = exitStatus(failure);
  }
}

/** What a limit on open files that is too low even for the program's own files is told as. */
function outOfFiles(error: unknown): GatewayError | undefined {
  const code = (error as NodeJS.ErrnoException | null | undefined)?.code;
  if (code !== 'EMFILE' && code !== 'ENFILE') return undefined;
  return new GatewayError('usage', {
    detail: 'too many files are open; raise the limit on open files (ulimit -n, LimitNOFILE=)',
    cause: error,
  });
}

function exitStatus(failure: GatewayError): number {
  return failure.code === 'invalid-config' || failure.code === 'usage' ? 2 : 1;
}
