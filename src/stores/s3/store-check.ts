/**
 * Tries live what backups rest on in a bucket: that an upload with `If-None-Match: *` leaves what is there, also among several at once;
 * that content which does not have its signed hash is not stored; that an object of a pack's size comes back; and looks at versioning and
 * Object Lock.
 */
import { createCipheriv, createHash, randomBytes, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import type { S3StoreConfig } from '../../config/types.ts';
import { getOrMake } from '../../core/get-or-make.ts';
import type { StoreCheckPoint, StoreCheckResult } from '../../ports/repository-store.ts';
import { Download } from './download.ts';
import { S3Refusal } from './errors.ts';
import { lookUp } from './look-up.ts';
import { readStat } from './metadata.ts';
import type { S3Client } from './s3-client.ts';
import { BadAnswer, type HttpAnswer } from './transport.ts';
import { UploadBody } from './upload-body.ts';

/** Lies so that a policy which lets nothing but locks be removed lets this be removed too. */
const FOLDER = '.restic-gateway/store-check/locks/';

/** restic's packs have this size by default. */
const PACK_BYTES = 16 * 1024 * 1024;

/** How many try to create one name at once. */
const RACERS = 8;

/** @throws S3Refusal and what else requests throw, when it cannot be tried */
export async function checkBucket(
  client: S3Client,
  config: S3StoreConfig,
  signal: AbortSignal,
): Promise<StoreCheckResult> {
  const key = FOLDER + randomUUID();
  const [wrongKey, raceKey, packKey] = [`${key}-wrong`, `${key}-race`, `${key}-pack`];
  /** What may be there now, and its versions as far as they are known. */
  const versions = new Map<string, string[]>();

  const put = async (to: string, content: Trial): Promise<HttpAnswer> => {
    const body = new UploadBody({ ...content, body: content.body() });
    const known = getOrMake(versions, to, () => []);
    try {
      const headers = { 'content-type': 'application/octet-stream', 'if-none-match': '*' };
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

  const checks: StoreCheckPoint[] = [];
  const shown = { neverOverwrites: false, keepsVersions: false, keepsPacks: false };
  try {
    checks.push(await overwriting());
    checks.push(await wrongContent());
    checks.push(await wholePack());
    const versioning = shown.keepsVersions ? 'on: what is removed is hidden, not gone' : 'off';
    checks.push({ what: 'versioning', outcome: 'note', detail: versioning });
    checks.push(await objectLock(client, config, signal));
  } finally {
    const left = await cleanUp(client, versions, signal);
    if (left !== undefined) checks.push(left);
  }
  return { ...shown, checks };

  async function overwriting(): Promise<StoreCheckPoint> {
    const what = 'never overwrites';
    try {
      shown.keepsVersions = versionOf(await put(key, textTrial('first'))) !== undefined;
    } catch (error) {
      if (!(error instanceof S3Refusal) || error.status !== 501) throw error;
      return { what, outcome: 'fails', detail: `the storage refuses If-None-Match: ${error.message}` };
    }
    const { status } = await put(key, textTrial('second'));
    const kept = shown.keepsVersions ? '; the first stays as an older version' : '';
    if ((await read(key)) !== 'first' || status !== 412) {
      const detail = `a second upload under one name replaces the first: If-None-Match is ignored${kept}`;
      return { what, outcome: 'fails', detail };
    }
    // One after the other is not enough: a server may look first and write then.
    const texts = Array.from({ length: RACERS }, (_, index) => `racer ${index}`);
    const raced = await Promise.all(texts.map(async (text) => (await put(raceKey, textTrial(text))).status));
    const winners = texts.filter((_, index) => raced[index] === 200);
    const taken = `of ${RACERS} uploads at once under one name ${winners.length} are taken`;
    if (winners.length === 1 && (await read(raceKey)) === winners[0]) {
      shown.neverOverwrites = true;
      return { what, outcome: 'holds', detail: 'a second upload under one name is refused, the first stays' };
    }
    // Measured on Ceph 20 with versioning. What races can only be the same bytes, as they hash to their name, and none of them is lost.
    if (shown.keepsVersions && winners.length > 0) {
      shown.neverOverwrites = true;
      const detail = `a second upload under one name is refused; ${taken}, each as a version of its own, so that none is lost`;
      return { what, outcome: 'holds', detail };
    }
    return { what, outcome: 'fails', detail: `${taken} instead of one: the storage looks before it writes` };
  }

  async function wrongContent(): Promise<StoreCheckPoint> {
    const what = 'checks content';
    try {
      await put(wrongKey, { ...textTrial('other'), sha256: textTrial('right').sha256 });
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

  /** Small ones pass where a proxy's limit, a scanner or a cache keeps the large ones, and packs are what backups consist of. */
  async function wholePack(): Promise<StoreCheckPoint> {
    const what = 'keeps packs';
    const size = `${PACK_BYTES / 1024 / 1024} MiB`;
    const pack = packTrial();
    try {
      await put(packKey, pack);
      const answer = await lookUp(client, packKey, {}, signal);
      const problem = answer === undefined ? 'is not there' : await differs(client, packKey, pack, answer, signal);
      if (problem === undefined) {
        shown.keepsPacks = true;
        return { what, outcome: 'holds', detail: `an object of ${size} comes back as it was stored` };
      }
      return {
        what,
        outcome: 'fails',
        detail: `an object of ${size} that was answered as stored ${problem}: a cache or a proxy between the gateway and the storage loses what it takes; take it out of the way`,
      };
    } catch (error) {
      if (signal.aborted) throw error;
      const { message } = client.failure(error, signal);
      return { what, outcome: 'fails', detail: `small objects pass, and one of ${size} does not: ${message}` };
    }
  }
}

/** What is wrong with a pack that was stored, if something is. */
async function differs(
  client: S3Client,
  key: string,
  pack: Trial,
  answer: HttpAnswer,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { size: stored } = readStat(answer);
  if (stored !== PACK_BYTES) return `has ${stored} bytes`;
  const { stream } = await client.send({ method: 'GET', key, streamed: true, accept: [200] }, signal);
  if (stream === undefined) return 'cannot be read';
  const hash = createHash('sha256');
  const body = new Download(stream, stored, client.idleMs, signal, (error) => client.failure(error, signal));
  for await (const chunk of body) hash.update(chunk);
  return hash.digest('hex') === pack.sha256 ? undefined : 'comes back with other content';
}

/** Removes what was tried with; a note that names what stays, which is no failure. */
async function cleanUp(
  client: S3Client,
  versions: ReadonlyMap<string, readonly string[]>,
  signal: AbortSignal,
): Promise<StoreCheckPoint | undefined> {
  const stays: string[] = [];
  const hidden: string[] = [];
  for (const [from, known] of versions) {
    try {
      // Not granted as a rule, but where it is nothing stays.
      for (const version of known) await client.remove(from, signal, version);
      if ((await lookUp(client, from, {}, signal)) === undefined) continue;
    } catch {
      // Hidden instead.
    }
    try {
      if ((await client.remove(from, signal)) === 'hidden') hidden.push(from);
      if ((await lookUp(client, from, {}, signal)) !== undefined)
        throw new BadAnswer('it was answered as removed, and is there');
    } catch (error) {
      stays.push(`${from} cannot be removed; remove it: ${client.failure(error, signal).message}`);
    }
  }
  if (hidden.length > 0) stays.push(`a delete marker and what it hides stay for ${hidden.join(', ')}`);
  return stays.length === 0 ? undefined : { what: 'leaves nothing', outcome: 'note', detail: stays.join('; ') };
}

async function objectLock(client: S3Client, config: S3StoreConfig, signal: AbortSignal): Promise<StoreCheckPoint> {
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

/** Content to try with, which can be read more than once. */
interface Trial {
  readonly size: number;
  readonly sha256: string;
  readonly body: () => AsyncIterable<Uint8Array>;
}

function textTrial(text: string): Trial {
  return trialOf(text.length, () => [Buffer.from(text)]);
}

/** Of a pack's size, like a pack incompressible, and never the same twice; made piece by piece, so that it is never held whole. */
function packTrial(): Trial {
  const key = randomBytes(32);
  return trialOf(PACK_BYTES, function* () {
    const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
    const zeros = Buffer.alloc(256 * 1024);
    for (let made = 0; made < PACK_BYTES; made += zeros.length) yield cipher.update(zeros);
  });
}

function trialOf(size: number, pieces: () => Iterable<Uint8Array>): Trial {
  const hash = createHash('sha256');
  for (const piece of pieces()) hash.update(piece);
  return { size, sha256: hash.digest('hex'), body: () => Readable.from(pieces(), { objectMode: true }) };
}
