/**
 * What a front end needs of the gateway: to open a session for a principal it has authenticated, on a duplex stream it has made.
 */
import type { Duplex } from 'node:stream';
import type { EndReason } from './audit-sink.ts';
import type { Principal } from '../core/principal.ts';

/** A session that is being served. */
export interface Session {
  readonly id: string;
  /** Resolves when the session has ended, its audit written; never rejects. */
  readonly ended: Promise<EndReason>;
  /** Ends it: requests under way are cut off. */
  close(reason: EndReason): void;
}

/** A session as a front end asks for it. */
export interface SessionRequest {
  readonly principal: Principal;
  /** HTTP/2 in both directions. The session takes it over and destroys it at the end. */
  readonly stream: Duplex;
  /** Lets the peer send so many bytes ahead on that stream from now on; undefined where that is not ours to say. */
  readonly widen?: ((bytes: number) => void) | undefined;
  /** Says one plain line to the person at the client; without a line break. */
  readonly notify: (line: string) => void;
  /** Called once, just before the stream is destroyed: the last moment to give the peer an exit status. */
  readonly ending: (reason: EndReason) => void;
  /** Its connection has no share of the process's descriptors: it is refused, so that those who have one keep it. */
  readonly isCrowdedOut?: boolean;
  /**
   * Asked when the client has as many sessions as it may: ends one of its connections that has not been heard of for a while.
   * Resolves when the sessions there have ended, to whether there was one. Never rejects.
   */
  readonly makeRoom?: (() => Promise<boolean>) | undefined;
  /** Of the admin's, who is to have the repository for itself: how its clients' runs are dealt with. */
  readonly hold?: HoldRequest | undefined;
  /** Of the admin's: removes snapshots that are protected, too. Means nothing in a client's session. */
  readonly overrideProtect?: boolean | undefined;
}

/** How the runs of clients are dealt with that hold a lock when the admin wants the repository alone. */
export interface HoldRequest {
  /** For how long to wait for them, in ms. */
  readonly waitMs: number;
  /** Whether their sessions are ended after that. */
  readonly endSessions: boolean;
}

/**
 * Opens sessions.
 * @throws GatewayError `session-refused` (its message is one plain line for the client), `audit-unavailable`
 */
export type OpenSession = (request: SessionRequest) => Promise<Session>;
