/**
 * What a grant allows: one pure, exhaustive function, deny by default. It looks at nothing but its arguments.
 */
import type { Operation } from './operation.ts';
import { idOf, type Grant, type Uploader, type Principal } from './principal.ts';

/** A lock older than this is stale, and any client that may write may remove it (restic: `StaleLockTimeout`, 30 minutes). */
export const STALE_LOCK_MS = 30 * 60 * 1000;

/** What the decision rests on beyond grant and operation. Fetched by the handler only where `factsNeeded` says so. */
export type Facts =
  | { readonly kind: 'none' }
  /** `keys/` is being added to: whether the repository's config file exists. */
  | { readonly kind: 'repository'; readonly exists: boolean }
  /** A lock is to be removed: absent, or its age in ms and who brought it, if that is known. */
  | { readonly kind: 'lock'; readonly lock: { readonly ageMs: number; readonly uploader?: Uploader } | undefined }
  /** Index or data are to be removed: how many snapshots the session was to remove before, and did not. */
  | { readonly kind: 'left'; readonly snapshots: number }
  /** A snapshot is to be removed: absent, or what its floor depends on. */
  | { readonly kind: 'snapshot'; readonly snapshot: SnapshotFacts | undefined };

/** What the store's own records say of a snapshot. */
export interface SnapshotFacts {
  /** When it came. */
  readonly arrived: Date;
  /** Time since then in ms, by one clock. */
  readonly ageMs: number;
  /** Whether it is one of the newest `NEWEST_KEPT` of its uploader's; undefined when that was not looked up, as its age decides. */
  readonly newest: boolean | undefined;
}

/** How many snapshots of each uploader cannot be removed at any age, where there is a floor. */
export const NEWEST_KEPT = 3;

/** Allowed, or not with a reason: a stable word for the audit and a plain half-sentence for a person. */
export type Decision =
  { readonly allow: true } | { readonly allow: false; readonly reason: DenialReason; readonly clientMessage: string };

/** Why the policy denies, as the audit says it. */
export type DenialReason =
  'read-only' | 'append-only' | 'lock-of-another' | 'key-added' | 'protected' | 'snapshot-left' | 'no-such-rule';

const ALLOW: Decision = { allow: true };

/** Which facts `decide` needs for this operation. */
export function factsNeeded(grant: Grant, operation: Operation): Facts['kind'] {
  if (operation.kind === 'remove' && mayRemove(grant)) {
    const { type } = operation.ref;
    if (type === 'snapshots') return grant.protectMs === undefined ? 'none' : 'snapshot';
    if (type === 'index' || type === 'data') return 'left';
  }
  if (grant.access !== 'append-only') return 'none';
  if (operation.kind === 'remove' && operation.ref.type === 'locks') return 'lock';
  if (operation.kind === 'save' && operation.ref.type === 'keys' && !grant.addKeys) return 'repository';
  return 'none';
}

/** Whether the principal may do this. */
export function decide(
  principal: Pick<Principal, 'client' | 'via'>,
  grant: Grant,
  operation: Operation,
  facts: Facts,
): Decision {
  switch (grant.access) {
    case 'full':
      return decideKnown(operation, (change) =>
        change.kind === 'remove' ? heedFloor(principal, grant, change, facts) : ALLOW,
      );
    case 'append-only':
      return decideKnown(operation, (change) => decideAppend(principal, grant, change, facts));
    case 'read-only':
      return decideKnown(operation, denyReadOnly);
    default:
      return denyUnknown(grant.access);
  }
}

/** An operation that changes the repository. */
type Change = Extract<Operation, { kind: 'create-repository' | 'save' | 'remove' }>;

/** Every access includes reading; what it says of changes is its own. */
function decideKnown(operation: Operation, decideChange: (change: Change) => Decision): Decision {
  switch (operation.kind) {
    case 'greet':
    case 'list':
    case 'stat':
    case 'load':
      return ALLOW;
    case 'create-repository':
    case 'save':
    case 'remove':
      return decideChange(operation);
    default:
      return denyUnknown(operation);
  }
}

function decideAppend(
  principal: Pick<Principal, 'client' | 'via'>,
  grant: Grant,
  change: Change,
  facts: Facts,
): Decision {
  switch (change.kind) {
    case 'create-repository':
      return ALLOW;
    case 'save':
      return decideSave(principal, grant, change, facts);
    case 'remove':
      return decideRemove(principal, grant, change, facts);
    default:
      return denyUnknown(change);
  }
}

