/**
 * What the audit added up to when it was last read, kept in `monitor/checkpoint.json` in the state directory so that nobody reads a year of
 * audit again. Any number of processes may write it: each is whole, and any of them will do. One that is damaged or of another version is
 * none.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Position } from '../audit/follow.ts';
import { parseJson, readStateFile, replaceStateFile } from '../state/state-file.ts';
import { checkpointShape } from './checkpoint-shape.ts';
import { makeMonitorDirectory } from './directory.ts';
import { MODEL_VERSION, type ClientRecord, type Model, type RepositoryRecord } from './model.ts';

/** A model and the place up to which the audit is in it. */
interface Checkpoint {
  readonly model: Model;
  readonly position: Position;
}

/** Some 40 KB for each client that was busy on each day: of 6,000 such. What is longer is none of ours. */
const MOST_BYTES = 256 * 1024 * 1024;

/** The file's second line; the first is its SHA-256 in hex. */
interface Content {
  readonly v: number;
  /** The audit that it is of. */
  readonly audit: string;
  readonly position: Position;
  readonly latest: number;
  readonly clients: readonly (readonly [string, ClientRecord])[];
  readonly repositories: readonly (readonly [string, RepositoryRecord])[];
}

/** Undefined when there is none that can be used. */
export async function readCheckpoint(state: string, audit: string): Promise<Checkpoint | undefined> {
  try {
    const bytes = await readStateFile(fileOf(state), MOST_BYTES);
    const [hash, text = ''] = String(bytes).split('\n', 2);
    if (hash !== hashOf(text)) return undefined;
    const content: unknown = parseJson(text);
    if (!checkpointShape(content) || content.audit !== audit) return undefined;
    const { latest, clients, repositories, position } = content;
    return { model: { latest, clients: new Map(clients), repositories: new Map(repositories) }, position };
  } catch {
    return undefined;
  }
}

/** @throws Error of the file system, `ENOENT` when there is no state directory */
export async function writeCheckpoint(state: string, audit: string, { model, position }: Checkpoint): Promise<void> {
  const content: Content = {
    ...{ v: MODEL_VERSION, audit, position, latest: model.latest },
    ...{ clients: [...model.clients], repositories: [...model.repositories] },
  };
  const text = JSON.stringify(content);
  await makeMonitorDirectory(state);
  await replaceStateFile(fileOf(state), `${hashOf(text)}\n${text}\n`);
}

function fileOf(state: string): string {
  return join(state, 'monitor', 'checkpoint.json');
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
