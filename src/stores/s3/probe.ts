/**
 * Tries live what append-only rests on in a bucket: that an upload with `If-None-Match: *` leaves what is there, and that content which
 * does not have its signed hash is not stored; and looks at versioning and Object Lock.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { S3StoreConfig } from '../../config/types.ts';
import type { StorageCheck, StorageProbe } from '../../ports/repository-store.ts';
import { S3Refusal } from './errors.ts';
import { checksumHeaders } from './object-lock.ts';
import type { S3Client } from './s3-client.ts';
import type { HttpAnswer } from './transport.ts';
import { UploadBody } from './upload-body.ts';

/** Lies so that a policy which lets nothing but locks be removed lets this be removed too. */
const FOLDER = '.restic-gateway/probe/locks/';

/** @throws S3Refusal and what else requests throw, when it cannot be tried */
export async function probeBucket(client: S3Client, config: S3StoreConfig, signal: AbortSignal): Promise<StorageProbe> {
  const key = FOLDER + randomUUID();
  const wrongKey = `${key}-wrong`;
  /** What may be there now, and its versions as far as they are known. */
  const versions = new Map<string, string[]>();

  const put = async (to: string, text: string, hashed = text): Promise<HttpAnswer> => {
    const sha256 = createHash('sha256').update(hashed).digest('hex');
    const body = new UploadBody({ size: text.length, sha256, body: contentOf(text) });
    const known = versions.get(to) ?? [];
    versions.set(to, known);
    try {
      const headers = {
        'content-type': 'application/octet-stream',
        'if-none-match': '*',
        ...(config.objectLock !== undefined && checksumHeaders(sha256)),
      };
      const answer = await client.send({ method: 'PUT', key: to, headers, body, accept: [200, 412] }, signal);
      const version = versionOf(answer);
      if (version !== undefined) known.push(version);
      return answer;
    } finally {
      await body.release(signal);
    }
  };
  const read = async (from: string): Promise<string | undefined> => {
    try {
      return (await client.send({ method: 'GET', key: from, accept: [200] }, signal)).text;
    } catch (error) {
      if (error instanceof S3Refusal && error.noSuchKey) return undefined;
      throw error;
    }
  };

  const checks: StorageCheck[] = [];
  const shown = { neverOverwrites: false, keepsVersions: false };
  try {
    checks.push(await overwriting());
    checks.push(await wrongContent());
    checks.push({
      what: 'versioning',
      outcome: 'note',
      detail: shown.keepsVersions ? 'on: what is removed is hidden, not gone' : 'off',
    });
    checks.push(await objectLock(client, config, signal));
  } finally {
    const left = await cleanUp();
    if (left !== undefined) checks.push(left);
  }
  return { ...shown, checks };

  async function overwriting(): Promise<StorageCheck> {
    const what = 'never overwrites';
    try {
      shown.keepsVersions = versionOf(await put(key, 'first')) !== undefined;
    } catch (error) {
      if (!(error instanceof S3Refusal) || error.status !== 501) throw error;
      return { what, outcome: 'fails', detail: `the storage refuses If-None-Match: ${error.message}` };
    }
    const { status } = await put(key, 'second');
    shown.neverOverwrites = (await read(key)) === 'first' && status === 412;
    const second = 'a second upload under one name';
    if (shown.neverOverwrites) return { what, outcome: 'holds', detail: `${second} is refused, the first stays` };
    const kept = shown.keepsVersions ? '; the first stays as an older version' : '';
    return { what, outcome: 'fails', detail: `${second} replaces the first: If-None-Match is ignored${kept}` };
  }

  async function wrongContent(): Promise<StorageCheck> {
    const what = 'checks content';
    try {
      await put(wrongKey, 'other', 'right');
    } catch (error) {
      if (!(error instanceof S3Refusal) || error.status !== 400) throw error;
      if ((await read(wrongKey)) === undefined)
        return { what, outcome: 'holds', detail: 'an upload that does not have its signed hash is refused' };
    }
    return {
      what,
      outcome: 'fails',
      detail: 'an upload that does not have its signed hash is stored; only the gateway itself checks what comes in',
    };
  }

  /** Removes what was tried with; a note when something stays, which is no failure. */
  async function cleanUp(): Promise<StorageCheck | undefined> {
    let left: string | undefined;
    for (const [from, known] of versions) {
      try {
        // Not granted as a rule, but where it is nothing stays.
        for (const version of known) await client.ask((bucket) => bucket.delete(from, signal, version), signal);
        if (known.length > 0 || (await read(from)) === undefined) continue;
      } catch {
        // Hidden instead.
      }
      try {
        const outcome = await client.ask((bucket) => bucket.delete(from, signal), signal);
        if (outcome === 'hidden') left ??= `a delete marker and what it hides stay under ${FOLDER}`;
      } catch (error) {
        left = `${from} cannot be removed; remove it: ${client.failure(error, signal).message}`;
      }
    }
    return left === undefined ? undefined : { what: 'leaves nothing', outcome: 'note', detail: left };
  }
}

async function objectLock(client: S3Client, config: S3StoreConfig, signal: AbortSignal): Promise<StorageCheck> {
  const what = 'Object Lock';
  const wanted = config.objectLock;
  let lock;
  try {
    lock = await client.ask((bucket) => bucket.objectLock(signal), signal);
  } catch (error) {
    if (!(error instanceof S3Refusal)) throw error;
    if (error.status === 403)
      return {
        what,
        outcome: 'note',
        detail: 'cannot be seen: the key lacks s3:GetBucketObjectLockConfiguration, which nothing else needs',
      };
    // Without Object Lock AWS and Ceph answer 404, others that they do not know the request.
    if (error.status < 400 || (error.status >= 500 && error.status !== 501)) throw error;
    lock = { enabled: false, retention: undefined };
  }
  if (!lock.enabled)
    return wanted === undefined
      ? { what, outcome: 'note', detail: 'off' }
      : { what, outcome: 'fails', detail: 'the bucket has none; make one that has, or remove objectLock of the store' };
  if (lock.retention !== undefined)
    return {
      what,
      outcome: 'fails',
      detail: `the bucket's default retention (${lock.retention}) holds restic's locks as well; remove it, objectLock of the store does the same without`,
    };
  if (wanted === undefined)
    return { what, outcome: 'note', detail: 'on, but the store has no objectLock: nothing is retained' };
  return { what, outcome: 'holds', detail: `${wanted.mode}, ${wanted.days} days` };
}

/** The version's id; a bucket whose versioning is suspended gives all objects the same one, `null`. */
function versionOf({ headers }: HttpAnswer): string | undefined {
  const version = headers['x-amz-version-id'];
  return typeof version === 'string' && version !== 'null' ? version : undefined;
}

async function* contentOf(text: string): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(Buffer.from(text));
}
