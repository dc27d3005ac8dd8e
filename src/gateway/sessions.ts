/** The sessions of one gateway, from the moment they are asked for to their end, and what ends them before their time. */
import { timedId } from '../core/timed-id.ts';
import { GatewayError, isGatewayError } from '../core/errors.ts';
import type { EndReason, SessionIdentity } from '../ports/audit-sink.ts';
import { reportDefect, type Log } from '../ports/log.ts';
import type { OpenSession } from '../ports/sessions.ts';
import { serveRestic } from '../restic/session.ts';
import { sessionsToEnd } from '../state/lock-holds.ts';
import type { Admission } from './admission.ts';
import { isHeldToConfig, revocationOf } from './refusals.ts';
import type { GatewayParts } from './parts.ts';
import type { Served } from './served.ts';
import type { SessionContexts } from './session-context.ts';

/** How often the passing of time is looked at, in ms: an expired key loses its sessions within this. */
const EXPIRY_LOOK_MS = 500;

/** Sessions that are open or opening. */
interface Sessions {
  readonly open: OpenSession;
  count(): number;
  /** Ends those that would not be opened like this under the newest config. */
  reevaluate(): void;
  /** Opens none from now on. Resolves when those that are open have ended. */
  drain(): Promise<void>;
  /** Ends all. Resolves when they have ended. */
  close(): Promise<void>;
}

/** Serves nobody yet. */
export function createSessions(parts: GatewayParts, admission: Admission, contexts: SessionContexts): Sessions {
  const { config, resources, logs, log } = parts;
  const all = new Set<Served>();
  /** Those who wait for the last session to end. */
  const waiting = new Set<() => void>();
  let state: 'open' | 'draining' | 'closing' = 'open';

  const open: OpenSession = async (request) => {
    const { stream, widen, notify, ending, hold, overrideProtect } = request;
    const client = config().clients[request.principal.client];
    if (state !== 'open')
      throw new GatewayError('session-refused', { detail: 'the gateway is being stopped; try again in a while.' });
    if (client === undefined)
      throw new GatewayError('session-refused', { detail: `client ${request.principal.client} is not known here.` });
    const principal = client.id === client.name ? request.principal : { ...request.principal, id: client.id };
    // The admin on the gateway host manages what the client may not, and is no one's guest.
    const access = principal.via === 'admin' ? 'full' : client.access;
    const identity: SessionIdentity = { session: timedId(), principal, access, repository: client.repository };
    const store = config().stores[client.repository.store];
    const served: Served = {
      ...{ client, store, principal, audit: resources.audit(), notify },
      byCertificate: isHeldToConfig(principal, config()),
      ...{ hold: undefined, memory: undefined, leave: undefined, storage: undefined },
      ...{ session: undefined, ending: false },
    };
    // Known before anything is awaited, so that whatever changes meanwhile finds it.
    all.add(served);
    try {
      const own = await admission.acceptSession(served, identity, request);
      const context = await contexts.open(served, identity, { hold, overrideProtect });
      const session = await serveRestic(stream, context, ending, { ...own, widen });
      served.session = session;
      const ended = session.ended.then((reason) => {
        remove(served);
        logs.of(client.name).info({ client: client.name, session: session.id, reason }, 'session ended');
      });
      ended.catch((error: unknown) => {
        reportDefect(log, error, { session: session.id }, 'a defect after the end of a session');
      });
      const { via, from } = principal;
      logs.of(client.name).info({ client: client.name, session: session.id, via, from }, 'session started');
      reevaluate(served);
      return session;
    } catch (error) {
      remove(served);
      if (!isGatewayError(error, 'session-refused'))
        logs.of(client.name).error({ err: error, client: client.name }, 'a session could not be opened');
      throw error;
    }
  };

  const remove = (served: Served): void => {
    all.delete(served);
    served.hold?.release();
    // Before its place is given to another, which would still find it there.
    served.leave?.();
    served.memory?.release();
    closeUnused();
    if (all.size > 0) return;
    for (const done of waiting) done();
    waiting.clear();
  };

  const closeUnused = (): void => {
    resources.closeUnused(new Set<unknown>([...all].flatMap(({ audit, storage }) => [audit, storage])));
  };

  /** Ends a session that would not be opened like this now. */
  const reevaluate = (served: Served): void => {
    if (state === 'closing') {
      end(served, 'gateway-stopped', 'the gateway is being stopped; try again in a while.', log);
      return;
    }
    const line = revocationOf(served, config());
    if (line !== undefined) end(served, 'revoked', line, log);
    else served.client = config().clients[served.client.name] ?? served.client;
  };

  /** Ends the sessions that an admin wants out of the way, whatever process the admin's session is in. */
  const endForAdmin = (): void => {
    if (all.size === 0) return;
    const ids = sessionsToEnd(config().state);
    if (ids.size === 0) return;
    for (const served of all)
      if (served.principal.via !== 'admin' && ids.has(served.session?.id ?? ''))
        end(
          served,
          'ended-by-admin',
          'the admin needs the repository alone, and has ended this session; run it again later.',
          log,
        );
  };

  const noneLeft = async (): Promise<void> => {
    if (all.size > 0) await new Promise<void>((resolve) => waiting.add(resolve));
  };

  const clock = setInterval(() => {
    endForAdmin();
    const now = new Date();
    for (const served of all)
      if (served.client.expires !== undefined && now > served.client.expires) reevaluate(served);
  }, EXPIRY_LOOK_MS);
  clock.unref();

  return {
    open,
    count: () => all.size,
    reevaluate: () => {
      for (const served of all) reevaluate(served);
      closeUnused();
    },
    drain: async () => {
      if (state === 'open') state = 'draining';
      await noneLeft();
    },
    close: async () => {
      state = 'closing';
      for (const served of all) reevaluate(served);
      await noneLeft();
      clearInterval(clock);
    },
  };
}

/** Ends a session, with a line to its client. */
function end(served: Served, reason: EndReason, line: string, log: Log): void {
  // One that is still opening is looked at again when it is open.
  if (served.ending || served.session === undefined) return;
  served.ending = true;
  log.info({ client: served.client.name, session: served.session.id, reason }, line);
  try {
    served.notify(line);
  } catch {
    // A client that no message reaches any more is let go all the same.
  }
  served.session.close(reason);
}
