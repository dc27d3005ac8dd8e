/**
 * `restic-gateway snapshot-records CLIENT`: what `forget` lets the gateway's user do, who alone touches storage and audit log, while `forget`
 * itself may be root's, who reads the password. Both talk in JSON, and each holds what the other says to its shape.
 */
import { openClientMaintenance, type OpenedMaintenance } from '../client-maintenance.ts';
import { loadConfig } from '../config/load.ts';
import { protectionOf } from '../config/repositories.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import { parseObjectName, type ObjectRef } from '../core/object.ts';
import { either, flag, isoTime, like, line, listOf, only, record, type Shape } from '../core/shape.ts';
import { timedId } from '../core/timed-id.ts';
import { batchName } from '../core/trash.ts';
import { TRASH } from '../ports/repository-maintenance.ts';
import type { AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import { readArrivals, type SnapshotArrival } from '../retention/arrivals.ts';
import { readSnapshotTimes, writeSnapshotTimes } from '../retention/snapshot-times.ts';
import { chooseConfigFile, goOnAsUser } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';

/** One snapshot, as the storage knows it. Times are ISO 8601. */
export interface SnapshotRecord {
  readonly id: string;
  readonly arrived: string;
  readonly stored: string;
  readonly began?: string;
  readonly client?: string;
  /** Whether the admin has accepted what it claims. */
  readonly accepted: boolean;
}

const ID = like(/^[0-9a-f]{64}$/);

/** What it answers: to `read` all snapshots, to `remove` the ids of those that stay. */
export interface RecordsAnswer {
  readonly snapshots: readonly SnapshotRecord[];
  readonly kept: readonly string[];
}

const RECORDS: Shape<readonly SnapshotRecord[]> = listOf(
  record({ id: ID, arrived: isoTime, stored: isoTime, accepted: flag }, { began: isoTime, client: line(200) }),
);

export const ANSWER: Shape<RecordsAnswer> = record({ snapshots: RECORDS, kept: listOf(ID) });

/** What it is to do. */
export type RecordsRequest =
  | { readonly do: 'read' }
  /** Into the audit log, once each, and to be remembered. Claims are ISO 8601. */
  | {
      readonly do: 'note';
      readonly forged: readonly { readonly id: string; readonly claimed: string }[];
      readonly accepted: readonly string[];
    }
  /** Into the trash. The answer is those that Object Lock keeps in place. */
  | { readonly do: 'remove'; readonly ids: readonly string[] };

const REQUEST: Shape<RecordsRequest> = either(
  record({ do: only('read' as const) }),
  either(
    record({
      do: only('note' as const),
      forged: listOf(record({ id: ID, claimed: isoTime })),
      accepted: listOf(ID),
    }),
    record({ do: only('remove' as const), ids: listOf(ID) }),
  ),
);

/** A request for 400,000 snapshots. */
const MOST_REQUEST_BYTES = 64 * 2 ** 20;
/** Of one run; the rest is for the next one. A client may make thousands, and a hundred are as good an alarm. */
const MOST_NOTED = 100;

/**
 * Answers one request, which comes on stdin.
 * @returns 0, with what was asked for on stdout
 * @throws GatewayError
 */
export async function runSnapshotRecords({
  client,
  config: file,
}: {
  readonly client: string;
  readonly config: string | undefined;
}): Promise<number> {
  refuseInForcedCommand({ takesInput: true });
  // forget has said which.
  const config = loadConfig(chooseConfigFile(file));
  await goOnAsUser(config);
  const request = await readRequest();
  const opened = await openClientMaintenance(config, client);
  const stop = new AbortController();
  process.on('SIGTERM', () => {
    stop.abort(new GatewayError('client-gone', { detail: 'stopped; the same command completes it' }));
  });
  try {
    const answer = await carryOut(opened, config, client, request, stop.signal);
    await new Promise<void>((resolve) => {
      process.stdout.write(`${JSON.stringify(answer)}\n`, () => {
        resolve();
      });
    });
    return 0;
  } finally {
    await opened.maintenance.close();
  }
}

async function readRequest(): Promise<RecordsRequest> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MOST_REQUEST_BYTES) break;
    chunks.push(chunk);
  }
  let request: unknown;
  try {
    request = JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    request = undefined;
  }
  if (!REQUEST(request))
    throw new GatewayError('usage', { detail: 'this is for restic-gateway forget, which starts it by itself' });
  return request;
}

