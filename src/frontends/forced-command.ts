/**
 * The forced command: one client on stdin and stdout, already authenticated by sshd.
 *
 * Source: sshd(8) and sshd_config(5): SSH_CONNECTION, SSH_ORIGINAL_COMMAND, and SSH_USER_AUTH where ExposeAuthInfo is on.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fingerprintOf } from '../config/fingerprint.ts';
import type { Via, Principal } from '../core/principal.ts';
import { asGatewayError } from '../core/errors.ts';
import { certifiedBy, isCertificateType, readCertificate } from '../core/ssh-certificate.ts';
import { HEARD_MS } from './heard.ts';
import type { HoldRequest, OpenSession } from '../ports/sessions.ts';

/** What the server needs of its process. */
interface ForcedCommand {
  /** The client's name, as the forced command gives it. */
  readonly client: string;
  readonly via: Extract<Via, 'stdio' | 'admin'>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stream: Duplex;
  /** Says one line to the person at the client. */
  readonly notify: (line: string) => void;
  readonly openSession: OpenSession;
  /** As `SessionRequest.hold`. */
  readonly hold?: HoldRequest | undefined;
  /** As `SessionRequest.overrideProtect`. */
  readonly overrideProtect?: boolean | undefined;
}

/**
 * Serves until the input ends.
 * @returns the exit status: 0 when the client ended the session, else 1
 */
export async function serveForcedCommand(command: ForcedCommand): Promise<number> {
  const { stream, notify, openSession, hold, overrideProtect } = command;
  try {
    const session = await openSession({
      principal: principalOf(command),
      stream,
      notify,
      ending: () => undefined,
      hold,
      overrideProtect,
    });
    return (await session.ended) === 'client-ended' ? 0 : 1;
  } catch (error) {
    const failure = asGatewayError(error);
    notify(failure.code === 'session-refused' ? failure.message : `${failure.clientMessage}.`);
    await sleep(HEARD_MS);
    return 1;
  } finally {
    // An open input would keep the process, and with it the client, waiting.
    stream.destroy();
  }
}

function principalOf({ client, via, environment }: ForcedCommand): Principal {
  const [from, fromPort] = (environment['SSH_CONNECTION'] ?? '').split(' ');
  const { key, keyType, certificate } = keyOf(environment['SSH_USER_AUTH']);
  // The line that we print gives each variable, and empty where sshd has set none.
  const user = environment['LOGNAME'] || environment['USER'] || undefined;
  const asked = environment['SSH_ORIGINAL_COMMAND'] || undefined;
  return {
    client,
    via,
    ...(key === undefined ? {} : { key }),
    ...(keyType === undefined ? {} : { keyType }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(from === undefined || from === '' ? {} : { from }),
    ...(fromPort === undefined || fromPort === '' ? {} : { fromPort: Number(fromPort) }),
    ...(user === undefined ? {} : { user }),
    ...(asked === undefined ? {} : { command: asked }),
  };
}

/** Larger than any file of sshd's: for each method a line, of some hundred bytes, or with the certificate. */
const MOST_AUTH_BYTES = 64 * 1024;

/** The key that sshd accepted, from the file that ExposeAuthInfo makes: a line `publickey TYPE BLOB`. Of a certificate, the key that it is for. */
function keyOf(file: string | undefined): Pick<Principal, 'key' | 'keyType' | 'certificate'> {
  if (file === undefined || file === '') return {};
  let descriptor;
  try {
    // A client may name one itself where sshd takes any variable of it; its own is this user's, and regular.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    const stat = fstatSync(descriptor);
    if (!stat.isFile() || stat.uid !== process.geteuid?.() || stat.size > MOST_AUTH_BYTES) return {};
    const line = readFileSync(descriptor, 'utf8')
      .split('\n')
      .find((each) => each.startsWith('publickey '));
    const [, keyType, base64] = line?.split(' ') ?? [];
    if (keyType === undefined || base64 === undefined) return {};
    const blob = Buffer.from(base64, 'base64');
    if (!isCertificateType(keyType)) return { keyType, key: fingerprintOf(blob) };
    const certificate = readCertificate(blob);
    if (certificate === undefined) return { keyType };
    const by = certifiedBy(certificate, fingerprintOf(certificate.authority));
    return { keyType, key: fingerprintOf(certificate.key), certificate: by };
  } catch {
    // The file is sshd's; without it the session is as good, its audit one field poorer.
    return {};
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
