/** The `stdio` command as a child process, with an HTTP/2 client on its pipes: a forced command without the sshd around it. */
import { spawn } from 'node:child_process';
import { Duplex } from 'node:stream';
import { GATEWAY } from './gateway-process.ts';
import { resticClient, type ResticClient } from './restic-client.ts';

/** A forced command that runs. */
export interface StdioClient extends ResticClient {
  /** Ends its input, as restic does at the end of a run. */
  end(): void;
  /** Kills its process. */
  kill(): void;
  /** Its exit status and what it said on stderr, once it ends. */
  readonly exited: Promise<{ readonly status: number | null; readonly stderr: string }>;
}

/** Starts `restic-gateway stdio ARGS`. @param within - a command that runs it, such as prlimit */
export function startStdio(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  within: readonly string[] = [],
): StdioClient {
  const command = [...within, process.execPath, GATEWAY, 'stdio', ...args];
  const child = spawn(command[0] ?? '', command.slice(1), {
    env: { PATH: process.env['PATH'], ...env },
    stdio: 'pipe',
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  const client = resticClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  return {
    ...client,
    end: () => {
      child.stdin.end();
    },
    kill: () => {
      child.kill('SIGKILL');
    },
    exited: new Promise((resolve) => {
      child.on('close', (status) => {
        client.close();
        resolve({ status, stderr });
      });
    }),
  };
}