async function carryOut(
  opened: OpenedMaintenance,
  config: GatewayConfig,
  client: string,
  request: RecordsRequest,
  signal: AbortSignal,
): Promise<RecordsAnswer> {
  const { maintenance, repository } = opened;
  const arrivals = await readArrivals(maintenance, signal);
  const times = await readSnapshotTimes(maintenance, signal);
  if (request.do === 'read') {
    const snapshots = arrivals.map(({ id, arrived, stored, began, client: by }) => ({
      ...{ id, arrived: arrived.toISOString(), stored: stored.toISOString(), accepted: times.accepted.has(id) },
      ...(began && { began: began.toISOString() }),
      ...(by !== undefined && { client: by }),
    }));
    return { snapshots, kept: [] };
  }
  const audit = await opened.openAudit();
  const session = timedId();
  const identity: SessionIdentity = { session, principal: opened.principal, access: 'full', repository };
  const there = new Map(arrivals.map((arrival) => [arrival.id, arrival]));
  try {
    if (request.do === 'remove') {
      const batch = batchName(new Date(), session, 'admin');
      if (protectionOf(config, repository).trashMs === undefined)
        throw new GatewayError('usage', { detail: `without the password, forget needs a trash; ${client} has none` });
      const kept: string[] = [];
      for (const id of request.ids) {
        const arrival = there.get(id);
        if (arrival === undefined || (await moveToTrash(opened, { audit, identity, batch, signal }, arrival))) continue;
        kept.push(id);
      }
      return { snapshots: [], kept };
    }
    const accepted = new Set([...times.accepted, ...request.accepted]);
    const noted = new Set(times.noted);
    const fresh = request.forged.filter(({ id }) => there.has(id) && !noted.has(id) && !accepted.has(id));
    for (const { id, claimed } of fresh.slice(0, MOST_NOTED)) {
      const arrived = there.get(id)?.arrived.toISOString() ?? '';
      await audit.append(identity, { kind: 'forged-time', ref: refOf(id), claimed, arrived });
      noted.add(id);
    }
    for (const id of request.accepted)
      if (there.has(id) && !times.accepted.has(id))
        await audit.append(identity, { kind: 'time-accepted', ref: refOf(id) });
    const still = (ids: ReadonlySet<string>): Set<string> => new Set([...ids].filter((id) => there.has(id)));
    const next = { accepted: still(accepted), noted: still(noted) };
    if (!same(next.accepted, times.accepted) || !same(next.noted, times.noted))
      await writeSnapshotTimes(maintenance, next, signal);
    return { snapshots: [], kept: [] };
  } finally {
    await audit.close();
  }
}

function refOf(id: string): ObjectRef {
  const name = parseObjectName(id);
  if (name === undefined) throw new GatewayError('internal', { detail: 'no name of a snapshot' });
  return { type: 'snapshots', name };
}

const same = (one: ReadonlySet<string>, other: ReadonlySet<string>): boolean =>
  one.size === other.size && [...one].every((id) => other.has(id));

/** @returns false where the storage keeps it until its retention ends */
async function moveToTrash(
  { maintenance }: OpenedMaintenance,
  work: {
    readonly audit: AuditSink;
    readonly identity: SessionIdentity;
    readonly batch: string;
    readonly signal: AbortSignal;
  },
  { id, size, arrived }: SnapshotArrival,
): Promise<boolean> {
  const { audit, identity, batch, signal } = work;
  const ref = refOf(id);
  await audit.append(identity, { kind: 'remove', ref, size, arrived: arrived.toISOString() });
  try {
    const key = `snapshots/${id}`;
    const outcome = await maintenance.move(key, `${TRASH}${batch}/${key}`, { signal });
    if (outcome === 'taken')
      throw new GatewayError('store-failed', { detail: `${key}: another file has its place in the trash` });
    if (outcome === 'absent') await audit.append(identity, { kind: 'remove-failed', ref, reason: 'absent' });
    return true;
  } catch (error) {
    const { code } = asGatewayError(error);
    await audit.append(identity, { kind: 'remove-failed', ref, reason: code });
    if (code !== 'retained') throw error;
    return false;
  }
}
