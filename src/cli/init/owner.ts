/** Whom the files of a new gateway are for. */
import { GatewayError } from '../../core/errors.ts';
import { findAccount, type Account } from '../account.ts';

/** A user and its group, as numbers. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user that new files are for: the one named; else `restic-gateway`, when that is there and these are the system's own.
 * @throws GatewayError `usage` when there is no such user, or only root could give files to it
 */
export async function chooseOwner(name: string | undefined, system: boolean): Promise<Account | undefined> {
  const root = process.getuid?.() === 0;
  if (name === undefined && !(root && system)) return undefined;
  const chosen = name ?? 'restic-gateway';
  const owner = await findAccount(chosen);
  if (owner === undefined) {
    if (name === undefined) return undefined;
    throw new GatewayError('usage', { detail: `there is no user ${name}; make one: useradd --system ${name}` });
  }
  if (!root && owner.uid !== process.getuid?.())
    throw new GatewayError('usage', { detail: `only root can give files to ${chosen}; run this as root` });
  return owner;
}
