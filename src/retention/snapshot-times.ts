/**
 * Snapshots that claim another time than they arrived at: which of them the admin has accepted, and which stand in the audit log. Kept in
 * the repository, in `.restic-gateway/snapshot-times.json`, where no client reaches it.
 */
import { GatewayError } from '../core/errors.ts';
import { like, listOf, only, record } from '../core/shape.ts';
import { PRIVATE_DIRECTORY, type RepositoryMaintenance } from '../ports/repository-maintenance.ts';

/** Ids of snapshots. */
interface SnapshotTimes {
  readonly accepted: ReadonlySet<string>;
  /** Are in the audit log as `forged-time`. */
  readonly noted: ReadonlySet<string>;
}

const KEY = `${PRIVATE_DIRECTORY}/snapshot-times.json`;
/** Some 450,000 ids. */
const MOST_BYTES = 32 * 2 ** 20;

const id = like(/^[0-9a-f]{64}$/);
const shape = record({ v: only(1 as const), accepted: listOf(id), noted: listOf(id) });

/** @throws GatewayError `store-failed` for a file that the gateway has not written */
export async function readSnapshotTimes(
  maintenance: RepositoryMaintenance,
  signal: AbortSignal,
): Promise<SnapshotTimes> {
  if ((await maintenance.facts(KEY, { signal })) === undefined) return { accepted: new Set(), noted: new Set() };
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of maintenance.read(KEY, { signal })) {
    bytes += chunk.length;
    if (bytes > MOST_BYTES) throw unfit();
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw unfit();
  }
  if (!shape(value)) throw unfit();
  return { accepted: new Set(value.accepted), noted: new Set(value.noted) };
}

export async function writeSnapshotTimes(
  maintenance: RepositoryMaintenance,
  { accepted, noted }: SnapshotTimes,
  signal: AbortSignal,
): Promise<void> {
  const value = { v: 1, accepted: [...accepted], noted: [...noted] };
  await maintenance.write(KEY, Buffer.from(`${JSON.stringify(value)}\n`), { signal });
}

function unfit(): GatewayError {
  return new GatewayError('store-failed', {
    detail: `${KEY} was not written by the gateway; find out who can write to the storage, move it away, and accept the times again`,
  });
}
