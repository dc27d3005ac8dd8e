/** Whom the files of a new gateway are for. */
import { execFileSync } from 'node:child_process';
import { GatewayError } from '../../core/errors.ts';

/** A user and its group, as numbers. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user that new files are for: the one named; else `restic-gateway`, when that is there and these are the system's own.
 * @throws GatewayError `usage` when there is no such user, or only root could give files to it
 */
export function chooseOwner(
  name: string | undefined,
  system: boolean,
): (Owner & { readonly name: string }) | undefined {
  const root = process.getuid?.() === 0;
  if (name === undefined && !(root && system)) return undefined;
  const chosen = name ?? 'restic-gateway';
  const owner = findUser(chosen);
  if (owner === undefined) {
    if (name === undefined) return undefined;
    throw new GatewayError('usage', { detail: `there is no user ${name}; make one: useradd --system ${name}` });
  }
  if (!root && owner.uid !== process.getuid?.())
    throw new GatewayError('usage', { detail: `only root can give files to ${chosen}; run this as root` });
  return { ...owner, name: chosen };
}

/** The user of a name, or undefined when there is none. */
function findUser(name: string): Owner | undefined {
  const ask = (option: string): number =>
    Number(execFileSync('id', [option, '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  try {
    return { uid: ask('-u'), gid: ask('-g') };
  } catch {
    return undefined;
  }
}
