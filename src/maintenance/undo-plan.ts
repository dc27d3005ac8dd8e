/** What an undo would take out of a repository, told by the uploaders recorded beside the objects: the audit may be lost or forged. */
import { setMaxListeners } from 'node:events';
import { parseObjectKey, type ObjectRef } from '../core/object.ts';
import type { RepositoryMaintenance, StoredFile } from '../ports/repository-maintenance.ts';
import { inPool } from './pool.ts';

/** Which of a client's sessions are meant. */
export type UndoSelection = { readonly session: string } | { readonly since: Date };

/** An object that came through the gateway. */
export interface ArrivedObject {
  /** Below the repository's prefix. */
  readonly key: string;
  readonly size: number;
  /** By the gateway's clock, ISO 8601. */
  readonly arrived: string;
  readonly session: string;
}

/** What an undo would do, and what to know before it. */
export interface UndoPlan {
  /** What it takes out, in the order in which that is done: nothing points at anything that is gone already. */
  readonly objects: readonly ArrivedObject[];
  /** Snapshots of other sessions that came after the first index or pack of these, and may rest on their packs. */
  readonly resting: readonly ArrivedObject[];
  /** What the admin's restic added since then: a prune may have moved content of these sessions into it. */
  readonly byAdmin: number;
  /** Objects since then whose uploader is not known; they stay. */
  readonly strangers: number;
}

/** How far the storage's clock may be from the gateway's. */
const CLOCKS_APART_MS = 60 * 60 * 1000;
const LOOK_UPS = 32;

/** Order of taking out; bringing back goes the other way. */
const ORDER: readonly ObjectRef['type'][] = ['snapshots', 'index', 'keys', 'locks', 'data', 'config'];

/**
 * Finds what sessions of a client added. The admin's sessions are never among them: what they wrote is what a prune kept.
 * @param client - its id
 * @throws GatewayError when the storage fails
 */
export async function planUndo(
  maintenance: RepositoryMaintenance,
  client: string,
  selection: UndoSelection,
  signal: AbortSignal,
): Promise<UndoPlan> {
  setMaxListeners(0, signal);
  const from = 'since' in selection ? selection.since.getTime() : startOf(selection.session);
  const meant: ArrivedObject[] = [];
  const snapshots: ArrivedObject[] = [];
  const admins: number[] = [];
  let strangers = 0;
  const look = async ({ key, modified }: StoredFile): Promise<void> => {
    // Only of what is new enough the uploader has to be asked, which on S3 is a request for each.
    if (modified.getTime() < from - CLOCKS_APART_MS || parseObjectKey(key) === undefined) return;
    const facts = await maintenance.facts(key, { signal });
    if (facts === undefined) return;
    const { uploader, size } = facts;
    const arrived = facts.arrived.getTime();
    if (uploader === undefined) {
      if (arrived >= from) strangers += 1;
      return;
    }
    const object = { key, size, arrived: facts.arrived.toISOString(), session: uploader.session };
    // A session is one alone, whatever its client has been renamed to since.
    const isMeant =
      'since' in selection ? arrived >= from && uploader.client === client : uploader.session === selection.session;
    if (uploader.via === 'admin') {
      if (!key.startsWith('locks/')) admins.push(arrived);
    } else if (isMeant) meant.push(object);
    else if (key.startsWith('snapshots/')) snapshots.push(object);
  };
  for await (const page of maintenance.files('', { signal })) await inPool(page, LOOK_UPS, look);

  const first = earliest(meant.filter(({ key }) => /^(?:data|index)\//.test(key)));
  const begin = earliest(meant);
  return {
    objects: inOrder(meant),
    resting: snapshots.filter((object) => timeOf(object) >= first).sort((a, b) => timeOf(a) - timeOf(b)),
    byAdmin: admins.filter((arrived) => arrived >= begin).length,
    strangers,
  };
}

/** Objects in the order in which they are taken out. */
export function inOrder<T extends { readonly key: string }>(objects: readonly T[]): readonly T[] {
  const rank = ({ key }: T): number => ORDER.indexOf(parseObjectKey(key)?.type ?? 'config');
  return [...objects].sort((a, b) => rank(a) - rank(b));
}

/** `Infinity` where there are none. One by one, as a function takes no million arguments. */
function earliest(objects: readonly ArrivedObject[]): number {
  return objects.reduce((first, object) => Math.min(first, timeOf(object)), Infinity);
}

const timeOf = ({ arrived }: ArrivedObject): number => Date.parse(arrived);

/** When a session began, which its id says: `20261123T211500Z-…`; the beginning of time for an id that does not. */
function startOf(session: string): number {
  const iso = session.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-.*$/, '$1-$2-$3T$4:$5:$6Z');
  const start = Date.parse(iso);
  return Number.isNaN(start) ? 0 : start;
}
