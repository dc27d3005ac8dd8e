/**
 * Who a connecting key belongs to. The principal exists only once a signature by the key has been verified; every attempt replaces it.
 *
 * Source: RFC 4252, 7 (publickey: an offer without a signature proves nothing), RFC 8709 (ssh-ed25519), OpenSSH, PROTOCOL.certkeys.
 */
import { createPublicKey, verify } from 'node:crypto';
import type { AuthContext, PublicKeyAuthContext } from 'ssh2';
import type { ClientConfig } from '../config/types.ts';
import type { CertifiedBy } from '../core/ssh-certificate.ts';
import { ED25519_CERTIFICATE, rawSignature } from './certificates.ts';

/** A key that has authenticated, and the client it stands for. */
export interface AuthenticatedKey extends KnownKey {
  /** The name the peer logged in with; it decides nothing. */
  readonly user: string;
}

/** A key and the client it stands for. */
export interface KnownKey {
  readonly client: ClientConfig;
  /** Its fingerprint. */
  readonly key: string;
  /** The certificate by which it is known, where it is not in the config itself. */
  readonly certificate?: CertifiedBy;
}

/** What the config knows. */
export interface KnownKeys {
  /** The client of a key. @param blob - the key in SSH wire format, base64 */
  find(blob: string): KnownKey | undefined;
  /** Whether there is a CA. */
  areCertified(): boolean;
  /** The client of a certificate, and the key that it is for in SSH wire format. @param blob - in SSH wire format */
  certified(blob: Buffer): (KnownKey & { readonly keyBlob: Buffer }) | undefined;
}

/** The authentication of one connection. */
interface Authentication {
  /** Answers one attempt. */
  attempt(context: AuthContext): void;
  /** The key that the last attempt has authenticated. */
  authenticated(): AuthenticatedKey | undefined;
}

const PLAIN = 'ssh-ed25519';

/** The algorithms by which a client may log in. @param certificates - whether there is a CA */
export function clientSignatures(certificates: boolean): readonly string[] {
  return certificates ? [PLAIN, ED25519_CERTIFICATE] : [PLAIN];
}

/** Refusals of one connection, the first look without a method not counted; as OpenSSH's MaxAuthTries. */
const MOST_REFUSALS = 6;
/** Everything asked in one authentication, offers of a good key included that are never signed. */
const MOST_ATTEMPTS = 20;

/**
 * @param giveUp - ends the connection, after too many attempts
 * @param inTurn - does work that costs thread time and needs no key of the config, at once or later, or never when the connection has gone. ssh2 keeps what
 *   comes meanwhile
 */
export function createAuthentication(
  keys: KnownKeys,
  giveUp: () => void,
  inTurn: (work: () => void) => void,
): Authentication {
  let authenticated: AuthenticatedKey | undefined;
  let refusals = 0;
  let attempts = 0;
  const refuse = (context: AuthContext): void => {
    if (context.method !== 'none' || attempts > 1) refusals++;
    if (refusals >= MOST_REFUSALS) giveUp();
    else context.reject(['publickey']);
  };
  const answer = (context: AuthContext): void => {
    // Every refusal is the same, whatever the user's name: the name decides nothing, so it can be guessed at in vain.
    const login = context.method === 'publickey' ? loginBy(context, keys) : undefined;
    if (login === undefined) {
      refuse(context);
      return;
    }
    if (login.signature === undefined) {
      // An offer: the client may go on and sign with this key. Nothing is proved yet.
      context.accept();
      return;
    }
    if (!verified(login.keyBlob, login.signed, login.signature)) {
      refuse(context);
      return;
    }
    authenticated = { ...login.known, user: context.username };
    context.accept();
  };
  return {
    attempt: (context) => {
      authenticated = undefined;
      attempts++;
      if (attempts > MOST_ATTEMPTS) {
        giveUp();
        return;
      }
      // A CA's signature takes up to some ms to verify, and anybody may show a certificate that names a CA.
      if (keys.areCertified() && context.method === 'publickey' && context.key.algo === ED25519_CERTIFICATE)
        inTurn(() => {
          answer(context);
        });
      else answer(context);
    },
    authenticated: () => authenticated,
  };
}

/** A login by a key that is known. */
interface Login {
  readonly known: KnownKey;
  /** The key that signs, in SSH wire format. */
  readonly keyBlob: Buffer;
  /** Of an ed25519 key, as it is; undefined for an offer. */
  readonly signature: Buffer | undefined;
  readonly signed: Buffer | undefined;
}

/** What is asked in, if by a key that may be; undefined when not, or when the signature has not the form of one. */
function loginBy(
  { key: { algo, data }, blob: signed, signature }: PublicKeyAuthContext,
  keys: KnownKeys,
): Login | undefined {
  if (algo === PLAIN) {
    const known = keys.find(data.toString('base64'));
    return known && { known, keyBlob: data, signed, signature };
  }
  if (algo !== ED25519_CERTIFICATE) return undefined;
  const certified = keys.certified(data);
  if (certified === undefined || !isEd25519(certified.keyBlob)) return undefined;
  const { keyBlob, ...known } = certified;
  if (signature === undefined) return { known, keyBlob, signed, signature };
  // It names the type of the key alone, so that ssh2 leaves that before it.
  const raw = rawSignature(signature);
  return raw && { known, keyBlob, signed, signature: raw };
}

/** The whole of a key but its 32 bytes at the end (RFC 8709, 4). */
const KEY_HEAD = Buffer.from(`\0\0\0\x0b${PLAIN}\0\0\0\x20`, 'latin1');
const KEY_BYTES = 32;

function isEd25519(keyBlob: Buffer): boolean {
  return keyBlob.length === KEY_HEAD.length + KEY_BYTES && keyBlob.subarray(0, KEY_HEAD.length).equals(KEY_HEAD);
}

/** Whether the signature is the key's, over this very session (RFC 4252, 7). @param keyBlob - well formed */
function verified(keyBlob: Buffer, signed: Buffer | undefined, signature: Buffer): boolean {
  if (signed === undefined) return false;
  // Not ssh2's own, which makes a PEM of the key and reads that again for each.
  const x = keyBlob.subarray(-KEY_BYTES).toString('base64url');
  try {
    return verify(null, signed, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }), signature);
  } catch {
    return false;
  }
}
