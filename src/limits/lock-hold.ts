/**
 * Makes no locks for clients while an admin's session holds the repository (`admin-hold.ts`), but for runs that had one before and go on.
 */
import { GatewayError } from '../core/errors.ts';
import type { ObjectName } from '../core/object.ts';
import type { Content, RepositoryStore } from '../ports/repository-store.ts';
import { wrapStore } from '../ports/wrap-store.ts';

/** The holds of a repository, as `state` keeps them: the comments are there. */
export interface Holds {
  held(): 'waiting' | 'closed' | undefined;
  making(): () => void;
  hold(): Hold;
}

/** A hold of one's own. */
export interface Hold {
  set(phase: 'waiting' | 'closed', end?: readonly string[]): void;
  settled(signal: AbortSignal): Promise<void>;
  release(): void;
}

/** Makes no lock while an admin holds the repository, but for a session that had one before and may go on with it. */
export function heedHolds(store: RepositoryStore, holds: () => Holds): RepositoryStore {
  /** Locks of this session. */
  const own = new Set<ObjectName>();
  const assertFree = (): void => {
    const held = holds().held();
    if (held === 'closed' || (held === 'waiting' && own.size === 0)) throw new GatewayError('held-by-admin');
  };
  return wrapStore(store, {
    create: async (ref, content, uploader, options) => {
      if (ref.type !== 'locks') return store.create(ref, content, uploader, options);
      // Before its body is read, so that the audit need not announce it; and then once more.
      assertFree();
      const whole = await gather(content);
      const made = holds().making();
      try {
        assertFree();
        const outcome = await store.create(ref, whole, uploader, options);
        if (outcome !== 'created') return outcome;
        // A storage that took longer than the admin waits for it.
        if (holds().held() === 'closed') {
          await store.remove(ref, options);
          throw new GatewayError('held-by-admin');
        }
        own.add(ref.name);
        return outcome;
      } finally {
        made();
      }
    },
    remove: async (ref, options) => {
      const outcome = await store.remove(ref, options);
      if (ref.type === 'locks') own.delete(ref.name);
      return outcome;
    },
  });
}

/** Reads the content whole, so that the time between being let through and being made is none of the client's. A lock is small. */
async function gather({ size, sha256, body }: Content): Promise<Content> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  // eslint-disable-next-line @typescript-eslint/require-await -- there is nothing left to wait for
  async function* gathered(): AsyncGenerator<Uint8Array> {
    yield* chunks;
  }
  return { size, sha256, body: gathered() };
}
