/**
 * The forced-command door: one client on stdin and stdout, already authenticated by sshd.
 *
 * Source: sshd(8) and sshd_config(5): SSH_CONNECTION, SSH_ORIGINAL_COMMAND, and SSH_USER_AUTH where ExposeAuthInfo is on.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import type { Door, Principal } from '../core/principal.ts';
import { asGatewayError } from '../core/errors.ts';
import type { OpenSession } from '../ports/sessions.ts';

/** What the door needs of its process. */
export interface ForcedCommand {
  /** The client's name, as the forced command gives it. */
  readonly client: string;
  readonly door: Extract<Door, 'stdio' | 'admin'>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stream: Duplex;
  /** Says one line to the person at the client. */
  readonly tell: (line: string) => void;
  readonly openSession: OpenSession;
}

/**
 * Serves until the input ends.
 * @returns the exit status: 0 when the client ended the session, else 1
 */
export async function serveForcedCommand(command: ForcedCommand): Promise<number> {
  const { stream, tell, openSession } = command;
  try {
    const session = await openSession({
      principal: principalOf(command),
      stream,
      tell,
      ending: () => undefined,
    });
    return (await session.ended) === 'client-ended' ? 0 : 1;
  } catch (error) {
    const failure = asGatewayError(error);
    tell(failure.code === 'session-refused' ? failure.message : `${failure.tell}.`);
    return 1;
  } finally {
    // An open input would keep the process, and with it the client, waiting.
    stream.destroy();
  }
}

function principalOf({ client, door, environment }: ForcedCommand): Principal {
  const [from, fromPort] = (environment['SSH_CONNECTION'] ?? '').split(' ');
  const key = fingerprintOf(environment['SSH_USER_AUTH']);
  const user = environment['LOGNAME'] ?? environment['USER'];
  const asked = environment['SSH_ORIGINAL_COMMAND'];
  return {
    client,
    door,
    ...(key === undefined ? {} : { key }),
    ...(from === undefined || from === '' ? {} : { from }),
    ...(fromPort === undefined ? {} : { fromPort: Number(fromPort) }),
    ...(user === undefined ? {} : { user }),
    ...(asked === undefined ? {} : { command: asked }),
  };
}

/** The key that sshd accepted, from the file that ExposeAuthInfo makes: a line `publickey TYPE BLOB`. */
function fingerprintOf(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    const line = readFileSync(file, 'utf8')
      .split('\n')
      .find((each) => each.startsWith('publickey '));
    const blob = line?.split(' ')[2];
    if (blob === undefined) return undefined;
    return `SHA256:${createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=+$/, '')}`;
  } catch {
    // The file is sshd's; without it the session is as good, its audit one field poorer.
    return undefined;
  }
}
