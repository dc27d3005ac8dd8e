/**
 * Which files are obeyed: those that nobody but root and the user of this process can have written or put in their place.
 *
 * Source: OpenSSH's StrictModes (`safe_path` in misc.c): a file and every directory above it belong to root or the user, and neither group
 * nor others can write to them. Unlike there, each link on the way is held to the same, since what it leads to is what is obeyed, and a
 * sticky directory such as /tmp may be written to by others: in it nobody can rename or remove what belongs to another, so what lies there
 * and belongs to a trusted user was put there by that user.
 */
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { join, resolve } from 'node:path';
import { invalid } from './problems.ts';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** As Linux has it; what has more is a loop. */
const MOST_LINKS = 40;

/** The users whose files are obeyed: root, and that of this process. */
export function trustedUsers(): readonly number[] {
  return [0, process.geteuid?.() ?? 0];
}

/**
 * Holds a file and all that leads to it to the rule. What is not there, or cannot be looked at, is left to whoever opens it.
 * @param users - ids of the users whose files are obeyed
 * @throws GatewayError `invalid-config` that names what is wrong, and the command that mends it
 */
export function mustBeTrusted(file: string, users: readonly number[] = trustedUsers()): void {
  const problem = whyUntrusted(file, users);
  if (problem !== undefined) throw invalid(problem);
}

/**
 * As `mustBeTrusted`, but gives the problem: undefined when everything is OK.
 * @param leadsOn - whether the file is a directory on the way to one of a trusted user's, so that it may be sticky
 */
export function whyUntrusted(
  file: string,
  users: readonly number[] = trustedUsers(),
  leadsOn = false,
): string | undefined {
  let at = '/';
  let links = 0;
  const rest = ['', ...resolve(file).split('/').filter(Boolean)];
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    const path = join(at, name);
    const found = look(path);
    if (found === undefined) return undefined;
    const onTheWay = path === resolve(file) ? '' : ` (on the way to ${file})`;
    if (!users.includes(found.uid))
      return `${path}: belongs to the user with uid ${found.uid}, whom ${ownName()} must not obey${onTheWay}; run: chown -h root ${path}`;
    if (found.isSymbolicLink()) {
      links += 1;
      if (links > MOST_LINKS) return `${file}: leads through more than ${MOST_LINKS} links`;
      const target = readlinkSync(path);
      rest.unshift(...target.split('/').filter((part) => part !== '' && part !== '.'));
      if (target.startsWith('/')) at = '/';
      continue;
    }
    const shared = found.isDirectory() && (rest.length > 0 || leadsOn) && (found.mode & STICKY) !== 0;
    if ((found.mode & WRITABLE_BY_OTHERS) !== 0 && !shared) {
      const mode = (found.mode & 0o7777).toString(8).padStart(4, '0');
      return `${path}: others than its owner can change it (mode ${mode})${onTheWay}; run: chmod go-w ${path}`;
    }
    at = path;
  }
  return undefined;
}

/**
 * Whether others than its owner, or than the users that root has given it to, can use a private file. systemd's credentials and secrets
 * that Kubernetes mounts for a group are root's, and come to the gateway's user by the group's right to read: that is root's own choice.
 */
export function isShared({ mode, uid }: Pick<Stats, 'mode' | 'uid'>): boolean {
  const forGroup = uid === 0 && process.geteuid?.() !== 0;
  return (mode & (forGroup ? 0o037 : 0o077)) !== 0;
}

function ownName(): string {
  return process.geteuid?.() === 0 ? 'root' : 'this user';
}

function look(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
