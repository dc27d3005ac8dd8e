/**
 * What of root's the gateway's user needs, given to it. Nobody else's is touched, and nothing in a place where another user than root could
 * put something else under a name meanwhile.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parseConfig } from '../../config/load.ts';
import { clientFileNames } from '../../config/sources.ts';
import { invalid } from '../../config/problems.ts';
import { replaceFile } from '../../config/replace-file.ts';
import { whyUntrusted } from '../../config/trusted-files.ts';
import type { GatewayConfig } from '../../config/types.ts';
import { SETPRIV } from '../root.ts';
import type { Step } from './steps.ts';

/** Whom the files are for. There is no user yet while it is still to be made. */
interface Heir {
  readonly name: string;
  readonly account: () => { readonly uid: number; readonly gid: number } | undefined;
}

/** Below these, nothing is a store. */
const SYSTEM_PLACES = ['/bin', '/boot', '/dev', '/etc', '/lib', '/lib64', '/proc', '/run', '/sbin', '/sys', '/usr'];

/**
 * @param config - as root reads it
 * @throws GatewayError `invalid-config` for what cannot be handed over
 */
export function planHandOver(config: GatewayConfig, heir: Heir): readonly Step[] {
  const { audit, state, stores, hostKeys, metrics } = config;
  const secrets = Object.values(stores).flatMap((store) =>
    store.type === 's3' && store.credentials !== undefined ? [store.credentials.secret] : [],
  );
  if (metrics?.token !== undefined) secrets.push(metrics.token);
  const files = [...hostKeys, ...secrets.flatMap((secret) => ('file' in secret ? [secret.file] : []))];
  const variable = secrets.find((secret) => 'variable' in secret);
  if (variable !== undefined && 'variable' in variable)
    throw invalid(
      `${config.file}: sshd starts its children without the environment variable ${variable.variable}; put the secret into a file (secretAccessKeyFile, tokenFile)`,
    );
  mustReadClients(config, heir);
  return [
    ...nameUser(config, heir),
    ...openConfig(config.file, heir),
    ...[...new Set(files)].flatMap((file) => openSecret(file, heir)),
    ...ownDirectory(
      dirname(audit.file),
      heir,
      (name) => name.startsWith(basename(audit.file)) || join(dirname(audit.file), name) === state,
    ),
    ...ownDirectory(state, heir),
    ...Object.values(stores).flatMap((store) => (store.type === 'directory' ? ownStore(store.path, heir) : [])),
  ];
}

