/** The snapshots of a repository as its storage knows them: when each arrived, and by whom. Nothing of it is a client's to choose. */
import { parseObjectKey } from '../core/object.ts';
import { timeOfId } from '../core/timed-id.ts';
import { inPool } from '../maintenance/pool.ts';
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';

/** A snapshot's file. */
export interface SnapshotArrival {
  readonly id: string;
  readonly size: number;
  readonly arrived: Date;
  /** When the storage last took it in, by its own clock: later, where it came back from the trash. */
  readonly stored: Date;
  /** When the session began that brought it. */
  readonly began?: Date;
  /** Whose session that was, `admin` before it where it was the admin's. Undefined for what came by no gateway. */
  readonly client?: string;
}

const LOOK_UPS = 16;

/** What is no snapshot's name is left out: restic does not read it either. */
export async function readArrivals(
  maintenance: RepositoryMaintenance,
  signal: AbortSignal,
): Promise<readonly SnapshotArrival[]> {
  const arrivals: SnapshotArrival[] = [];
  for await (const page of maintenance.files('snapshots/', { signal }))
    await inPool(page, LOOK_UPS, async ({ key }) => {
      const ref = parseObjectKey(key);
      if (ref?.type !== 'snapshots') return;
      const facts = await maintenance.facts(key, { signal });
      // It was removed since it was listed.
      if (facts === undefined) return;
      const { uploader, arrived, modified: stored, size } = facts;
      const began = uploader && timeOfId(uploader.session);
      arrivals.push({
        id: ref.name,
        size,
        arrived,
        stored,
        ...(began && { began }),
        ...(uploader && { client: `${uploader.via === 'admin' ? 'admin ' : ''}${uploader.client}` }),
      });
    });
  return arrivals;
}
