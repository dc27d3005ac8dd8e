/**
 * Snapshot files as restic writes them, without a backup each: so a year of them takes a second. Their trees are not there, and what reads
 * snapshots alone does not miss them.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { derive, seal, unseal, type KeyFile, type Keys } from './restic-crypto.ts';

/** What a snapshot says. */
export interface WrittenSnapshot {
  /** With its zone: `2026-01-02T03:04:05+01:00`. */
  readonly time: string;
  readonly hostname: string;
  readonly paths: readonly string[];
  readonly tags?: readonly string[];
}

/** Writes snapshots into a repository in a directory. @returns their ids, in their order */
export function writeSnapshots(repository: string, password: string, snapshots: readonly WrittenSnapshot[]): string[] {
  const keys = masterKeys(repository, password);
  return snapshots.map((snapshot) => {
    const tree = createHash('sha256').update(JSON.stringify(snapshot)).digest('hex');
    const sealed = seal(keys, Buffer.from(JSON.stringify({ tree, username: 'root', ...snapshot })));
    const id = createHash('sha256').update(sealed).digest('hex');
    writeFileSync(path.join(repository, 'snapshots', id), sealed);
    return id;
  });
}

function masterKeys(repository: string, password: string): Keys {
  const [name = ''] = readdirSync(path.join(repository, 'keys'));
  const file = JSON.parse(readFileSync(path.join(repository, 'keys', name), 'utf8')) as KeyFile;
  const master = JSON.parse(unseal(derive(password, file), Buffer.from(file.data, 'base64')).toString()) as {
    readonly mac: { readonly k: string; readonly r: string };
    readonly encrypt: string;
  };
  const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
  return { encrypt: bytes(master.encrypt), k: bytes(master.mac.k), r: bytes(master.mac.r) };
}
