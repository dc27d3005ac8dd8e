/** What is to be said of the Node.js that runs the gateway, and of the part of ssh2 that encrypts: in `serve`'s log and in `check`. */
import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { runtimeTrouble } from '../core/node-releases.ts';
import { loadSsh2 } from '../frontends/ssh2-internals.ts';

/** Where dpkg keeps what is installed. */
const DPKG = '/var/lib/dpkg';

/** What to say of `encryption: 'node'`. */
export const NOT_NATIVE =
  "SSH is encrypted by Node's own crypto module, since ssh2's native part is not there or not built for this Node: sessions work alike and cost more CPU (docs/node.md)";

/** What runs. */
interface RuntimeReport {
  /** `v26.12.1` */
  readonly node: string;
  /** Why another Node should run, and what to do; undefined when everything is OK. */
  readonly trouble: string | undefined;
  /** What encrypts SSH: ssh2's native part, or without it Node's crypto module, at more CPU a byte. */
  readonly encryption: 'native' | 'node';
}

export function describeRuntime(): RuntimeReport {
  const [runtime, today] = [{ version: process.versions.node }, new Date()];
  let trouble = runtimeTrouble(runtime, today);
  // Debian's own build has the same number as one that gets no fixes; asked only then, since dpkg's records are some MB.
  if (trouble !== undefined) trouble = runtimeTrouble({ ...runtime, debian: debianPackage(process.execPath) }, today);
  return { node: process.version, trouble, encryption: loadSsh2().crypto.bindingAvailable ? 'native' : 'node' };
}

/** The version of Debian's own package `nodejs`, if `program` is of it; others (NodeSource, Ubuntu) have the same name and another maintainer. */
function debianPackage(program: string): string | undefined {
  try {
    const files = readFileSync(join(DPKG, 'info/nodejs.list'), 'utf8').split('\n');
    if (!files.includes(realpathSync(program))) return undefined;
    const status = readFileSync(join(DPKG, 'status'), 'utf8');
    const entry = /^Package: nodejs\n(?:.+\n)*/m.exec(status)?.[0] ?? '';
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(entry)?.[1] ?? '';
    return /debian\.org>|\.debian\.net>/.test(field('Maintainer')) ? field('Version') : undefined;
  } catch {
    // No dpkg, or no such package.
    return undefined;
  }
}
