/** Decides whether an authenticated principal may have a session, and takes what the session counts for. */
import { GatewayError, messageOf } from '../core/errors.ts';
import type { SessionIdentity } from '../ports/audit-sink.ts';
import type { ClientMemory, Lease } from '../ports/memory.ts';
import type { SessionRequest } from '../ports/sessions.ts';
import type { SharedSessions } from '../ports/shared-sessions.ts';
import { SESSION_BYTES } from '../restic/stream-memory.ts';
import { enterLiveSessions } from '../state/live-sessions.ts';
import { LEAST_OPEN_FILES, openFiles } from '../state/open-files.ts';
import type { GatewayParts } from './parts.ts';
import { NO_DESCRIPTORS, NO_MEMORY, noRoom, refusalOf, tooMany, type AdmissionRefusal } from './refusals.ts';
import type { Served } from './served.ts';

type Asked = Pick<SessionRequest, 'isCrowdedOut' | 'makeRoom'>;

/** Lets sessions in. */
export interface Admission {
  /**
   * Takes a live session and memory for a session, each noted in `served` as soon as it is taken.
   * @throws GatewayError `session-refused`, which the audit has, and `audit-unavailable`
   */
  acceptSession(
    served: Served,
    identity: SessionIdentity,
    asked: Asked,
  ): Promise<{ readonly of: ClientMemory; readonly own: Lease }>;
  /** Records that a session was refused. @throws GatewayError `audit-unavailable` */
  refused(identity: SessionIdentity, reason: string, detail: string): Promise<void>;
}

/** @param shared - the sessions of all gateways that share a database, loaded when they are first needed; undefined: this one is alone */
export function createAdmission(
  { config, records, memory, logs, meter }: GatewayParts,
  shared?: () => Promise<SharedSessions>,
): Admission {
  const acceptSession: Admission['acceptSession'] = async (served, identity, { isCrowdedOut, makeRoom }) => {
    const { client, principal } = served;
    const admin = principal.via === 'admin';
    let refusal = admin ? undefined : refusalOf(client, principal, 0, config());
    if (refusal === undefined && !admin) {
      const own = records.of(client.name);
      if (!own.session()) refusal = tooMany(client, own.sessionRate);
    }
    if (!admin && (isCrowdedOut === true || openFiles().limit < LEAST_OPEN_FILES)) refusal ??= NO_DESCRIPTORS;
    refusal ??= await enter(served, identity, makeRoom);
    const of = memory.of(client.name);
    if (refusal === undefined) {
      const own = of.take(SESSION_BYTES);
      served.memory = own;
      if (own !== undefined) return { of, own };
      refusal = NO_MEMORY;
    }
    const { reason, line } = refusal;
    meter?.refused(client.name, reason);
    await refused(identity, reason, line);
    throw new GatewayError('session-refused', { detail: line });
  };

  const refused: Admission['refused'] = async (identity, reason, detail) => {
    const own = records.of(identity.principal.client);
    await own.record(identity, { kind: 'session-refused', reason, detail });
    void own.conclude();
  };

  /** Makes it one of the machine's live sessions. @returns why not, when its client or all have as many as they may in all processes together */
  const enter = async (
    served: Served,
    identity: SessionIdentity,
    makeRoom: Asked['makeRoom'],
  ): Promise<AdmissionRefusal | undefined> => {
    const { client, principal } = served;
    try {
      const most = { client: client.maxSessions, all: config().maxSessions };
      const tryIt = () => enterLiveSessions(config().state, { id: identity.session, principal }, most);
      let entry = await tryIt();
      if (!entry.entered && entry.of === 'client' && (await makeRoom?.()) === true) entry = await tryIt();
      if (!entry.entered)
        return entry.of === 'all' ? noRoom(entry.others) : refusalOf(client, principal, entry.others, config());
      served.leave = entry.leave;
      return principal.via === 'admin' ? undefined : await enterShared(served, identity, makeRoom);
    } catch (error) {
      const detail = `the live sessions below ${config().state} cannot be counted: ${messageOf(error)}`;
      logs.of(client.name).error({ err: error, client: client.name }, detail);
      // The admin is let in, who may be about to help.
      if (principal.via === 'admin') return undefined;
      meter?.refused(client.name, 'state-unavailable');
      await refused(identity, 'state-unavailable', detail);
      throw new GatewayError('session-refused', {
        detail: 'the gateway cannot count its sessions; its admin finds why in the audit.',
        cause: error,
      });
    }
  };

  /** The same over all gateways that share a database. @returns why not, when its client has as many as it may */
  const enterShared = async (
    served: Served,
    { session }: SessionIdentity,
    makeRoom: Asked['makeRoom'],
  ): Promise<AdmissionRefusal | undefined> => {
    const { client, principal } = served;
    const all = await shared?.();
    if (all === undefined) return undefined;
    const tryIt = () => all.enter(session, client.id, client.maxSessions);
    let entry = await tryIt();
    if (!entry.entered && (await makeRoom?.()) === true) entry = await tryIt();
    if (!entry.entered) return refusalOf(client, principal, entry.others, config());
    const { leave } = entry;
    const leaveHere = served.leave;
    served.leave = () => {
      leaveHere?.();
      leave();
    };
    return undefined;
  };

  return { acceptSession, refused };
}
