/**
 * One client's session: HTTP/2 on the front end's stream, the handler behind it, and the audit's first and last word.
 */
import type { Duplex } from 'node:stream';
import type { EndReason } from '../ports/audit-sink.ts';
import type { Session } from '../ports/sessions.ts';
import { reportDefect } from '../ports/log.ts';
import type { HandlerContext } from './context.ts';
import { createHandler } from './handler.ts';
import { serveHttp2, type Http2Service, type SessionMemory } from './http2-session.ts';

/**
 * Serves restic on `stream` until the client ends it or `close` is called.
 * @throws GatewayError `audit-unavailable` when the session's start cannot be recorded; nothing is served then
 */
export async function serveRestic(
  stream: Duplex,
  context: HandlerContext,
  ending: (reason: EndReason) => void,
  memory: SessionMemory,
): Promise<Session> {
  const { identity, audit, log, meter } = context;
  await audit.append(identity, {
    kind: 'session-start',
    ...(context.overrideProtect === true && { overrideProtect: true }),
  });
  const started = performance.now();
  /** A channel that is just closing must not take more than its own words with it. */
  const notify = (line: string): void => {
    try {
      context.notify(line);
    } catch (error) {
      log.warn({ err: error, session: identity.session }, 'the client could not be told');
    }
  };
  const report = (error: unknown): void => {
    const { session, principal } = identity;
    reportDefect(log, error, { session, client: principal.client }, 'a defect ended this session; the others continue');
    notify('the gateway has failed, and this session ends; try again.');
  };
  const handler = createHandler({ ...context, notify }, (error) => {
    report(error);
    http2.close('gateway-failed');
  });
  meter?.begin(handler.counts);
  const http2: Http2Service = serveHttp2(stream, { stream: handler.handle, ending, defect: report }, memory);

  const conclude = async (): Promise<EndReason> => {
    const reason = await http2.ended;
    await handler.idle();
    const durationMs = Math.round(performance.now() - started);
    try {
      await audit.append(identity, { kind: 'session-end', reason, ...handler.counts, durationMs });
    } catch (error) {
      log.error({ err: error, session: identity.session }, 'the end of a session could not be written to the audit');
    }
    meter?.end(reason);
    return reason;
  };
  return {
    id: identity.session,
    ended: conclude(),
    close: (reason) => {
      http2.close(reason);
    },
  };
}
