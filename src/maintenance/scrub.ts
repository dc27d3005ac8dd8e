/** Reads every object of a repository and holds its content against its name; needs no restic and no password. */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { asGatewayError } from '../core/errors.ts';
import { foreignPlace, NAMED_TYPES, parseObjectKey } from '../core/object.ts';
import type { RepositoryMaintenance, StoredFile } from '../ports/repository-maintenance.ts';
import { inPool } from './pool.ts';
import type { Finding, PartResult, ScrubResult, ScrubState } from './scrub-state.ts';

/** Parts of the repository that are read at once, and objects at once in a part of small ones. */
const PARTS = 8;
const SMALL_OBJECTS = 4;
/** How many files and directories that are not restic's are named. */
const MOST_FOREIGN = 20;

/** How far a scrub is. */
export interface ScrubProgressReport {
  readonly objects: number;
  readonly bytes: number;
  readonly totalObjects: number;
  readonly totalBytes: number;
  /** Bytes of this run alone, for its rate. */
  readonly bytesNow: number;
}

/** What a scrub needs. */
interface ScrubRequest {
  readonly repository: { readonly store: string; readonly prefix: string };
  readonly maintenance: RepositoryMaintenance;
  readonly state: ScrubState;
  /** By names, sizes and the checksums that the store keeps; contents are not read. */
  readonly quick: boolean;
  /** Leaves aside how far an earlier one came. */
  readonly restart: boolean;
  /** The most to read, in bytes a second; undefined: as fast as it goes. */
  readonly bytesPerSecond: number | undefined;
  /** Stops it, keeping the progress. */
  readonly signal: AbortSignal;
  /** Called when an unfinished scrub is taken up. @param started - ISO 8601 */
  readonly resuming: (started: string) => void;
  /** Called often; must be cheap. */
  readonly progress: (progress: ScrubProgressReport) => void;
}

/**
 * Scrubs a repository. What vanishes while it runs (locks, what the admin prunes) is left out.
 * @returns undefined when it was stopped; its progress is then kept, but for the parts that were under way
 * @throws GatewayError when the storage fails as a whole; its progress is then kept too
 */
export async function scrub(request: ScrubRequest): Promise<ScrubResult | undefined> {
  const { maintenance, state, quick, repository } = request;
  const earlier = request.restart ? undefined : await state.readProgress();
  const resumed = earlier?.quick === quick ? earlier : undefined;
  if (resumed !== undefined) request.resuming(resumed.started);
  const started = resumed?.started ?? new Date().toISOString();
  const parts: Record<string, PartResult> = { ...resumed?.parts };
  // One that fails ends the others.
  const stop = new AbortController();
  const signal = AbortSignal.any([request.signal, stop.signal]);
  // As many listen as there are reads under way, and that is no leak to be warned of.
  setMaxListeners(0, signal);
  const run: Run = {
    maintenance,
    quick,
    signal,
    pace: makePace(request.bytesPerSecond, signal),
    onProgress: () => undefined,
  };

  let saving = Promise.resolve();
  try {
    const survey = await takeSurvey(maintenance, signal);
    let { objects, bytes } = sumOf(Object.values(parts));
    let bytesNow = 0;
    run.onProgress = (moreObjects, moreBytes) => {
      objects += moreObjects;
      bytes += moreBytes;
      bytesNow += moreBytes;
      request.progress({ objects, bytes, bytesNow, totalObjects: survey.objects, totalBytes: survey.bytes });
    };
    const left = [...survey.parts].filter((part) => parts[part] === undefined);
    await inPool(left, PARTS, async (part) => {
      parts[part] = await scrubPart(run, part);
      // One after the other, each with all that is done by then.
      saving = saving.then(() => state.writeProgress({ v: 1, started, quick, parts }));
      await saving;
    });
    const total = sumOf(Object.values(parts));
    const result: ScrubResult = {
      ...{ v: 1, ...repository, started, finished: new Date().toISOString(), quick },
      ...{ objects: total.objects, bytes: total.bytes },
      ...{ foreign: survey.foreign, foreignKeys: survey.foreignKeys },
      findings: [...survey.findings, ...Object.values(parts).flatMap(({ findings }) => findings)],
    };
    await state.finish(result);
    return result;
  } catch (error) {
    stop.abort();
    await saving.catch(() => undefined);
    if (request.signal.aborted) return undefined;
    throw error;
  }
}

interface Run {
  readonly maintenance: RepositoryMaintenance;
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly pace: (bytes: number) => Promise<void>;
  onProgress: (objects: number, bytes: number) => void;
}

