/** One session over real ssh on a gateway's own SSH door, with an HTTP/2 client on its stdin and stdout: what restic makes for each run. */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { lab, sshClientArgs, type KeyFiles } from './lab.ts';
import { resticClient, type ResticClient } from './restic-client.ts';

/** A session that was asked for. */
export interface SshSession extends ResticClient {
  /** The exit status and what was said on stderr, once ssh ends. */
  readonly ended: Promise<{ readonly status: number | null; readonly stderr: string }>;
}

/** Starts ssh. The session may be refused: `ended` tells. */
export function startSshSession(target: {
  readonly port: number;
  readonly key: KeyFiles;
  readonly knownHosts: string;
}): SshSession {
  // One socket both ways, which Node's HTTP/2 uses natively: on two pipes made one by Duplex.from it now and then fails to an assertion of
  // its own (in JSStreamSocket) when ssh goes away in the middle of a write.
  const command = ['exec "$@" <&3 >&3 3>&-', 'sh', lab().ssh, ...sshClientArgs(target), 'restic'];
  const child = spawn('sh', ['-c', ...command], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  const socket = child.stdio[3] as Socket;
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  socket.on('error', () => undefined);
  const client = resticClient(socket);
  return {
    ...client,
    close: () => {
      socket.end();
    },
    ended: new Promise((resolve) => {
      child.on('close', (status) => {
        client.close();
        resolve({ status, stderr });
      });
    }),
  };
}
