/**
 * Who a connecting key belongs to. The principal exists only once a signature by the key has been verified; every attempt replaces it.
 *
 * Source: RFC 4252, 7 (publickey: an offer without a signature proves nothing), RFC 8709 (ssh-ed25519).
 */
import ssh2, { type AuthContext, type PublicKeyAuthContext } from 'ssh2';
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
export interface Authentication {
  /** Answers one attempt. */
  attempt(context: AuthContext): void;
  /** The key that the last attempt has authenticated. */
  authenticated(): AuthenticatedKey | undefined;
}

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
      if (context.method !== 'publickey' || context.key.algo !== 'ssh-ed25519') {
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

/** Whether the signature is the offered key's, over this very session (RFC 4252, 7). */
function verified({ key, blob, signature, hashAlgo }: PublicKeyAuthContext): boolean {
  const parsed = ssh2.utils.parseKey(key.data);
  if (parsed instanceof Error || blob === undefined || signature === undefined) return false;
  // ssh2 returns an Error, which is as good as true, where its types promise a boolean.
  const result: unknown = parsed.verify(blob, signature, hashAlgo);
  return result === true;
}
