/** Every method of a repository store as a call that can be named in a table, and what is said of its outcome. */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../../src/core/errors.ts';
import { parseObjectName, type NamedType, type ObjectRef } from '../../src/core/object.ts';
import type { Uploader } from '../../src/core/principal.ts';
import type { Content, LoadedObject, Storage } from '../../src/ports/repository-store.ts';

export const UPLOADER: Uploader = { client: 'appsrv', via: 'ssh', session: 'session-1' };
export const NEVER = { signal: new AbortController().signal };
// Shared by calls that run at once.
setMaxListeners(0, NEVER.signal);
export const MIB = 1024 * 1024;
/** The repository that the calls are about. */
export const PREFIX = 'repository';

export const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The object that is named by this content. */
export function refOf(bytes: Uint8Array, type: NamedType = 'data'): ObjectRef & { readonly type: NamedType } {
  const name = parseObjectName(hashOf(bytes));
  if (name === undefined) throw new Error('a hash is a name');
  return { type, name };
}

/** The content in chunks of 64 KiB. */
export function contentOf(bytes: Uint8Array): Content {
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 65_536) {
      await new Promise(setImmediate);
      yield bytes.subarray(at, at + 65_536);
    }
  }
  return { size: bytes.length, sha256: hashOf(bytes), body: body() };
}

export async function readAll(loaded: LoadedObject): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of loaded.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function listAll(storage: Storage, type: NamedType, prefix = PREFIX): Promise<string[]> {
  const names: string[] = [];
  for await (const page of storage.repository(prefix).list(type, NEVER)) names.push(...page.map(({ name }) => name));
  return names.sort();
}

/** What the calls work on. */
export interface CallSubjects {
  /** Stored already. */
  readonly there: Uint8Array;
  /** Not stored yet, under 1 MiB and over it. */
  readonly small: Uint8Array;
  readonly large: Uint8Array;
}

/** Each resolves to something that shows it did what it should: see `SUCCESS`. */
export const CALLS = {
  'create of a small object': (storage, { small }) => create(storage, small),
  'create of a large object': (storage, { large }) => create(storage, large),
  load: async (storage, { there }) => {
    const loaded = await storage.repository(PREFIX).load(refOf(there), { first: 10 }, NEVER);
    return hashOf(await readAll(loaded)) === hashOf(there.subarray(10));
  },
  stat: async (storage, { there }) =>
    (await storage.repository(PREFIX).stat(refOf(there), NEVER))?.size === there.length,
  list: async (storage, { there }) => (await listAll(storage, 'data')).includes(hashOf(there)),
  reach: async (storage) => {
    await storage.reach(NEVER);
    return true;
  },
  // Last, so that all of them can be done one after the other.
  remove: (storage, { there }) => storage.repository(PREFIX).remove(refOf(there), NEVER),
} as const satisfies Record<string, (storage: Storage, subjects: CallSubjects) => Promise<unknown>>;

/** A name in `CALLS`. */
export type CallName = keyof typeof CALLS;

/** What each call resolves to when everything is OK. */
export const SUCCESS: Readonly<Record<CallName, unknown>> = {
  'create of a small object': 'created',
  'create of a large object': 'created',
  load: true,
  stat: true,
  remove: 'removed',
  list: true,
  reach: true,
};

export const create = (storage: Storage, bytes: Uint8Array): Promise<'created' | 'exists'> =>
  storage.repository(PREFIX).create(refOf(bytes), contentOf(bytes), UPLOADER, NEVER);

/** What a promise resolves to, or the GatewayError it rejects with; any other error fails the test. */
export async function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw new Error('threw something else than a GatewayError', { cause: error });
  }
}

/** The code of the GatewayError that a promise rejects with, or what it resolves to. */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  const outcome = await outcomeOf(promise);
  return outcome instanceof GatewayError ? outcome.code : outcome;
}

/** Waits until it holds, and fails after 20 s. */
export async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries === 4000) throw new Error(`did not come to hold: ${holds.toString()}`);
    await sleep(5);
  }
}
