/**
 * What the audit added up to when it was last read, kept in `monitor/checkpoint.json` in the state directory so that nobody reads a year of
 * audit again. Any number of processes may write it: each is whole, and any of them will do. One that is damaged or of another version is
 * none.
 *
 * It is a line for what it is of and a line for each client and each repository, each behind its hash: with thousands of them it is read and
 * written line by line, so that the sessions of this process have their turn, and it never is in memory as a whole.
 */
import { constants } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { hashLine } from '../audit/chain.ts';
import type { Position } from '../audit/follow.ts';
import { LineSplitter } from '../audit/lines.ts';
import { openStateFile, parseJson, replaceStateFile } from '../state/state-file.ts';
import { clientShape, headShape, repositoryShape } from './checkpoint-shape.ts';
import { makeMonitorDirectory } from './directory.ts';
import { MODEL_VERSION, type Model } from './model.ts';

/** A model and the place up to which the audit is in it. */
interface Checkpoint {
  readonly model: Model;
  readonly position: Position;
}

/** The first line, as `headShape` has it. */
interface Head {
  readonly position: Position;
  readonly latest: number;
  /** How many lines there are of each kind. */
  readonly clients: number;
  readonly repositories: number;
}

/** Some 40 KB for each client that was busy on each day: of 100,000 such. What is longer is none of ours. */
const MOST_BYTES = 4 * 1024 ** 3;
/** What is read, or written, in one turn of the event loop, in bytes or characters: some ms. */
const PIECE = 64 * 1024;
/** Between a line's hash and its JSON. */
const GAP = ' ';

/** Which of the records are wanted; all others are passed over. */
interface Wanted {
  /** An id. */
  readonly client: string;
  /** As `repositoryKey`. */
  readonly repository: string;
}

/**
 * Undefined when there is none that can be used.
 * @param wanted - undefined: all
 */
export async function readCheckpoint(state: string, audit: string, wanted?: Wanted): Promise<Checkpoint | undefined> {
  try {
    return await readAll(state, audit, wanted);
  } catch {
    return undefined;
  }
}

/** When the newest was written, in ms since 1970; undefined when there is none. */
export async function checkpointTime(state: string): Promise<number | undefined> {
  return lstat(fileOf(state)).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}

/** @throws Error for what is none; of the file system */
async function readAll(state: string, audit: string, wanted: Wanted | undefined): Promise<Checkpoint | undefined> {
  let head: Head | undefined;
  const model: Model = { latest: 0, clients: new Map(), repositories: new Map() };
  const isWanted = wanted === undefined ? () => true : wantedLines(wanted);
  let count = 0;
  for await (const line of linesOf(fileOf(state))) {
    if (head === undefined) {
      const content = contentOf(line);
      if (!headShape(content) || content.audit !== audit) return undefined;
      head = content;
      model.latest = content.latest;
      continue;
    }
    count += 1;
    if (!isWanted(line)) continue;
    const content = contentOf(line);
    if (clientShape(content)) model.clients.set(content.client, content.record);
    else if (repositoryShape(content)) model.repositories.set(content.repository, content.record);
    else return undefined;
  }
  // All lines are there that were written, and none twice.
  if (head === undefined || count !== head.clients + head.repositories) return undefined;
  const isWhole = model.clients.size === head.clients && model.repositories.size === head.repositories;
  return wanted === undefined && !isWhole ? undefined : { model, position: head.position };
}

/** By how a line begins, without a look at the rest of it. */
function wantedLines({ client, repository }: Wanted): (line: Buffer) => boolean {
  const starts = [`{"client":${JSON.stringify(client)},`, `{"repository":${JSON.stringify(repository)},`].map((start) =>
    Buffer.from(start),
  );
  return (line) => {
    const json = line.indexOf(GAP) + GAP.length;
    return starts.some((start) => line.subarray(json, json + start.length).equals(start));
  };
}

/** The file's lines, in pieces with turns for others between them. @throws Error as `readAll` */
async function* linesOf(file: string): AsyncGenerator<Buffer> {
  const handle = await openStateFile(file, constants.O_RDONLY);
  try {
    if ((await handle.stat()).size > MOST_BYTES) throw new Error(`${file} is too long`);
    const splitter = new LineSplitter();
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(PIECE), 0, PIECE, null);
      if (bytesRead === 0) break;
      for (const { bytes } of splitter.push(buffer.subarray(0, bytesRead))) yield bytes;
      await setImmediate();
    }
    // Each line has its end.
    if (splitter.end() !== undefined) throw new Error(`${file} is cut off`);
  } finally {
    await handle.close();
  }
}

/** What a line holds; undefined for one that does not hash to what stands before it. */
function contentOf(line: Buffer): unknown {
  const gap = line.indexOf(GAP);
  const json = line.subarray(gap + GAP.length);
  return gap >= 0 && line.toString('latin1', 0, gap) === hashLine(json) ? parseJson(json.toString()) : undefined;
}

/**
 * The model must not be changed until it is written.
 * @throws Error of the file system, `ENOENT` when there is no state directory
 */
export async function writeCheckpoint(state: string, audit: string, checkpoint: Checkpoint): Promise<void> {
  await makeMonitorDirectory(state);
  await replaceStateFile(fileOf(state), piecesOf(audit, checkpoint));
}

async function* piecesOf(audit: string, { model, position }: Checkpoint): AsyncGenerator<string> {
  const { latest, clients, repositories } = model;
  let text = lineOf({
    ...{ v: MODEL_VERSION, audit, position, latest },
    ...{ clients: clients.size, repositories: repositories.size },
  });
  for (const lines of [clientLines(clients), repositoryLines(repositories)])
    for (const line of lines) {
      text += line;
      if (text.length < PIECE) continue;
      yield text;
      text = '';
      await setImmediate();
    }
  yield text;
}

function* clientLines(clients: Model['clients']): Generator<string> {
  for (const [client, record] of clients) yield lineOf({ client, record });
}

function* repositoryLines(repositories: Model['repositories']): Generator<string> {
  for (const [repository, record] of repositories) yield lineOf({ repository, record });
}

function lineOf(content: object): string {
  const json = JSON.stringify(content);
  return `${hashLine(Buffer.from(json))}${GAP}${json}\n`;
}

function fileOf(state: string): string {
  return join(state, 'monitor', 'checkpoint.json');
}
