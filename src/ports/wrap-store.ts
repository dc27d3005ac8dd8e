/** Puts something around a repository's store. */
import type { RepositoryStore } from './repository-store.ts';

/** A store that does what `inner` does, but for the methods that `outer` has. */
export function wrapStore(inner: RepositoryStore, outer: Partial<RepositoryStore>): RepositoryStore {
  return {
    create: (ref, content, uploader, options) => inner.create(ref, content, uploader, options),
    load: (ref, range, options) => inner.load(ref, range, options),
    stat: (ref, options) => inner.stat(ref, options),
    remove: (ref, options) => inner.remove(ref, options),
    list: (type, options) => inner.list(type, options),
    ...outer,
  };
}
