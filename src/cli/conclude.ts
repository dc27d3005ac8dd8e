/**
 * How every command ends: whatever went wrong becomes one plain line and an exit status.
 *
 * Exit status: 0 good, 1 it failed, 2 wrong use or config; as a plugin of Nagios, 3.
 */
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { printableLines } from '../core/printable.ts';
import { sayError } from './failure.ts';
import { saysOwn } from './own-words.ts';

/** Runs a command and ends the process's work with its exit status. */
export async function conclude(command: () => number | Promise<number>): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    const failure = asGatewayError(outOfFiles(error) ?? error);
    // Of a plugin, 1 and 2 say how the clients are, and stdout is all that is read.
    if (saysOwn('status') && saysOwn('--nagios')) {
      process.exitCode = (await import('./nagios.ts')).unknownToNagios(failure);
      return;
    }
    sayError(failure);
    if (failure.code === 'internal' && process.env['RESTIC_GATEWAY_DEBUG'] !== undefined)
      process.stderr.write(`${printableLines((error as Error).stack ?? '')}\n`);
    process.exitCode = exitStatus(failure);
  }
}

/**
 * Lets whoever reads what is printed stop reading (`… | head`): the command does what it was called for, prints no more, and ends as it
 * would have. What cannot be written for another reason, as on a full disk, makes it fail.
 */
export function goOnUnheard(): void {
  const failed = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EPIPE' || error.code === 'EIO' || error.code === 'ERR_STREAM_DESTROYED') return;
    const { exitCode } = process;
    process.exitCode = exitCode === undefined || exitCode === 0 ? 1 : exitCode;
    if (!isTold)
      process.stderr.write(`restic-gateway: the output cannot be written: ${printableLines(error.message)}\n`);
    isTold = true;
  };
  let isTold = false;
  for (const stream of [process.stdout, process.stderr]) stream.on('error', failed);
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
