/**
 * The manifest of a quarantine as it is read: whoever may write to the storage may have written it, and its words become paths and lines of
 * a terminal. Nothing is taken that an undo would not have written.
 */
import { parseObjectKey } from '../core/object.ts';
import { isPrintable } from '../core/printable.ts';
import { PRIVATE_DIRECTORY } from '../ports/repository-maintenance.ts';
import type { ArrivedObject } from './undo-plan.ts';

/** Where quarantines are, below a repository's prefix. */
export const QUARANTINE = `${PRIVATE_DIRECTORY}/quarantine/`;
/** The file's name in each. */
export const MANIFEST = 'manifest.json';
/**
 * How many objects one quarantine takes at most; of more, an undo makes several. To read so many takes 260 MB of memory and a second, and a
 * client at its default limits adds four times as many small ones in a week.
 */
export const MOST_QUARANTINED = 250_000;
/** An object takes some 180 bytes and at most 262. */
export const MOST_MANIFEST_BYTES = 64 * 1024 * 1024;

const STATES = ['moving', 'quarantined', 'restoring', 'restored'] as const;

/** A quarantine: the shape of its `manifest.json`. */
export interface Quarantine {
  readonly v: 1;
  readonly id: string;
  readonly client: string;
  /** What was asked for: `--session …` or `--since …`. */
  readonly selection: string;
  /** ISO 8601. */
  readonly made: string;
  /** `moving` and `restoring` are under way, or were cut off. */
  readonly state: (typeof STATES)[number];
  readonly objects: readonly ArrivedObject[];
}

/** `20261123T211500Z-` and six hex digits. */
const ID = /^\d{8}T\d{6}Z-[0-9a-f]{6}$/;
const CLIENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/;
const SESSION = /^[\w.:-]{1,100}$/;
/** The longest selection, in characters. */
const LONGEST = 300;

/** Whether a text is the id of a quarantine, and so fit for a path. */
export function isQuarantineId(id: string): boolean {
  return ID.test(id);
}

/**
 * Reads a manifest.
 * @param key - where it lies, which must be where a quarantine of its id lies
 * @returns undefined for what this version has not written
 */
export function parseManifest(text: string, key: string): Quarantine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value) || value['v'] !== 1) return undefined;
  const { id, client, selection, made, state: said, objects } = value;
  const state = STATES.find((one) => one === said);
  if (!is(id, ID) || key !== `${QUARANTINE}${id}/${MANIFEST}`) return undefined;
  if (!is(client, CLIENT) || !isLine(selection) || !is(made, TIME) || state === undefined) return undefined;
  if (!Array.isArray(objects) || objects.length > MOST_QUARANTINED) return undefined;
  const arrived: ArrivedObject[] = [];
  for (const each of objects as unknown[]) {
    const object = parseArrived(each);
    if (object === undefined) return undefined;
    arrived.push(object);
  }
  return { v: 1, id, client, selection, made, state, objects: arrived };
}

function parseArrived(value: unknown): ArrivedObject | undefined {
  if (!isRecord(value)) return undefined;
  const { key, size, arrived, session } = value;
  if (typeof key !== 'string' || !is(arrived, TIME) || !is(session, SESSION)) return undefined;
  // What made the repository is never undone.
  if ((parseObjectKey(key)?.type ?? 'config') === 'config') return undefined;
  return Number.isSafeInteger(size) && Number(size) >= 0 ? { key, size: Number(size), arrived, session } : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A line of text: no controls, no marks that turn writing about. */
function isLine(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= LONGEST && isPrintable(value);
}

function is(value: unknown, pattern: RegExp): value is string {
  return typeof value === 'string' && pattern.test(value);
}
