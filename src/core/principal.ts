/**
 * Who is at the other end of a session, as a front end has authenticated it, and what that client has been granted.
 */
import type { CertifiedBy } from './ssh-certificate.ts';

/** How strongly a client may touch its repository; each level includes the reading of the one before. */
export const ACCESS_LEVELS = ['read-only', 'append-only', 'full'] as const;
/** One of `ACCESS_LEVELS`. */
export type Access = (typeof ACCESS_LEVELS)[number];

/** What a client is for: backups, or to try what a client must not be able to do. */
export const ROLES = ['backup', 'probe'] as const;

/** By which way a session came in. `admin` is `restic-gateway restic` on the gateway host. */
export type Via = 'ssh' | 'stdio' | 'admin';

/** Who acts in a session. A front end makes it only after the key's signature has been verified (or sshd has done so). */
export interface Principal {
  /** The client's name in the config. */
  readonly client: string;
  /** Under which its history is kept, where that is not its name. */
  readonly id?: string;
  readonly via: Via;
  /** Fingerprint of the key as `ssh-keygen -l` prints it (`SHA256:…`), where the front end knows it. */
  readonly key?: string;
  /** The key's algorithm as in authorized_keys, where sshd has told it. */
  readonly keyType?: string;
  /** The certificate by which the key came in, where it was one. */
  readonly certificate?: CertifiedBy;
  /** The peer's IP address and port, where there is one. */
  readonly from?: string;
  readonly fromPort?: number;
  /** The name the peer logged in with; it decides nothing. */
  readonly user?: string;
  /** The command the peer asked for; it decides nothing. */
  readonly command?: string;
}

/** Under which a client's history is kept, and what it brings is its own, whatever its name is now. */
export function idOf({ client, id }: Pick<Principal, 'client' | 'id'>): string {
  return id ?? client;
}

/** The admin, at work on the repository of a client of the config. */
export function adminOf({ name, id }: { readonly name: string; readonly id: string }): Principal {
  return { client: name, ...(id !== name && { id }), via: 'admin' };
}

/** What a client may do in its repository. */
export interface Grant {
  readonly access: Access;
  /** Whether an append-only client may add key files to a repository that exists already. */
  readonly addKeys: boolean;
  /** Whether an append-only client may remove snapshots, index and data, which then go to the trash; by default not. */
  readonly removals?: 'refused' | 'deferred';
  /** How long a snapshot cannot be removed after it came, in ms; undefined: there is no floor. */
  readonly protectMs?: number | undefined;
}

/** Who brought an object and when, kept beside the object itself. */
export interface Uploader {
  /** As `idOf`. */
  readonly client: string;
  readonly via: Via;
  /** The session's id. */
  readonly session: string;
}
