/**
 * Who a connecting key belongs to. The principal exists only once a signature by the key has been verified; every attempt replaces it.
 *
 * Source: RFC 4252, 7 (publickey: an offer without a signature proves nothing), RFC 8709 (ssh-ed25519).
 */
import { createPublicKey, verify } from 'node:crypto';
import type { AuthContext, PublicKeyAuthContext } from 'ssh2';
import type { ClientConfig, PublicKey } from '../config/types.ts';

/** A key that has authenticated, and the client it stands for. */
export interface AuthenticatedKey {
  readonly client: ClientConfig;
  readonly key: PublicKey;
  /** The name the peer logged in with; it decides nothing. */
  readonly user: string;
}

/** A key and the client it stands for. */
export interface KnownKey {
  readonly client: ClientConfig;
  readonly key: PublicKey;
}

/** The authentication of one connection. */
interface Authentication {
  /** Answers one attempt. */
  attempt(context: AuthContext): void;
  /** The key that the last attempt has authenticated. */
  authenticated(): AuthenticatedKey | undefined;
}

/** The signatures by which a client may log in. */
export const CLIENT_SIGNATURES = ['ssh-ed25519'];

/** Refusals of one connection, the first look without a method not counted; as OpenSSH's MaxAuthTries. */
const MOST_REFUSALS = 6;
/** Everything asked in one authentication, offers of a good key included that are never signed. */
const MOST_ATTEMPTS = 20;

/**
 * @param find - the client of a key, by the key's SSH wire format in base64
 * @param giveUp - ends the connection, after too many attempts
 */
export function createAuthentication(find: (blob: string) => KnownKey | undefined, giveUp: () => void): Authentication {
  let authenticated: AuthenticatedKey | undefined;
  let refusals = 0;
  let attempts = 0;
  const refuse = (context: AuthContext): void => {
    if (context.method !== 'none' || attempts > 1) refusals++;
    if (refusals >= MOST_REFUSALS) giveUp();
    else context.reject(['publickey']);
  };
  return {
    attempt: (context) => {
      authenticated = undefined;
      attempts++;
      if (attempts > MOST_ATTEMPTS) {
        giveUp();
        return;
      }
      // Every refusal is the same, whatever the user's name: the name decides nothing, so it can be guessed at in vain.
      if (context.method !== 'publickey' || !CLIENT_SIGNATURES.includes(context.key.algo)) {
        refuse(context);
        return;
      }
      const known = find(context.key.data.toString('base64'));
      if (known === undefined) {
        refuse(context);
        return;
      }
      if (context.signature === undefined) {
        // An offer: the client may go on and sign with this key. Nothing is proved yet.
        context.accept();
        return;
      }
      if (!verified(context)) {
        refuse(context);
        return;
      }
      authenticated = { ...known, user: context.username };
      context.accept();
    },
    authenticated: () => authenticated,
  };
}

/** The length of an ed25519 key, with which its blob ends (RFC 8709, 4). */
const KEY_BYTES = 32;

/** Whether the signature is the offered key's, over this very session (RFC 4252, 7). The key is a known one, so its blob is well formed. */
function verified({ key, blob, signature }: PublicKeyAuthContext): boolean {
  if (blob === undefined || signature === undefined) return false;
  // Not ssh2's own, which makes a PEM of the key and reads that again for each.
  const x = key.data.subarray(-KEY_BYTES).toString('base64url');
  try {
    return verify(null, blob, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }), signature);
  } catch {
    return false;
  }
}
