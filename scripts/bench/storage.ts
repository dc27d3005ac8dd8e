/** The storage behind a measure: new for each round where a round fills it. */
import type { Lab } from './lab.ts';
import type { Backend } from './site.ts';

/** Kinds of storage. */
export type StorageKind = Backend['type'];

/** An empty storage of that kind; the one before is gone, and has the same address. */
export async function freshStorage(lab: Lab, kind: StorageKind): Promise<Backend> {
  if (kind === 'directory') return { type: 'directory', path: lab.directory('store') };
  return { type: 's3', ...(await lab.freshS3()) };
}