/** `user:` in the config is as whom root's commands go on, and `serve` when root starts it. */
function nameUser({ file, user }: GatewayConfig, { name }: Heir): readonly Step[] {
  if (user !== undefined) return [];
  const before = readFileSync(file, 'utf8');
  const edit = (text: string): string => {
    const after = text.replace(/^(?=["']?[A-Za-z])/m, `user: ${name}\n`);
    const tell = (): Error => invalid(`${file}: cannot be changed by itself; write this line into it: user: ${name}`);
    try {
      if (parseConfig(after, file).user !== name) throw tell();
    } catch {
      throw tell();
    }
    return after;
  };
  const after = edit(before);
  return [
    {
      what: `write user: ${name} into ${file}`,
      run: () => {
        replaceFile(file, (content) => edit(content.toString()));
      },
      undo: () => {
        replaceFile(file, (content) => {
          if (content.toString() !== after) throw invalid(`${file}: was changed meanwhile`);
          return before;
        });
      },
    },
  ];
}

/** What is missing is told by who reads it. */
function openSecret(given: string, heir: Heir): readonly Step[] {
  if (lstatSync(given, { throwIfNoEntry: false }) === undefined || may(heir, 'r', given)) return [];
  const file = realpathSync(given);
  return give(file, [file], heir);
}

/** The config stays root's, and the user's group may read it. */
function openConfig(given: string, heir: Heir): readonly Step[] {
  const file = realpathSync(given);
  if (may(heir, 'r', file)) return [];
  const { uid, gid, mode } = lstatSync(file);
  if (uid !== 0 || (gid !== 0 && gid !== heir.account()?.gid))
    throw invalid(
      `${file}: ${heir.name} may not read this config, and it is not root's alone; run: chgrp ${heir.name} ${file} && chmod g+r ${file}`,
    );
  return [
    {
      what: `let the group of ${heir.name} read ${file}`,
      run: () => {
        chownSync(file, uid, idsOf(heir).gid);
        chmodSync(file, (mode & 0o7777) | 0o040);
      },
      undo: () => {
        chmodSync(file, mode & 0o7777);
        chownSync(file, uid, gid);
      },
    },
  ];
}

/** Clients' files are not touched: whoever writes them, such as Ansible, gives them their modes. */
function mustReadClients({ clientsDirectory: directory }: GatewayConfig, heir: Heir): void {
  if (directory === undefined) return;
  const words = [directory, '-maxdepth', '1', '!', '-readable', '-exec', '/usr/bin/false', '{}', '+'];
  const all = [directory, ...clientFileNames(directory).map((name) => join(directory, name))];
  if (heir.account() === undefined ? all.every((one) => may(heir, 'r', one)) : asHeir(heir, '/usr/bin/find', words))
    return;
  throw invalid(
    `${directory}: ${heir.name} may not read all of it; run: chgrp -R ${heir.name} ${directory} && chmod -R g+rX ${directory}`,
  );
}

/** @param isOurs - which names in it are the gateway's, where it may hold what is others' too */
function ownDirectory(given: string, heir: Heir, isOurs?: (name: string) => boolean): readonly Step[] {
  if (lstatSync(given, { throwIfNoEntry: false }) === undefined) return [makeDirectory(given, heir)];
  const path = realpathSync(given);
  if (!lstatSync(path).isDirectory()) throw invalid(`${path}: this is not a directory`);
  const wanting = !may(heir, 'w', path);
  if (isOurs === undefined) return wanting ? give(path, [...below(path), path], heir) : [];
  const names = readdirSync(path);
  const strange = names.find((name) => !isOurs(name));
  if (strange !== undefined && wanting)
    throw invalid(
      `${path}: holds other things too (${strange}), so that it is not given to ${heir.name}; let the audit have a directory of its own (audit.file)`,
    );
  const files = names.filter(isOurs).map((name) => join(path, name));
  const closed = files.filter((file) => lstatSync(file).isFile() && !may(heir, 'w', file));
  return give(path, wanting ? [...closed, path] : closed, heir);
}

function makeDirectory(path: string, heir: Heir): Step {
  const made: string[] = [];
  return {
    what: `make ${path} for ${heir.name}`,
    run: () => {
      const first = mkdirSync(path, { recursive: true, mode: 0o755 });
      for (let one = path; first !== undefined && one.length >= first.length; one = dirname(one)) made.push(one);
      chmodSync(path, 0o750);
      const { uid, gid } = idsOf(heir);
      lchownSync(path, uid, gid);
    },
    undo: () => {
      if (made.length > 0) removeNew(path, [], heir);
      for (const one of made) rmdirSync(one);
    },
  };
}

/** What was tried as the user has left files, which that user removes: root does not follow another's names. @param kept - those from before */
function removeNew(directory: string, kept: readonly string[], heir: Heir): void {
  const names = readdirSync(directory).filter((name) => !kept.includes(name));
  if (names.length > 0) asHeir(heir, '/usr/bin/rm', ['-rf', '--', ...names.map((name) => join(directory, name))]);
}

function ownStore(given: string, heir: Heir): readonly Step[] {
  // A disk that is not mounted is not made up for.
  if (lstatSync(given, { throwIfNoEntry: false }) === undefined || may(heir, 'w', given)) return [];
  const path = realpathSync(given);
  const parts = path.split('/').filter(Boolean);
  if (parts.length < 2 || SYSTEM_PLACES.includes(`/${parts[0] ?? ''}`))
    throw invalid(
      `${path}: this is not given away whole; let the store have a directory of its own, such as /srv/backups`,
    );
  return give(path, [...below(path), path], heir);
}

/** Gives what of these is root's. @param place - what they are, for the admin */
function give(place: string, paths: readonly string[], heir: Heir): readonly Step[] {
  const id = heir.account()?.uid;
  const stats = paths.map((path) => ({ path, stat: lstatSync(path, { throwIfNoEntry: false }) }));
  const foreign = stats.find(({ stat }) => stat !== undefined && stat.uid !== 0 && stat.uid !== id);
  if (foreign?.stat !== undefined)
    throw invalid(
      `${foreign.path}: belongs to uid ${foreign.stat.uid}, and only root's files are handed over; if ${heir.name} is to have it, run: chown ${heir.name} ${foreign.path}`,
    );
  const roots = stats.flatMap(({ path, stat }) =>
    stat?.uid === 0 ? [{ path, gid: stat.gid, links: stat.isFile() ? stat.nlink : 1 }] : [],
  );
  if (roots.length === 0) return [];
  const linked = roots.find(({ links }) => links > 1);
  if (linked !== undefined)
    throw invalid(`${linked.path}: has another name too (a hard link), which would be given away with it; remove one`);
  const untrusted = whyUntrusted(place, [0]);
  const [first, ...more] = roots;
  if (untrusted !== undefined)
    throw invalid(
      `${first?.path ?? place}: belongs to root, in a place that is not root's alone, where root gives nothing away; run: chown -h ${heir.name} ${first?.path ?? place}`,
    );
  const given = roots.at(-1)?.path === place && lstatSync(place).isDirectory();
  const names = given ? readdirSync(place) : undefined;
  const shown = more.length > 0 && first !== undefined ? `${place}, with ${more.length} in it` : (first?.path ?? place);
  return [
    {
      what: `give ${shown} to ${heir.name}`,
      run: () => {
        const { uid, gid } = idsOf(heir);
        // The directory itself is the last: until then it is root's, and nobody else can put anything there.
        for (const { path } of roots) lchownSync(path, uid, gid);
      },
      undo: () => {
        if (names !== undefined) removeNew(place, names, heir);
        for (const { path, gid } of roots.toReversed()) lchownSync(path, 0, gid);
      },
    },
  ];
}

/** All that is in a directory, the deepest first. */
function below(path: string): readonly string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const one = join(path, entry.name);
    return entry.isDirectory() ? [...below(one), one] : [one];
  });
}

/** Whether the user may read a file, or write a directory or file, asked as this user. */
function may(heir: Heir, how: 'r' | 'w', path: string): boolean {
  // Whoever is still to be made is, until then, anybody.
  if (heir.account() === undefined)
    return ((statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & (how === 'r' ? 0o004 : 0o002)) !== 0;
  return asHeir(heir, '/usr/bin/test', [`-${how}`, path]);
}

/** @returns whether the program has ended well */
function asHeir(heir: Heir, program: string, args: readonly string[]): boolean {
  const { uid, gid } = idsOf(heir);
  const rights = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--inh-caps=-all'];
  return spawnSync(SETPRIV, [...rights, program, ...args], { stdio: 'ignore' }).status === 0;
}

function idsOf(heir: Heir): { readonly uid: number; readonly gid: number } {
  const account = heir.account();
  if (account === undefined) throw invalid(`there is no user ${heir.name}`);
  return account;
}
