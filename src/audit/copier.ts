/**
 * Copies the audit, piece by piece and each piece once. How far a copy has come is in its own keys, so nothing is kept beside it, and
 * a restart, a second copier, or an answer that was lost make neither a hole nor a second copy of a line.
 */
import { GatewayError, messageOf } from '../core/errors.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import { LINE_BREAK } from './lines.ts';
import { inodeOf, statOrNone } from './open-file.ts';
import { auditFiles } from './read.ts';
import { chunkKey, openSegment, parseChunkKey, type Segment } from './segments.ts';

/** The most that goes into one object. */
const MOST_BYTES = 4 * 1024 * 1024;
/** How often another copier may be quicker, one after the other. */
const MOST_RACES = 5;

/** A part of a file that is to be copied. */
interface Part {
  readonly from: number;
  /** Where the next chunk begins that is there already; undefined: there is none after it. */
  readonly to: number | undefined;
}

/**
 * @param options.file - the audit's absolute path
 * @param options.made - hears how many bytes more were copied
 */
export function createCopier({
  file,
  store,
  made,
}: {
  readonly file: string;
  readonly store: CopyStore;
  readonly made?: ((bytes: number) => void) | undefined;
}) {
  /** Up to where each segment is copied, as far as this copier knows. */
  const copied = new Map<string, number>();
  /** Rotated files that are copied to their end, as they were then: they are not read, and packed ones not unpacked, each time anew. */
  let whole: ReadonlySet<string> = new Set();

  /** What the copy lacks of a segment, the open end included. */
  const missing = async (segment: string, signal: AbortSignal): Promise<readonly Part[]> => {
    const known = copied.get(segment);
    if (known !== undefined) return [{ from: known, to: undefined }];
    const chunks: { readonly offset: number; readonly size: number }[] = [];
    for await (const page of store.files(`${segment}/`, { signal }))
      for (const { key, size } of page) {
        const chunk = parseChunkKey(key);
        if (chunk !== undefined) chunks.push({ offset: chunk.offset, size });
      }
    chunks.sort((a, b) => a.offset - b.offset);
    const parts: Part[] = [];
    let end = 0;
    for (const { offset, size } of chunks) {
      if (offset > end) parts.push({ from: end, to: offset });
      end = Math.max(end, offset + size);
    }
    return [...parts, { from: end, to: undefined }];
  };

  const copyPart = async (segment: Segment, part: Part, signal: AbortSignal): Promise<number> => {
    const { file: name, id } = segment;
    const create = async (offset: number, bytes: Buffer): Promise<void> => {
      if ((await store.create(chunkKey({ segment: id, offset }), bytes, { signal })) === 'exists') throw new Raced();
      if (part.to === undefined) copied.set(id, offset + bytes.length);
      made?.(bytes.length);
    };
    let from = part.from;
    let waiting = Buffer.alloc(0);
    for await (const read of segment.bytes(from)) {
      waiting = Buffer.concat([
        waiting,
        part.to === undefined ? read : read.subarray(0, part.to - from - waiting.length),
      ]);
      while (waiting.length >= MOST_BYTES) {
        const whole = waiting.lastIndexOf(LINE_BREAK, MOST_BYTES - 1) + 1;
        const bytes = waiting.subarray(0, whole === 0 ? MOST_BYTES : whole);
        await create(from, bytes);
        from += bytes.length;
        waiting = waiting.subarray(bytes.length);
      }
      if (part.to !== undefined && from + waiting.length === part.to) break;
    }
    // A line without its end is being written, unless the file was rotated away: then a crash has left it so.
    const end = name === file && part.to === undefined ? waiting.lastIndexOf(LINE_BREAK) + 1 : waiting.length;
    if (end > 0) await create(from, waiting.subarray(0, end));
    return from + end - part.from;
  };

  const copySegment = async (segment: Segment, signal: AbortSignal): Promise<number> => {
    let bytes = 0;
    for (let races = 1; ; races++)
      try {
        const parts = await missing(segment.id, signal);
        const [last] = parts.slice(-1);
        if (last !== undefined && (await isShorter(segment, last.from)))
          throw new GatewayError('audit-unavailable', {
            detail: `${segment.file} is shorter than its copy: it was cut off; audit verify --copy says where`,
          });
        for (const part of parts) bytes += await copyPart(segment, part, signal);
        if (last !== undefined && !copied.has(segment.id)) copied.set(segment.id, last.from);
        return bytes;
      } catch (error) {
        if (!(error instanceof Raced)) throw error;
        copied.delete(segment.id);
        if (races === MOST_RACES)
          throw new GatewayError('store-unavailable', { detail: 'another copier was quicker each time', cause: error });
      }
  };

  return {
    /**
     * Copies what has come since.
     * @returns how many bytes
     * @throws GatewayError `audit-unavailable` when the audit cannot be read or is shorter than its copy, and what the store throws; what
     * else there was is copied all the same where it could be
     */
    run: async (signal: AbortSignal): Promise<number> => {
      let bytes = 0;
      let failure: GatewayError | undefined;
      const wholeNow = new Set<string>();
      for (const name of await auditFiles(file))
        try {
          // Before it is opened: what comes into it or into its place after that is looked at the next time.
          const version = name === file ? undefined : await versionOf(name);
          if (version !== undefined && whole.has(version)) {
            wholeNow.add(version);
            continue;
          }
          const segment = await openSegment(name);
          if (segment === undefined) continue;
          try {
            bytes += await copySegment(segment, signal);
          } finally {
            await segment.close();
          }
          if (version !== undefined) wholeNow.add(version);
        } catch (error) {
          if (signal.aborted) throw error;
          // Renamed while it was looked at: it is found under its new name next time.
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
          failure ??=
            error instanceof GatewayError
              ? error
              : new GatewayError('audit-unavailable', { detail: `${name}: ${messageOf(error)}`, cause: error });
        }
      whole = wholeNow;
      if (failure !== undefined) throw failure;
      return bytes;
    },
  };
}

/** What a file is known by whose name rotation changes; undefined for one that is gone. */
async function versionOf(file: string): Promise<string | undefined> {
  const stats = await statOrNone(file);
  return stats && `${inodeOf(stats)} ${stats.size} ${stats.mtimeMs}`;
}

/** Another copier has made the object. */
class Raced extends Error {}

async function isShorter(segment: Segment, length: number): Promise<boolean> {
  if (length === 0) return false;
  for await (const bytes of segment.bytes(length - 1)) return bytes.length === 0;
  return true;
}
