/**
 * Holds a session's requests to the rates of its client and to its turn among the others. What may go on at once is not waited for: each of
 * these returns undefined then, so that a piece of a body costs no promise.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { asGatewayError, GatewayError } from '../core/errors.ts';
import type { Rate } from '../ports/throttle.ts';
import type { HandlerContext } from './context.ts';
import { hold } from './http2-session.ts';
import type { Reports } from './reports.ts';
import type { Pace } from './responses.ts';
import { STREAM_WINDOW } from './stream-memory.ts';

/** A rate that has made a session wait for less than this, in ms, is not worth a word. */
const WORTH_REPORTING_MS = 1000;

/** What the user is told of a rate. */
const SLOWED: Readonly<Record<Rate, string>> = {
  upload: 'uploads are slowed down to',
  download: 'downloads are slowed down to',
  requests: 'requests are slowed down to',
  'small-objects': 'small objects are slowed down to',
};

/** The pace of one session. Its promises reject with GatewayError `client-gone` when the signal aborts first. */
export interface Pacing {
  /** A request that came. @throws GatewayError `too-many-requests` when the wait would be too long */
  begin(stream: ServerHttp2Stream, signal: AbortSignal): Promise<void> | undefined;
  /** An object that is to be made. @throws GatewayError `too-many-objects` when the wait would be too long */
  object(stream: ServerHttp2Stream, size: number, signal: AbortSignal): Promise<void> | undefined;
  /** The pace of a body on its way in or out. @param moving - told of every piece's length in bytes, before it is waited for */
  body(
    direction: 'upload' | 'download',
    stream: ServerHttp2Stream,
    signal: AbortSignal,
    moving: (bytes: number) => void,
  ): Pace;
  /** The request is over: what has come of its body and was not read counts, too. */
  end(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
}

/** Makes the pace of one session. */
export function createPacing({ identity, throttle, turns, records, log }: HandlerContext, reports: Reports): Pacing {
  /** How long each rate has made requests wait, all of them together, in ms. */
  const waited = new Map<Rate, number>();

  /** Tells a rate that has made the session wait for long enough, once. */
  const notifyOf = async (rate: Rate): Promise<void> => {
    if (throttle === undefined) return;
    const limit = throttle.describe(rate);
    reports.notifyOnce(rate, `${SLOWED[rate]} ${limit}, the most that client ${identity.principal.client} may.`);
    try {
      await records.record(identity, { kind: 'throttled', reason: rate, limit });
    } catch (error) {
      // Whoever changes something hears of it, and reading goes on.
      log.error({ err: error, session: identity.session }, asGatewayError(error).message);
    }
  };

  /** Waits for what the throttle says. @throws GatewayError `client-gone` */
  const slowDown = async (
    stream: ServerHttp2Stream,
    rate: Rate,
    wait: Promise<void>,
    signal: AbortSignal,
  ): Promise<void> => {
    const began = performance.now();
    await hold(stream, wait);
    if (signal.aborted) throw new GatewayError('client-gone');
    const before = waited.get(rate) ?? 0;
    const now = before + performance.now() - began;
    waited.set(rate, now);
    if (before < WORTH_REPORTING_MS && now >= WORTH_REPORTING_MS) await notifyOf(rate);
  };

  const takeTurn = (stream: ServerHttp2Stream, signal: AbortSignal): Promise<void> | undefined => {
    const turn = turns?.take(signal);
    return turn && hold(stream, turn);
  };

  return {
    begin: (stream, signal) => {
      const wait = throttle?.request(signal);
      if (wait === undefined) return takeTurn(stream, signal);
      return slowDown(stream, 'requests', wait, signal).then(() => takeTurn(stream, signal));
    },
    object: (stream, size, signal) => {
      const wait = throttle?.object(size, signal);
      return wait && slowDown(stream, 'small-objects', wait, signal);
    },
    body: (direction, stream, signal, moving) => ({
      piece: () => throttle?.piece(direction) ?? Infinity,
      before: (bytes) => {
        moving(bytes);
        const wait = throttle?.[direction](bytes, signal);
        return wait && slowDown(stream, direction, wait, signal);
      },
    }),
    end: (stream, headers) => {
      if (throttle !== undefined && !stream.endAfterHeaders && !stream.readableEnded)
        throttle.discarded(sentAhead(headers['content-length']));
    },
  };
}

/** How much of a body that is not read to its end may have come, in bytes. @param length - as declared */
function sentAhead(length: string | undefined): number {
  const declared = Number(length);
  return Number.isNaN(declared) ? STREAM_WINDOW : Math.min(declared, STREAM_WINDOW);
}
