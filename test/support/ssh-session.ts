/** One session over real ssh on a gateway's own SSH door, with an HTTP/2 client on the pipes: what restic makes for each run. */
import { spawn } from 'node:child_process';
import { Duplex } from 'node:stream';
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
  const child = spawn(lab().ssh, [...sshClientArgs(target), 'restic'], { stdio: 'pipe' });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  const client = resticClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  return {
    ...client,
    close: () => {
      child.stdin.end();
    },
    ended: new Promise((resolve) => {
      child.on('close', (status) => {
        client.close();
        resolve({ status, stderr });
      });
    }),
  };
}
