/** Holds the audit on this host against its copy, byte by byte: what was changed or removed here after it had been copied shows. */
import { messageOf } from '../core/errors.ts';
import { getOrMake } from '../core/get-or-make.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import { hashLine, readLinks } from './chain.ts';
import { LINE_BREAK, splitLines } from './lines.ts';
import { chunkKey, openSegment, parseChunkKey, type Segment } from './segments.ts';

/** What came of it. */
export interface CopyReport {
  /** Bytes that are the same here and in the copy. */
  readonly bytes: number;
  /** What is wrong, each a line for a person. */
  readonly problems: readonly string[];
  /** What is worth knowing. */
  readonly notes: readonly string[];
}

interface Piece {
  readonly offset: number;
  readonly size: number;
}

/**
 * @param files - the audit's files, in order
 * @param options.keep - how many rotated files stay here, as the config says; undefined: all
 * @param options.saw - hears how many bytes more are the same
 * @throws GatewayError of the store
 */
export async function compareCopy(
  files: readonly string[],
  store: CopyStore,
  {
    keep,
    signal,
    saw,
  }: {
    readonly keep: number | undefined;
    readonly signal: AbortSignal;
    readonly saw?: (bytes: number) => void;
  },
): Promise<CopyReport> {
  const copies = new Map<string, Piece[]>();
  const notes: string[] = [];
  let foreign = 0;
  for await (const page of store.files('', { signal }))
    for (const { key, size } of page) {
      const chunk = parseChunkKey(key);
      if (chunk === undefined) foreign += 1;
      else getOrMake(copies, chunk.segment, () => []).push({ offset: chunk.offset, size });
    }
  for (const pieces of copies.values()) pieces.sort((a, b) => a.offset - b.offset);
  if (foreign > 0) notes.push(`${foreign} objects beside the copy are none of it`);

  const problems: string[] = [];
  let bytes = 0;
  const here = new Set<string>();
  /** The oldest file here, and what its first lines refer to. */
  let first: { readonly id: string; readonly prior: ReadonlySet<string> } | undefined;
  for (const file of files) {
    const segment = await openSegment(file);
    if (segment === undefined) continue;
    try {
      here.add(segment.id);
      first ??= { id: segment.id, prior: await priorOf(segment) };
      const found = await compareSegment(segment, copies.get(segment.id) ?? [], store, signal, saw);
      bytes += found.bytes;
      problems.push(...found.problems);
      notes.push(...found.notes);
    } finally {
      await segment.close();
    }
  }

  const gone = [...copies.keys()].filter((id) => !here.has(id)).sort();
  const oldest = first;
  const older = gone.filter((id) => oldest !== undefined && id < oldest.id);
  const newest = older.at(-1);
  // Rotation removes the oldest, and no more than it is to; the oldest that is left continues the newest of those; a made-up beginning does not.
  const rotated =
    keep !== undefined &&
    files.length > keep &&
    oldest !== undefined &&
    newest !== undefined &&
    (await continues(oldest.prior, newest, copies, store, signal));
  for (const id of gone) {
    const size = (copies.get(id) ?? []).reduce((sum, piece) => sum + piece.size, 0);
    if (rotated && older.includes(id))
      notes.push(`${id}: ${size} bytes that are in the copy alone, as keep removes them here`);
    else
      problems.push(
        `${id}: ${size} bytes are in the copy, and no file here begins as it does: it was removed or changed`,
      );
  }
  return { bytes, problems, notes };
}

async function compareSegment(
  segment: Segment,
  pieces: readonly Piece[],
  store: CopyStore,
  signal: AbortSignal,
  saw?: (bytes: number) => void,
): Promise<CopyReport> {
  const { file, id } = segment;
  const problems: string[] = [];
  const notes: string[] = [];
  const local = segment.bytes(0);
  let waiting: Buffer = Buffer.alloc(0);
  let [offset, line, same] = [0, 1, 0];
  /** The next bytes of the file, fewer at its end. */
  const take = async (most: number): Promise<Buffer> => {
    if (waiting.length === 0) {
      const next = await local.next();
      if (next.done === true) return waiting;
      waiting = next.value;
    }
    const taken = waiting.subarray(0, most);
    waiting = waiting.subarray(taken.length);
    offset += taken.length;
    return taken;
  };
  const pass = (bytes: Buffer): void => {
    for (const byte of bytes) if (byte === LINE_BREAK) line += 1;
  };
  /** Compares a piece, but for what an earlier one had: two copiers at once may have made both. */
  const comparePiece = async (piece: Piece): Promise<boolean> => {
    let known = Math.max(0, offset - piece.offset);
    for await (const chunk of store.read(chunkKey({ segment: id, offset: piece.offset }), { signal })) {
      let rest = Buffer.from(chunk).subarray(known);
      known = Math.max(0, known - chunk.length);
      while (rest.length > 0) {
        const mine = await take(rest.length);
        if (mine.length === 0) {
          problems.push(`${file}:${line}: the end was cut off: the copy goes on`);
          return false;
        }
        const theirs = rest.subarray(0, mine.length);
        if (!mine.equals(theirs)) {
          const at = mine.findIndex((byte, index) => byte !== theirs[index]);
          pass(mine.subarray(0, at));
          problems.push(
            `${file}:${line}: it is not what was copied: it or a line before it was changed, removed or inserted`,
          );
          return false;
        }
        pass(mine);
        same += mine.length;
        saw?.(mine.length);
        rest = rest.subarray(mine.length);
      }
    }
    return true;
  };

  try {
    for (const piece of pieces) {
      if (piece.offset > offset)
        problems.push(`${file}:${line}: the copy lacks the ${piece.offset - offset} bytes that follow`);
      while (offset < piece.offset) {
        const skipped = await take(piece.offset - offset);
        if (skipped.length === 0) break;
        pass(skipped);
      }
      if (!(await comparePiece(piece))) return { bytes: same, problems, notes };
    }
    let more = 0;
    for (let rest = await take(Infinity); rest.length > 0; rest = await take(Infinity)) more += rest.length;
    if (more > 0) notes.push(`${file}:${line}: ${more} bytes from here on are not copied yet`);
  } catch (error) {
    if (signal.aborted || !isFileError(error)) throw error;
    problems.push(`${file}: it cannot be read: ${messageOf(error)}`);
  } finally {
    await local.return(undefined);
  }
  return { bytes: same, problems, notes };
}

function isFileError(error: unknown): boolean {
  return (
    typeof (error as NodeJS.ErrnoException).syscall === 'string' ||
    (error as NodeJS.ErrnoException).code === 'Z_DATA_ERROR'
  );
}

async function priorOf(segment: Segment): Promise<ReadonlySet<string>> {
  for await (const bytes of segment.bytes(0))
    return new Set(splitLines(bytes).lines.flatMap((line) => readLinks(line)?.prior ?? []));
  return new Set();
}

/** Whether one of these lines is at the end of a segment that only the copy has. */
async function continues(
  prior: ReadonlySet<string>,
  segment: string,
  copies: ReadonlyMap<string, readonly Piece[]>,
  store: CopyStore,
  signal: AbortSignal,
): Promise<boolean> {
  for (const { offset } of (copies.get(segment) ?? []).slice(-4)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of store.read(chunkKey({ segment, offset }), { signal })) chunks.push(chunk);
    if (splitLines(Buffer.concat(chunks)).lines.some((line) => prior.has(hashLine(line)))) return true;
  }
  return false;
}
