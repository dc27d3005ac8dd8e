/**
 * Who brought an object, in a side file: `.restic-gateway/origin/<key>.json` in the repository, and beside it, as `<key>.origin.json`, for one
 * that lies in the gateway's own directory.
 *
 * The side file says which object it is about, by the time of its last write. So it counts for no other object, whatever died or raced
 * between the link of one and the rename of the other; an object whose side file is missing or about another simply has no known uploader. It is
 * written whole before the object becomes visible and put in its place by the one who created the object, after that. It is not synced:
 * it matters while a lock lives.
 */
import { rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isPrintable } from '../../core/printable.ts';
import type { Uploader } from '../../core/principal.ts';
import { isPrivate, PRIVATE_DIRECTORY } from '../../ports/repository-maintenance.ts';
import type { Steps } from './bounded.ts';
import { errnoOf } from './failures.ts';
import { createFile, openRegular, type Modes } from './files.ts';
import { machineMoment } from './machine-clock.ts';

const BESIDE = '.origin.json';

/** Whether a key is that of a side file beside its object. */
export function isBesideObject(key: string): boolean {
  return key.endsWith(BESIDE) && isPrivate(key);
}

/** The side file of a key. @param home - of the repository */
export function uploaderFile(home: string, key: string): string {
  if (isPrivate(key)) return join(home, key + BESIDE);
  return join(home, PRIVATE_DIRECTORY, 'origin', `${key}.json`);
}

/**
 * Writes the side file under a temporary name.
 * @param object.modifiedNs - its time of last write in ns since 1970
 * @param object.sha256 - of its content, where its name does not say it
 */
export async function writeUploader(
  steps: Steps,
  temporary: string,
  uploader: Uploader,
  { modifiedNs, sha256 }: { readonly modifiedNs: bigint; readonly sha256: string | undefined },
  modes: Modes,
): Promise<void> {
  const { boot, ms } = machineMoment();
  const when = { time: new Date().toISOString(), boot, bootMs: ms, sha256, modifiedNs: String(modifiedNs) };
  const text = `${JSON.stringify({ ...uploader, ...when })}\n`;
  const handle = await createFile(steps, temporary, modes);
  try {
    await steps.io(() => handle.writeFile(text));
  } finally {
    await steps.cleanUp(() => handle.close());
  }
}

/** Puts it in its place. */
export async function putUploader(steps: Steps, temporary: string, path: string): Promise<void> {
  await steps.io(() => rename(temporary, path));
}

/** An object's uploader, and when it came by the gateway's clock, where that was noted. */
interface RecordedUploader {
  readonly uploader: Uploader;
  readonly arrived: Date | undefined;
  /**
   * For how long it has been there by a clock that nobody sets, in ms; undefined when the machine was started anew since. A clock that is
   * set ahead must not make a fresh lock a stale one.
   */
  readonly ageMs: number | undefined;
  /** Of the content that came, where it was noted. */
  readonly sha256: string | undefined;
}

/** The uploader of the object whose last write was at `modifiedNs`, or undefined when none is known. */
export async function readUploader(
  steps: Steps,
  path: string,
  modifiedNs: bigint,
): Promise<RecordedUploader | undefined> {
  const text = await readText(steps, path);
  return text === undefined ? undefined : parse(text, String(modifiedNs));
}

/** Some 300 bytes. */
const MOST_BYTES = 4096;

/** Undefined where there is none, and for one so long that nobody wrote it. @throws as `openRegular` for what is no file */
async function readText(steps: Steps, path: string): Promise<string | undefined> {
  const opened = await openRegular(steps, path);
  if (opened === undefined) return undefined;
  const { handle, size } = opened;
  try {
    if (size > MOST_BYTES) return undefined;
    const { buffer, bytesRead } = await steps.io(() => handle.read(Buffer.alloc(size), 0, size, 0));
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await steps.cleanUp(() => handle.close());
  }
}

/** Removes the side file, if there is one. To be done before the object itself is removed: after it, it could be the next one's. */
export async function removeUploader(steps: Steps, path: string): Promise<void> {
  try {
    await steps.io(() => unlink(path));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

// A machine that crashed may have left it empty or torn.
function parse(text: string, wantedNs: string): RecordedUploader | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { client, via, session, time, boot, bootMs, sha256, modifiedNs } = value as Readonly<Record<string, unknown>>;
  if (modifiedNs !== wantedNs || !isWord(client) || !isWord(session)) return undefined;
  if (via !== 'ssh' && via !== 'stdio' && via !== 'admin') return undefined;
  const arrived = new Date(typeof time === 'string' ? time : Number.NaN);
  const now = machineMoment();
  const comparable = now.boot !== undefined && boot === now.boot && Number.isSafeInteger(bootMs);
  return {
    uploader: { client, via, session },
    arrived: Number.isNaN(arrived.getTime()) ? undefined : arrived,
    sha256: typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256) ? sha256 : undefined,
    ageMs: comparable ? Math.max(0, now.ms - Number(bootMs)) : undefined,
  };
}

/** A name or an id, which is the same for the store. */
function isWord(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= 200 && isPrintable(value);
}
