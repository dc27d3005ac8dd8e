/**
 * The other processes that take turns at this one's port. What each counts by itself holds over all of them by what they tell each other:
 * a moment later, and so by a few more than may be where many come at once.
 */

/** What one tells all others. */
export type News =
  /** So many connections of a client are logged in here. */
  | { readonly kind: 'connections'; readonly client: string; readonly count: number }
  /** A login from an address has failed. */
  | { readonly kind: 'login-failed'; readonly address: string }
  /** A session from an address was let in, so that what failed before counts no more. */
  | { readonly kind: 'login-succeeded'; readonly address: string };

/** What hears of the others. Nothing here may throw. */
export interface SiblingListener {
  /** @param from - which of them, by a number that is never given again */
  heard(from: number, news: News): void;
  /** Another one has come, which knows of nothing that was told before. */
  came(): void;
  /** One has ended, with all that it had. */
  gone(from: number): void;
  /** Another one asks for a place for a client: as `Siblings.makeRoom`, here. */
  makeRoom(client: string): Promise<boolean>;
}

/** The others. */
export interface Siblings {
  tell(news: News): void;
  listen(listener: SiblingListener): void;
  /**
   * Has them end one of a client's connections that has not been heard of for a while: one of them after the other, until one had one.
   * Resolves when the sessions there have ended, to whether there was one. Never rejects.
   */
  makeRoom(client: string): Promise<boolean>;
}

/** For a process that serves alone. */
export const NO_SIBLINGS: Siblings = {
  tell: () => undefined,
  listen: () => undefined,
  makeRoom: () => Promise.resolve(false),
};
