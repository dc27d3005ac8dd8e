/**
 * The public keys of clients: one line as it stands in an `id_ed25519.pub`, checked down to its wire format.
 *
 * Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT; RFC 4253, 6.6 and RFC 8709, 4 (a string `ssh-ed25519`, a string of 32 bytes).
 */
import { fingerprintOf } from './fingerprint.ts';
import { hasControls, invalid } from './problems.ts';

/** An `ssh-ed25519` public key (RFC 8709). */
export interface PublicKey {
  readonly type: 'ssh-ed25519';
  /** The key in SSH wire format, base64: what stands in authorized_keys after the type. */
  readonly blob: string;
  /** As `ssh-keygen -l` prints it: `SHA256:` and 43 characters of base64 without padding. */
  readonly fingerprint: string;
  /** The words after the key, possibly empty. */
  readonly comment: string;
}

const TYPE = 'ssh-ed25519';
const MAKE_ONE = 'make one with: ssh-keygen -t ed25519';
/** The whole of every key of the type but its 32 bytes at the end: both lengths and the type. */
const WIRE_TYPE = Buffer.from(`\0\0\0\x0b${TYPE}`, 'latin1');
const WIRE_HEAD = Buffer.concat([WIRE_TYPE, Buffer.from('\0\0\0\x20', 'latin1')]);
const KEY_LENGTH = 32;

/** Other types that OpenSSH knows, which people will try. */
const OTHER_TYPE =
  /^(ssh-rsa|ssh-dss|ecdsa-sha2-nistp\d+|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)$/;
const CERTIFICATE = /^[a-z0-9-]+-cert-v0\d@openssh\.com$/;
/** No space to a program, though it looks like one; a comment may have them. */
const SPECIAL_SPACE = /[\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]/;
// PEM and OpenSSH's own format, with or without their first line, and PuTTY's.
const PRIVATE_KEY = /PRIVATE KEY-----|b3BlbnNzaC1rZXktdjE|PuTTY-User-Key-File/;

/**
 * Reads one line of a `.pub` file.
 * @throws GatewayError `invalid-config`; its message says what to do and holds nothing of the line
 */
export function parsePublicKey(line: string): PublicKey {
  const { type, blob, comment } = readKeyLine(line);
  if (type !== TYPE) throw wrongType(type, line);
  const wire = wireOf(blob);
  if (wire.length >= WIRE_TYPE.length && !wire.subarray(0, WIRE_TYPE.length).equals(WIRE_TYPE))
    throw invalid(`the line says ${TYPE}, but the key in it is of another type; paste the whole line of the .pub file`);
  if (wire.length !== WIRE_HEAD.length + KEY_LENGTH || !wire.subarray(0, WIRE_HEAD.length).equals(WIRE_HEAD))
    throw damaged();
  return { type: TYPE, blob, fingerprint: fingerprintOf(wire), comment };
}

/**
 * The words of a line of a `.pub` file of any type.
 * @throws GatewayError `invalid-config` for what is no such line, though people may take it for one
 */
export function readKeyLine(line: string): { readonly type: string; readonly blob: string; readonly comment: string } {
  if (PRIVATE_KEY.test(line))
    throw invalid(
      'this is a PRIVATE key: delete it here, consider it disclosed and make a new one; what belongs here is the line of its .pub file',
    );
  if (/^---- BEGIN SSH2 PUBLIC KEY/m.test(line.trimStart()))
    throw invalid('this is a public key in the format of RFC 4716; convert it: ssh-keygen -i -f FILE');
  if (/-----BEGIN ([A-Z]+ )*PUBLIC KEY-----/.test(line))
    throw invalid(
      'this is a public key in a PEM file; take the one that ssh-keygen writes: ssh-keygen -y -f PRIVATE_KEY_FILE',
    );
  if (/\ufffd|(?:\w\0){4}/.test(line))
    throw invalid(
      'the key is not UTF-8 text: > in Windows PowerShell writes UTF-16; convert its file: iconv -f UTF-16 -t UTF-8 FILE',
    );
  if (
    line
      .trim()
      .split(/[ \t]+/, 2)
      .some((word) => SPECIAL_SPACE.test(word))
  )
    throw invalid(
      'there is a no-break or another special space in the key, as web pages and chats put them; type plain spaces',
    );
  if (/^\s*["'`“”„‘’«»]/.test(line))
    throw invalid(`there are quotes around the key itself; begin the line with ${TYPE}`);
  // What is in a comment goes into logs and authorized_keys: nothing that could start a line or hide there.
  if (hasControls(line.replace(/\t/g, ' ').trim()))
    throw invalid('a public key is one line without control characters');
  const [type = '', blob = '', ...comment] = line.trim().split(/[ \t]+/);
  return { type, blob, comment: comment.join(' ') };
}

/** The key itself in SSH wire format. @throws GatewayError `invalid-config` when it is no base64 */
export function wireOf(blob: string): Buffer {
  const wire = Buffer.from(blob, 'base64');
  // Node's decoder skips what is not base64; only what it would write itself is taken.
  if (wire.toString('base64') !== blob) throw damaged();
  return wire;
}

/** What is said of a key of which a part is missing. */
export function damaged(): Error {
  return invalid('the key is cut off or damaged; paste the whole line of the .pub file');
}

function wrongType(type: string, line: string): Error {
  if (CERTIFICATE.test(type))
    return invalid(
      `certificates do not stand here, only plain ${TYPE} keys; name the CA in trustedUserCAKeys, and principals of the client`,
    );
  if (OTHER_TYPE.test(type)) return invalid(`only ${TYPE} keys are taken, not ${type}; ${MAKE_ONE}`);
  if (/[\s,"]ssh-ed25519[ \t]+AAAA/.test(line))
    return invalid(`options before the key are not used here; begin the line with ${TYPE}`);
  if (/^AAAAC3NzaC1lZDI1NTE5/.test(type)) return invalid(`the type is missing; begin the line with ${TYPE}`);
  return invalid(`not a public key; paste the one line of a .pub file, which begins with ${TYPE}`);
}
