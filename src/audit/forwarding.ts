/**
 * Sends each line of the audit to syslog as long as `serve` runs: those that other processes write, too, and those that came while it did
 * not run. How far it has come is kept in `audit-syslog.json` in the state directory; a line may be sent twice, after a crash, but none is
 * left out unless the network loses it.
 */
import { join } from 'node:path';
import type { GatewayConfig } from '../config/types.ts';
import { messageOf } from '../core/errors.ts';
import { record, text } from '../core/shape.ts';
import type { Log } from '../ports/log.ts';
import { readShape, replaceStateFile } from '../state/state-file.ts';
import { openFollower, type Follower, type Position } from './follow.ts';
import { appendToAudit } from './open-audit.ts';
import { placeShape } from './position-shape.ts';
import { NOT_RUNNING, repeating, restarting, type Restarting, type Running } from './restarting.ts';
import { openSyslog, type SyslogLine } from './syslog.ts';

const LOOK_MS = 1000;
const LONGEST_DELAY_MS = 30_000;
/** Failing for so long, it is late. */
const LATE_MS = 5 * 60_000;

/** Begins to send, if the config says so. */
export function forwardAudit(config: GatewayConfig, log: Log): Restarting {
  return restarting(config, ['audit', 'state'], (next) => start(next, log));
}

function start(config: GatewayConfig, log: Log): Running {
  const { audit, state } = config;
  const { syslog, file } = audit;
  if (syslog === undefined) return NOT_RUNNING;
  const { address } = syslog;
  const sender = openSyslog(syslog);

  /** Taken from the audit and not sent yet. */
  let waiting: SyslogLine[] = [];
  let failing: { readonly since: number; readonly why: string; late: boolean } | undefined;

  const sendWaiting = async (): Promise<void> => {
    if (waiting.length === 0) return;
    await sender.send(waiting);
    waiting = [];
  };
  const begin = async (): Promise<Follower> => {
    const from = await readPosition(state, address, file);
    let taking = from !== undefined;
    const follower = openFollower({
      ...{ file, from, pauseMs: 10, between: sendWaiting },
      take: ({ event, time }, bytes) => {
        if (taking) waiting.push({ kind: wordOf(event), time: wordOf(time), bytes: Buffer.from(bytes) });
      },
    });
    // What was there before it was first sent anywhere is passed over.
    if (!taking) await follower.catchUp();
    taking = true;
    return follower;
  };

  let follower: Promise<Follower> | undefined;
  let kept: string | undefined;
  const forward = async (): Promise<void> => {
    await sendWaiting();
    follower ??= begin();
    let follow: Follower;
    try {
      follow = await follower;
    } catch (error) {
      follower = undefined;
      throw error;
    }
    if (!(await follow.catchUp())) {
      // `audit verify` says how.
      log.error(
        { file },
        `the audit ${file} was changed where it had been sent to ${address} already, and is sent anew`,
      );
      await follow.catchUp();
    }
    await sendWaiting();
    const position = follow.position();
    if (position === undefined || JSON.stringify(position) === kept) return;
    kept = JSON.stringify(position);
    await replaceStateFile(positionFile(state), `${JSON.stringify({ address, audit: file, position })}\n`);
  };

  const failed = async (error: unknown): Promise<void> => {
    const why = messageOf(error);
    if (failing?.why !== why) log.warn({ err: error }, `the audit cannot be sent to ${address}: ${why}`);
    failing = { since: failing?.since ?? performance.now(), why, late: failing?.late ?? false };
    if (failing.late || performance.now() - failing.since < LATE_MS) return;
    failing.late = true;
    log.error({ address }, `the audit has not been sent to ${address} for ${LATE_MS / 60_000} minutes: ${why}`);
    const detail = `not sent for ${LATE_MS / 60_000} minutes: ${why}`;
    await appendToAudit(config, { kind: 'copy-late', copy: address, detail }, log);
  };
  const worked = async (): Promise<void> => {
    if (failing === undefined) return;
    const { since, late } = failing;
    failing = undefined;
    log.info({ address }, `the audit is sent to ${address} again`);
    const lateMs = Math.round(performance.now() - since);
    if (late) await appendToAudit(config, { kind: 'copy-caught-up', copy: address, lateMs }, log);
  };

  let delay = LOOK_MS;
  const work = async (): Promise<number> => {
    try {
      await forward();
      delay = LOOK_MS;
      await worked();
    } catch (error) {
      delay = Math.min(LONGEST_DELAY_MS, 2 * delay);
      await failed(error).catch(() => undefined);
    }
    return delay;
  };
  return repeating(work, async () => {
    await forward().catch(() => undefined);
    await follower?.then((one) => one.close()).catch(() => undefined);
    sender.close();
  });
}

function wordOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Up to where it was sent; undefined when it never was to this address. */
async function readPosition(state: string, address: string, file: string): Promise<Position | undefined> {
  const kept = await readShape(positionFile(state), MOST_BYTES, SHAPE);
  return kept?.address === address && kept.audit === file ? kept.position : undefined;
}

/** Two names and a place. */
const MOST_BYTES = 64 * 1024;
const SHAPE = record({ address: text(4096), audit: text(4096), position: placeShape });

function positionFile(state: string): string {
  return join(state, 'audit-syslog.json');
}
