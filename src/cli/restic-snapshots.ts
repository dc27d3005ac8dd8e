/** What `restic snapshots --json` says. A client has written it: it is held to its shape, and printed through one function. */
import { GatewayError } from '../core/errors.ts';

/** What a snapshot says of itself. */
interface ReadSnapshot {
  readonly id: string;
  readonly claimed: Date;
  readonly host: string;
  readonly paths: readonly string[];
  readonly tags: readonly string[];
}

/** Of restic 0.14 to 0.19; fields beside those that are read are left alone. @throws GatewayError `store-failed` */
export function parseSnapshots(output: string): readonly ReadSnapshot[] {
  let list: unknown;
  try {
    list = JSON.parse(output);
  } catch {
    throw unfit();
  }
  // As restic writes an empty list.
  if (list === null) return [];
  if (!Array.isArray(list)) throw unfit();
  return list.map((one: unknown): ReadSnapshot => {
    if (typeof one !== 'object' || one === null) throw unfit();
    const { id, time, hostname = '', paths, tags } = one as Readonly<Record<string, unknown>>;
    const claimed = new Date(typeof time === 'string' ? time : NaN);
    if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id) || Number.isNaN(claimed.getTime())) throw unfit();
    if (typeof hostname !== 'string') throw unfit();
    return { id, claimed, host: hostname, paths: texts(paths), tags: texts(tags) };
  });
}

function texts(value: unknown): readonly string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every((one) => typeof one === 'string')) throw unfit();
  return value;
}

function unfit(): GatewayError {
  return new GatewayError('store-failed', {
    detail: 'restic snapshots --json says what this version of the gateway does not know',
  });
}