function decideSave(
  principal: Pick<Principal, 'client'>,
  grant: Grant,
  operation: Operation & { kind: 'save' },
  facts: Facts,
): Decision {
  if (operation.ref.type !== 'keys' || grant.addKeys) return ALLOW;
  // restic tries 20 keys at most, so 20 junk keys would make a repository unopenable: keys come with `init` only.
  if (facts.kind === 'repository' && !facts.exists) return ALLOW;
  return {
    allow: false,
    reason: 'key-added',
    clientMessage: `append-only: this key may not add repository passwords; that is for the admin, on the gateway host: restic-gateway restic ${principal.client} -- COMMAND`,
  };
}

/** Whether a grant lets snapshots, index and data be removed at all. */
function mayRemove({ access, removals }: Grant): boolean {
  return access === 'full' || (access === 'append-only' && removals === 'deferred');
}

function decideRemove(
  principal: Pick<Principal, 'client' | 'via'>,
  grant: Grant,
  operation: Operation & { kind: 'remove' },
  facts: Facts,
): Decision {
  const { type } = operation.ref;
  if (type !== 'locks' && !mayRemove(grant))
    return {
      allow: false,
      reason: 'append-only',
      // Which of restic's commands was asked for is not known here: `forget`, `prune`, `repair`, `migrate` and `key` all come to this.
      clientMessage: `append-only: this key may not remove anything; that is for the admin, on the gateway host: restic-gateway restic ${principal.client} -- COMMAND`,
    };
  // What no `forget --prune` removes, and nobody could do without.
  if (type === 'keys' || type === 'config')
    return {
      allow: false,
      reason: 'append-only',
      clientMessage: 'append-only: this key may remove snapshots, but not repository passwords or the config',
    };
  if (type !== 'locks') return heedFloor(principal, grant, operation, facts);
  if (facts.kind === 'lock') {
    const { lock } = facts;
    if (lock === undefined || lock.ageMs > STALE_LOCK_MS) return ALLOW;
    // The way in counts too: what the admin locked on the gateway host is not the client's own.
    const own =
      lock.uploader !== undefined &&
      lock.uploader.client === idOf(principal) &&
      (lock.uploader.via === 'admin') === (principal.via === 'admin');
    if (own) return ALLOW;
  }
  return {
    allow: false,
    reason: 'lock-of-another',
    clientMessage: 'append-only: this lock belongs to someone else and is under 30 minutes old',
  };
}

/**
 * What stays for who may remove: a snapshot that came lately, or is one of the newest; and the data of one that stays.
 *
 * `restic forget --prune` before 0.19 takes a snapshot that it could not remove for removed, and its prune then removes that one's data.
 */
function heedFloor(
  { via }: Pick<Principal, 'client' | 'via'>,
  { protectMs }: Grant,
  { ref }: Operation & { kind: 'remove' },
  facts: Facts,
): Decision {
  if (ref.type === 'index' || ref.type === 'data') {
    if (facts.kind === 'left' && facts.snapshots === 0) return ALLOW;
    return {
      allow: false,
      reason: 'snapshot-left',
      clientMessage:
        'a snapshot could not be removed, so its data is kept: this run removes nothing more; run prune again on its own',
    };
  }
  if (ref.type !== 'snapshots' || protectMs === undefined) return ALLOW;
  const deny = (why: string): Decision => ({
    allow: false,
    reason: 'protected',
    clientMessage: `protected: snapshot ${ref.name.slice(0, 8)} ${why}${via === 'admin' ? '; --override-protect removes it anyway' : ''}`,
  });
  if (facts.kind !== 'snapshot') return deny('cannot be looked up');
  const { snapshot } = facts;
  if (snapshot === undefined) return ALLOW;
  const { arrived, ageMs, newest } = snapshot;
  // Whatever is no number is no age that is old enough.
  if (!(ageMs >= protectMs))
    return deny(`arrived recently, and cannot be removed before ${minuteOf(arrived.getTime() + protectMs)}`);
  if (newest === false) return ALLOW;
  return deny(`is one of the newest ${NEWEST_KEPT}, and cannot be removed until newer ones have come`);
}

/** A time to the minute, rounded up. @param ms - since 1970 */
function minuteOf(ms: number): string {
  const date = new Date(Math.ceil(ms / 60_000) * 60_000);
  return Number.isNaN(date.getTime()) ? 'an unknown time' : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

function denyReadOnly(): Decision {
  return {
    allow: false,
    reason: 'read-only',
    clientMessage: 'read-only: this key may not write, not even a lock; use restic with --no-lock',
  };
}

// Reached only by a value outside the types; the compiler proves there is none, and if there is, it is denied.
function denyUnknown(_value: never): Decision {
  return { allow: false, reason: 'no-such-rule', clientMessage: 'this key may not do that' };
}
