/**
 * What a target was told, and how reaching it went last: two files for each below `notify` in the directory `state`, which the main process of
 * `serve` alone writes. Without them, all that is wrong is told once more.
 */
import { join } from 'node:path';
import { NOTIFY_EVENTS, type NotifyEvent, type NotifySeverity } from '../config/notify.ts';
import { count, flag, like, moment, only, record, tableOf, text, type Shape } from '../core/shape.ts';
import { readShape, replaceJson } from '../state/state-file.ts';

/** Something that a target was told of. Times in ms since 1970. */
export interface ToldCondition {
  readonly event: NotifyEvent;
  readonly rule: string;
  readonly severity: NotifySeverity;
  readonly since: number;
  readonly what: string;
  readonly client?: { readonly id: string; readonly name: string };
  readonly level?: number;
  /** When it was told last. */
  readonly told: number;
  /** How many reminders of it there were. */
  readonly reminders: number;
}

/** What was pinged last for a client, or for the gateway. */
export interface PingTold {
  /** When the newest snapshot arrived that is pinged. */
  readonly snapshot?: number;
  /** Whether the check was last told that something is wrong. */
  readonly down: boolean;
  /** The session whose start was pinged. */
  readonly started?: string;
  /** When. */
  readonly at: number;
}

/** Why a target cannot be reached. */
export interface Failing {
  readonly since: number;
  readonly why: string;
  /** It says itself that trying again does not help. */
  readonly refused: boolean;
  /** How often it was tried, and when it is tried again. */
  readonly tries: number;
  readonly next: number;
}

/** All that is kept of one target. */
export interface Told {
  /** How many messages have arrived. */
  readonly sent: number;
  /** When the last digest was sent, or when the target was first seen. */
  readonly digest: number;
  /** By key: what it was told of and what is not over as far as it knows. */
  readonly open: Readonly<Record<string, ToldCondition>>;
  /** By key: when what it was not yet told of was first seen. */
  readonly waiting: Readonly<Record<string, number>>;
  /** By key: what could not be told. */
  readonly missed: Readonly<Record<string, ToldCondition>>;
  /** How much each client has used of the messages about it: as `takeTurn`. */
  readonly spent: Readonly<Record<string, number>>;
  /** By the client's id; the gateway's own is `@`. */
  readonly pings: Readonly<Record<string, PingTold>>;
}

/** Whether a target is reached. */
export interface Reach {
  readonly lastSuccess?: number;
  readonly failing?: Failing;
  /** How many things it is yet to be told of. */
  readonly pending: number;
}

/** Of ten thousand clients with something wrong each. */
const MOST_BYTES = 64 * 2 ** 20;
const MOST_REACH_BYTES = 64 * 1024;
/** Of texts, in characters; what is written is cut to it. */
export const LONGEST_TEXT = 1000;

const KEY = like(/^[\x21-\x7e]{1,300}$/);

const CONDITION: Shape<ToldCondition> = record(
  {
    ...{ event: only(...NOTIFY_EVENTS), rule: text(100), severity: only('warning', 'critical'), since: moment },
    ...{ what: text(2 * LONGEST_TEXT), told: moment, reminders: count },
  },
  { client: record({ id: text(100), name: text(100) }), level: count },
);

const TOLD: Shape<Told> = record({
  sent: count,
  digest: moment,
  open: tableOf(KEY, CONDITION),
  waiting: tableOf(KEY, moment),
  missed: tableOf(KEY, CONDITION),
  spent: tableOf(KEY, moment),
  pings: tableOf(KEY, record({ down: flag, at: moment }, { snapshot: moment, started: text(100) })),
});

const REACH: Shape<Reach> = record(
  { pending: count },
  {
    lastSuccess: moment,
    failing: record({ since: moment, why: text(2 * LONGEST_TEXT), refused: flag, tries: count, next: moment }),
  },
);

/** Of a target that was told nothing yet. */
export function emptyTold(now: number): Told {
  return { sent: 0, digest: now, open: {}, waiting: {}, missed: {}, spent: {}, pings: {} };
}

/** Undefined when there is none that can be read. */
export function readTold(state: string, target: string): Promise<Told | undefined> {
  return readShape(fileOf(state, 'told', target), MOST_BYTES, TOLD);
}

/** @throws GatewayError `state-unavailable` */
export function writeTold(state: string, target: string, told: Told): Promise<void> {
  return replaceJson(fileOf(state, 'told', target), told);
}

/** As `readTold`. */
export function readReach(state: string, target: string): Promise<Reach | undefined> {
  return readShape(fileOf(state, 'reach', target), MOST_REACH_BYTES, REACH);
}

/** @throws GatewayError `state-unavailable` */
export function writeReach(state: string, target: string, reach: Reach): Promise<void> {
  return replaceJson(fileOf(state, 'reach', target), reach);
}

/** A target's name is one that needs no quoting anywhere. */
function fileOf(state: string, what: 'told' | 'reach', target: string): string {
  return join(notifyDirectory(state), `${what}-${target}.json`);
}

/** The directory that all of it is in. */
export function notifyDirectory(state: string): string {
  return join(state, 'notify');
}
