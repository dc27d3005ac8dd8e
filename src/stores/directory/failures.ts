/**
 * What the errors of a file system mean for a store, and what the admin can do about each.
 */
import { constants } from 'node:os';
import { GatewayError, messageOf, type ErrorCode } from '../../core/errors.ts';

/** An error of the file system, as Node makes them; every other value has none of the fields. Not by `instanceof`: see `messageOf`. */
type SystemError = Partial<Pick<NodeJS.ErrnoException, 'code' | 'errno' | 'path'>>;

/** The error's code as in errno(3), such as `ENOENT`; undefined for anything that did not come from the system. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { code, errno } = error as SystemError;
  // libuv has no name for it and says `Unknown system error -122`.
  if (errno === -constants.errno.EDQUOT) return 'EDQUOT';
  return typeof errno === 'number' ? code : undefined;
}

/** By errno: the failure and what to do. Everything else is `store-failed`. */
const MEANINGS: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ENOSPC: ['store-full', 'the file system is full; free space on it or enlarge it'],
  EDQUOT: ['store-full', "the disk quota of the gateway's user is used up; raise it"],
  EACCES: ['store-misconfigured', "permission denied; make the gateway's user the owner of the store's directory"],
  EPERM: ['store-misconfigured', "not permitted; make the gateway's user the owner of the store's directory"],
  EROFS: ['store-misconfigured', 'the file system is mounted read-only; mount it read-write'],
  EXDEV: ['store-misconfigured', 'the repository spans several file systems; keep each repository on one'],
  ELOOP: ['store-failed', 'it is a symbolic link, which is not followed; put the file itself there'],
  EMFILE: ['store-failed', "too many open files; raise the gateway's limit (ulimit -n, LimitNOFILE=)"],
  ENFILE: ['store-failed', 'too many open files on this machine; raise fs.file-max'],
};

/**
 * An error of the file system as the store's error. `not-found` never comes of it: only who asked knows what an ENOENT means.
 * @param doing - what was tried, such as `storing data/ab/abcd…`
 */
export function storeFailure(doing: string, error: unknown): GatewayError {
  const [code, advice] = MEANINGS[errnoOf(error) ?? ''] ?? ['store-failed', messageOf(error)];
  return new GatewayError(code, { detail: `${doing}: ${advice}`, cause: error });
}

/** The store's root is not there, so nothing can be said of what it holds: an unmounted disk is not an empty repository. */
export function rootMissing(root: string, cause: unknown): GatewayError {
  return new GatewayError('store-misconfigured', {
    detail: `the store's directory ${root} is missing; mount the disk that holds it, or create it`,
    cause,
  });
}

/** The file system cannot create a name atomically. */
export function linksUnsupported(directory: string, cause: unknown): GatewayError {
  return new GatewayError('store-misconfigured', {
    detail: `${directory}: the file system has no hard links, and without them nothing can be stored safely; use another, such as ext4, xfs, btrfs, zfs or NFS`,
    cause,
  });
}
