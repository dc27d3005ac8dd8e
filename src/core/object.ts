/**
 * Object types, object names and their keys in storage: the only place that decides what a valid name is.
 *
 * Source: restic's REST backend specification and repository design (default layout), as measured in rclone's and restic's own S3 layout.
 */

/** The directories of a repository whose files are named by the SHA-256 of their content. */
export const NAMED_TYPES = ['data', 'index', 'keys', 'locks', 'snapshots'] as const;

/** A type of object that is named by its content's SHA-256. */
export type NamedType = (typeof NAMED_TYPES)[number];

/** Every type of object in a repository; `config` is the single file without a name. */
type ObjectType = NamedType | 'config';

/** 64 lower-case hex digits: the SHA-256 of the object's content. Made only by `parseObjectName`. */
export type ObjectName = string & { readonly __brand: 'ObjectName' };

/** One object of a repository. */
export type ObjectRef = { readonly type: 'config' } | { readonly type: NamedType; readonly name: ObjectName };

/** The single config file of a repository. */
export const CONFIG_REF: ObjectRef = { type: 'config' };

const NAME = /^[0-9a-f]{64}$/;

/** The name if it is 64 lower-case hex digits, else undefined. */
export function parseObjectName(text: string): ObjectName | undefined {
  return NAME.test(text) ? (text as ObjectName) : undefined;
}

/** The type if it is one of `NAMED_TYPES`, else undefined. */
export function parseNamedType(text: string): NamedType | undefined {
  return NAMED_TYPES.find((type) => type === text);
}

/**
 * The object's key below the repository's prefix, in restic's default layout: `config`, `keys/<name>`, `data/<first two digits>/<name>`.
 */
export function objectKey(ref: ObjectRef): string {
  if (ref.type === 'config') return 'config';
  if (ref.type === 'data') return `data/${ref.name.slice(0, 2)}/${ref.name}`;
  return `${ref.type}/${ref.name}`;
}

/** The reverse of `objectKey`: the object that a key below the prefix stands for, or undefined for anything that is not restic's. */
export function parseObjectKey(key: string): ObjectRef | undefined {
  if (key === 'config') return CONFIG_REF;
  const parts = key.split('/');
  const type = parseNamedType(parts[0] ?? '');
  const name = parseObjectName(parts.at(-1) ?? '');
  if (type === undefined || name === undefined) return undefined;
  const ref: ObjectRef = { type, name };
  return objectKey(ref) === key ? ref : undefined;
}

const DIRECTORY = /^(?:|(?:data|index|keys|locks|snapshots)\/|data\/[0-9a-f]{2}\/)$/;

/** Whether this is a directory of restic's default layout. @param key - below the prefix, ending in `/`; '' is the repository itself */
export function isRepositoryDirectory(key: string): boolean {
  return DIRECTORY.test(key);
}

/** What of a key that is not restic's does not belong into a repository: its first directory that is not of the layout, or the key itself. */
export function foreignPlace(key: string): string {
  for (let slash = key.indexOf('/'); slash !== -1; slash = key.indexOf('/', slash + 1)) {
    const directory = key.slice(0, slash + 1);
    if (!isRepositoryDirectory(directory)) return directory;
  }
  return key;
}

/** The longest content that an object of each type may have, in bytes. */
export const SIZE_LIMITS: Readonly<Record<ObjectType, number>> = {
  // restic's config and key files are a few hundred bytes; snapshots carry paths and tags.
  config: 64 * 1024,
  keys: 64 * 1024,
  // A time, some numbers, and the names of host and user, of 255 bytes at most each and written with at most 6 characters a byte.
  locks: 4 * 1024,
  snapshots: 16 * 1024 * 1024,
  // An index of restic closes at 50,000 blobs (about 8 MiB); a rewritten one of an old client may be larger.
  index: 256 * 1024 * 1024,
  // `--pack-size` is at most 128 MiB, and the last blob may carry a pack past it by up to 8 MiB and the header.
  data: 256 * 1024 * 1024,
};
