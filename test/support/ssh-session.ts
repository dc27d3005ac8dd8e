/** One session over real ssh on a gateway's own SSH server, with an HTTP/2 client on its stdin and stdout: what restic makes for each run. */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { lab, sshClientArgs, type KeyFiles } from './lab.ts';
import { resticClient, type ResticClient } from './restic-client.ts';

/** A session that was asked for. */
export interface SshSession extends ResticClient {
  /** The exit status and what was said on stderr, once ssh ends. */
  readonly ended: Promise<{ readonly status: number | null; readonly stderr: string }>;
}

interface Target {
  readonly port: number;
  readonly key: KeyFiles;
  readonly knownHosts: string;
}

/** Starts ssh. The session may be refused: `ended` tells. */
export function startSshSession(target: Target): SshSession {
  return speakOn(startSshSocket(target));
}

/** Starts what restic has as its rclone.program, words without quotes. */
export function startProgram(program: string): SshSession {
  return speakOn(startOnSocket(program.split(' ')));
}

function speakOn({ socket, ended }: SshSocket): SshSession {
  const client = resticClient(socket);
  void ended.then(() => {
    client.close();
  });
  return {
    ...client,
    close: () => {
      socket.end();
    },
    ended,
  };
}

/** Starts ssh and leaves it to the caller what is sent through it. */
export function startSshSocket(target: Target): SshSocket {
  return startOnSocket([lab().ssh, ...sshClientArgs(target)]);
}

interface SshSocket {
  readonly socket: Socket;
  readonly ended: SshSession['ended'];
}

function startOnSocket(words: readonly string[]): SshSocket {
  // One socket both ways, which Node's HTTP/2 uses natively: on two pipes made one by Duplex.from it now and then fails to an assertion of
  // its own (in JSStreamSocket) when ssh goes away in the middle of a write.
  const command = ['exec "$@" <&3 >&3 3>&-', 'sh', ...words, 'restic'];
  const child = spawn('sh', ['-c', ...command], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  const socket = child.stdio[3] as Socket;
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  socket.on('error', () => undefined);
  return {
    socket,
    ended: new Promise((resolve) => {
      child.on('close', (status) => {
        resolve({ status, stderr });
      });
    }),
  };
}
