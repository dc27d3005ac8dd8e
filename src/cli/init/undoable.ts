/** Makes files and directories, overwrites none, and can take back all that it made. */
import {
  closeSync,
  constants,
  fchownSync,
  linkSync,
  mkdirSync,
  openSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { GatewayError, messageOf } from '../../core/errors.ts';
import type { Owner } from './owner.ts';

/** Files and directories that are being made. */
export interface Undoable {
  /** Makes a directory, and those above it for whoever this is. @returns false when it is there already */
  directory(path: string, mode: number, owner?: Owner): boolean;
  /** Writes a new file, whole at once. @returns false when there is something of this name already, which is kept */
  file(path: string, content: string, mode: number, owner?: Owner): boolean;
  /** Takes back everything, the last first. A directory that someone has put something into stays. */
  undo(): void;
}

/** Begins with nothing made. Its methods throw GatewayError `invalid-config` when something cannot be made. */
export function undoable(): Undoable {
  const steps: (() => void)[] = [];
  const attempt = <T>(path: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const detail = `${path} cannot be made (${code ?? messageOf(error)})`;
      const hint =
        code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
          ? '; run as root, or name another place with -c FILE'
          : '';
      throw new GatewayError('invalid-config', { detail: `${detail}${hint}`, cause: error });
    }
  };
  const directory = (path: string, mode: number, owner?: Owner): boolean => {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return false;
    if (dirname(path) !== path) directory(dirname(path), 0o755);
    mkdirSync(path, { mode });
    steps.push(() => {
      rmdirSync(path);
    });
    if (owner !== undefined) give(path, owner);
    return true;
  };
  return {
    directory: (path, mode, owner) => attempt(path, () => directory(path, mode, owner)),
    file: (path, content, mode, owner) =>
      attempt(path, () => {
        const part = `${path}.part`;
        const descriptor = openSync(part, 'wx', mode);
        try {
          writeFileSync(descriptor, content);
          if (owner !== undefined) fchownSync(descriptor, owner.uid, owner.gid);
          // Unlike a rename, a link never takes the place of what is there.
          linkSync(part, path);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
          throw error;
        } finally {
          closeSync(descriptor);
          unlinkSync(part);
        }
        steps.push(() => {
          unlinkSync(path);
        });
        return true;
      }),
    undo: () => {
      for (const step of steps.splice(0).reverse())
        try {
          step();
        } catch {
          // What others use by now is theirs.
        }
    },
  };
}

/** Gives a new directory away, and never what someone who may write beside it has put in its place. */
function give(path: string, { uid, gid }: Owner): void {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    fchownSync(descriptor, uid, gid);
  } finally {
    closeSync(descriptor);
  }
}
