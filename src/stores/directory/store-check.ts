/**
 * Tries live what append-only rests on in a directory: that a name is given once, that what is written is made durable, that each
 * repository lies on one file system; and looks at free space and permissions.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { lstat, mkdir, readFile, rm, rmdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NAMED_TYPES } from '../../core/object.ts';
import type { StoreCheckPoint, StoreCheckResult } from '../../ports/repository-store.ts';
import type { Steps } from './bounded.ts';
import { errnoOf, storeFailure } from './failures.ts';
import { assertRoot, linkIfFree, syncDirectory, writeSynced } from './files.ts';

/** Less than this, in bytes, does not hold the largest pack that restic makes. */
const LEAST_FREE = 128 * 1024 * 1024;

/** restic's packs have this size by default. */
const PACK_BYTES = 16 * 1024 * 1024;

/** @throws GatewayError and errors of the file system, when it cannot be tried */
export async function checkDirectory(
  steps: Steps,
  root: string,
  prefixes: readonly string[],
): Promise<StoreCheckResult> {
  await assertRoot(steps, root);
  const { neverOverwrites, keepsPacks, checks } = await tryFiles(steps, root);
  return {
    neverOverwrites,
    keepsVersions: false,
    keepsPacks,
    checks: [
      ...checks,
      await oneFileSystem(steps, root, prefixes),
      await freeSpace(steps, root),
      await permissions(steps, root),
    ],
  };
}

/** Names and durability, tried with two files in a directory that is made for it and removed. */
async function tryFiles(
  steps: Steps,
  root: string,
): Promise<Pick<StoreCheckResult, 'neverOverwrites' | 'keepsPacks' | 'checks'>> {
  const directory = join(root, '.restic-gateway', `probe-${randomUUID()}`);
  const made = (await steps.io(() => mkdir(directory, { recursive: true, mode: 0o700 }))) ?? directory;
  try {
    const paths = { first: join(directory, 'first'), second: join(directory, 'second'), name: join(directory, 'name') };
    for (const text of ['first', 'second'] as const) await writeSynced(steps, paths[text], text);
    const given = await linkIfFree(steps, paths.first, paths.name);
    const again = await linkIfFree(steps, paths.second, paths.name);
    const kept = (await steps.io(() => readFile(paths.name, 'utf8'))) === 'first';
    await syncDirectory(steps, directory);
    const neverOverwrites = given && !again && kept;
    const packs = await wholePack(steps, directory);
    return {
      neverOverwrites,
      keepsPacks: packs.outcome === 'holds',
      checks: [
        neverOverwrites
          ? { what: 'never overwrites', outcome: 'holds', detail: 'link(2) gives a name once' }
          : {
              what: 'never overwrites',
              outcome: 'fails',
              detail:
                'link(2) replaces what has the name already; use another file system, such as ext4, xfs, btrfs, zfs or NFS',
            },
        { what: 'durable', outcome: 'holds', detail: 'files and directories are synced by fsync(2) without an error' },
        packs,
      ],
    };
  } finally {
    await steps.cleanUp(() => rm(directory, { recursive: true, force: true }));
    // Someone may have begun to use it meanwhile; then it stays.
    if (made !== directory) await steps.cleanUp(() => rmdir(made)).catch(() => undefined);
  }
}

/** A file of a pack's size, which a quota, a full disk below an overlay, or a file system in user space may keep in part. */
async function wholePack(steps: Steps, directory: string): Promise<StoreCheckPoint> {
  const what = 'keeps packs';
  const [temporary, path] = [join(directory, 'pack'), join(directory, 'pack.link')];
  const bytes = randomBytes(PACK_BYTES);
  const size = `${PACK_BYTES / 1024 / 1024} MiB`;
  try {
    await writeSynced(steps, temporary, bytes);
    await linkIfFree(steps, temporary, path);
    await syncDirectory(steps, directory);
    if ((await steps.io(() => readFile(path))).equals(bytes))
      return { what, outcome: 'holds', detail: `a file of ${size} comes back as it was stored` };
    return {
      what,
      outcome: 'fails',
      detail: `a file of ${size} comes back with other content; use another file system`,
    };
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return { what, outcome: 'fails', detail: storeFailure(`storing a file of ${size}`, error).message };
  }
}

/** Objects are linked from the repository's own temporary directory to their names, which works within one file system alone. */
async function oneFileSystem(steps: Steps, root: string, prefixes: readonly string[]): Promise<StoreCheckPoint> {
  const what = 'one file system';
  for (const prefix of prefixes) {
    const home = join(root, prefix);
    const device = await deviceOf(steps, home);
    for (const part of [
      '.restic-gateway',
      '.restic-gateway/tmp',
      '.restic-gateway/origin',
      '.restic-gateway/trash',
      ...NAMED_TYPES,
    ]) {
      const other = await deviceOf(steps, join(home, part));
      if (other !== undefined && other !== device)
        return {
          what,
          outcome: 'fails',
          detail: `${join(home, part)} is on another file system than ${dirname(join(home, part))}; keep each repository on one`,
        };
    }
  }
  return { what, outcome: 'holds', detail: 'each repository lies on one' };
}

async function deviceOf(steps: Steps, path: string): Promise<number | undefined> {
  try {
    return (await steps.io(() => stat(path))).dev;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function freeSpace(steps: Steps, root: string): Promise<StoreCheckPoint> {
  const { bavail, bsize } = await steps.io(() => statfs(root));
  const freeBytes = bavail * bsize;
  return freeBytes >= LEAST_FREE
    ? { what: 'free space', outcome: 'holds', detail: 'enough for the largest pack', freeBytes }
    : {
        what: 'free space',
        outcome: 'fails',
        detail: 'too little for the largest pack of 128 MiB; free some',
        freeBytes,
      };
}

async function permissions(steps: Steps, root: string): Promise<StoreCheckPoint> {
  const what = 'permissions';
  const { mode, uid } = await steps.io(() => lstat(root));
  const octal = (mode & 0o7777).toString(8).padStart(4, '0');
  if ((mode & 0o002) !== 0)
    return {
      what,
      outcome: 'fails',
      detail: `any user can replace repositories in it (mode ${octal}): chmod o-w ${root}`,
    };
  if ((mode & 0o020) !== 0)
    return { what, outcome: 'note', detail: `its group can replace repositories in it (mode ${octal})` };
  const own = uid === process.geteuid?.();
  return own
    ? { what, outcome: 'holds', detail: `only its owner, this user, can write to it (mode ${octal})` }
    : { what, outcome: 'note', detail: `its owner is user ${uid}, not this user (mode ${octal})` };
}