interface Survey extends PartResult, Pick<ScrubResult, 'foreign' | 'foreignKeys'> {
  readonly parts: ReadonlySet<string>;
}

/** What there is to be read, and what does not belong there. */
async function takeSurvey(maintenance: RepositoryMaintenance, signal: AbortSignal): Promise<Survey> {
  const parts = new Set<string>();
  const findings: Finding[] = [];
  const foreignKeys: string[] = [];
  let foreign = 0;
  let last: string | undefined;
  let objects = 0;
  let bytes = 0;
  for await (const page of maintenance.files('', { signal }))
    for (const { key, size } of page) {
      if (parseObjectKey(key) === undefined) {
        // What is in one directory comes one after the other.
        const place = foreignPlace(key);
        if (place !== last) {
          foreign += 1;
          if (foreignKeys.length < MOST_FOREIGN) foreignKeys.push(place);
        }
        last = place;
        continue;
      }
      objects += 1;
      bytes += size;
      parts.add(key.slice(0, key.lastIndexOf('/') + 1) || key);
    }
  if (objects > 0 && !parts.has('config'))
    findings.push({ key: 'config', problem: 'missing', detail: 'without it no restic opens the repository' });
  return { parts, findings, objects, bytes, foreign, foreignKeys };
}

async function scrubPart(run: Run, part: string): Promise<PartResult> {
  const findings: Finding[] = [];
  let objects = 0;
  let bytes = 0;
  const check = async (file: Pick<StoredFile, 'key'>): Promise<void> => {
    if (parseObjectKey(file.key) === undefined) return;
    const { size, finding } = await checkObject(run, file.key);
    if (size === undefined) return;
    objects += 1;
    bytes += size;
    if (finding !== undefined) findings.push(finding);
    run.onProgress(1, run.quick ? size : 0);
  };
  if (part === 'config') await check({ key: part });
  else
    for await (const page of run.maintenance.files(part, { signal: run.signal }))
      await inPool(page, NAMED_TYPES.some((type) => part === `${type}/`) ? SMALL_OBJECTS : 1, check);
  return { objects, bytes, findings };
}

interface Checked {
  /** Undefined when it is gone. */
  readonly size: number | undefined;
  readonly finding?: Finding;
}

async function checkObject(run: Run, key: string): Promise<Checked> {
  try {
    const { size, sha256 } = run.quick ? await storedFacts(run, key) : await readWhole(run, key);
    if (size === 0) return { size, finding: { key, problem: 'empty', detail: 'it has no content' } };
    const wanted =
      key === 'config'
        ? (await run.maintenance.facts(key, { signal: run.signal }))?.arrivedSha256
        : key.slice(key.lastIndexOf('/') + 1);
    if (size === undefined || sha256 === undefined || wanted === undefined || sha256 === wanted) return { size };
    const detail = `its ${size} bytes hash to ${sha256}`;
    return { size, finding: { key, problem: 'damaged', detail } };
  } catch (error) {
    if (run.signal.aborted) throw error;
    const failure = asGatewayError(error);
    if (failure.code === 'not-found') return { size: undefined };
    // A storage that is down as a whole says so by other codes: then nothing is known of the object.
    if (failure.code !== 'store-failed') throw error;
    return { size: 0, finding: { key, problem: 'unreadable', detail: failure.message } };
  }
}

interface Facts {
  readonly size: number | undefined;
  readonly sha256: string | undefined;
}

async function storedFacts({ maintenance, signal }: Run, key: string): Promise<Facts> {
  const facts = await maintenance.facts(key, { signal });
  return { size: facts?.size, sha256: facts?.sha256 };
}

async function readWhole({ maintenance, signal, pace, onProgress }: Run, key: string): Promise<Facts> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of maintenance.read(key, { signal })) {
    hash.update(chunk);
    size += chunk.length;
    onProgress(0, chunk.length);
    await pace(chunk.length);
  }
  return { size, sha256: hash.digest('hex') };
}

/** Makes what was read wait so long that all readers together keep to the rate. */
function makePace(bytesPerSecond: number | undefined, signal: AbortSignal): (bytes: number) => Promise<void> {
  if (bytesPerSecond === undefined) return () => Promise.resolve();
  let due = performance.now();
  return async (bytes) => {
    const now = performance.now();
    due = Math.max(due, now) + (bytes / bytesPerSecond) * 1000;
    await sleep(due - now, undefined, { signal });
  };
}

function sumOf(parts: readonly PartResult[]): { objects: number; bytes: number } {
  return {
    objects: parts.reduce((sum, part) => sum + part.objects, 0),
    bytes: parts.reduce((sum, part) => sum + part.bytes, 0),
  };
}
