/**
 * The audit as a file of JSON, one object a line, that many processes append to and grep reads.
 *
 * A line that was torn by a full disk or a crash stays alone on its line. Between lines an empty one may stand.
 */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GatewayError, messageOf } from '../core/errors.ts';
import type { ObjectRef } from '../core/object.ts';
import { printableJson } from '../core/printable.ts';
import type { CertifiedBy } from '../core/ssh-certificate.ts';
import { within } from '../core/waiting.ts';
import type { AuditEvent, AuditSink, SessionIdentity } from '../ports/audit-sink.ts';
import { openAppender, type Appender, type Line } from './appender.ts';
import { openHeadNotes } from './heads.ts';
import type { Rotation } from './rotation.ts';

/** Where the audit goes. */
interface JsonlSinkOptions {
  /** Absolute path. Made with mode 0600 where there is none, its directory with 0700. */
  readonly file: string;
  /** Absolute path of the file where the newest line of each process is noted; undefined: nowhere. */
  readonly heads?: string;
  /** Undefined: the file grows, unless others rotate it. */
  readonly rotation?: Rotation;
  /** Is called once when the file cannot be rotated, or old ones not removed. */
  readonly warn?: (error: unknown) => void;
  /** How long an event may wait to be written before it counts as not written, in ms; 30,000 by default. */
  readonly limitMs?: number;
}

const LIMIT_MS = 30_000;
/** The most that goes into one write beyond a single line; far below what a writer looks back at when it opens the file. */
const WRITE_BYTES = 64 * 1024;
/** The most that a text of a peer's choosing takes as it is written, escapes and all, in bytes. */
const PEER_TEXT_BYTES = 256;
/** As above, of a sentence of our own that may hold words of a peer or of the storage. */
const DETAIL_BYTES = 512;
/** Of these, what says that the text was cut. */
const CUT_BYTES = 48;

/** An event that waits. */
interface Entry {
  readonly line: Line;
  readonly written: () => void;
  readonly failed: (error: GatewayError) => void;
}

/**
 * Opens the audit file, or makes it.
 * @throws GatewayError `audit-unavailable` when it cannot be opened or is not a regular file
 */
export async function openJsonlSink(options: JsonlSinkOptions): Promise<AuditSink> {
  const { file, heads, rotation, warn = () => undefined, limitMs = LIMIT_MS } = options;
  const unavailable = (why: string, cause?: unknown): GatewayError =>
    new GatewayError('audit-unavailable', { detail: `the audit ${file} cannot be written: ${why}`, cause });

  let appender: Appender;
  try {
    await makeDirectory(dirname(file));
    appender = await openAppender({
      ...{ file, rotation, warn },
      notes: heads === undefined ? undefined : openHeadNotes(heads),
    });
  } catch (error) {
    throw unavailable(messageOf(error), error);
  }
  const waiting = new Set<Entry>();
  /** The end of what waits now; undefined when nothing does. */
  let draining: Promise<void> | undefined;
  let closed = false;

  const drain = async (): Promise<void> => {
    while (waiting.size > 0) {
      const entries = takeUpTo(WRITE_BYTES, waiting);
      try {
        const whole = await appender.append(entries.map((entry) => entry.line));
        for (const [index, { written, failed }] of entries.entries())
          if (index < whole) written();
          else failed(unavailable('it took only a part of the line; free space on its disk'));
      } catch (error) {
        for (const { failed } of entries) failed(unavailable(messageOf(error), error));
      }
    }
    draining = undefined;
  };

  return {
    append(identity, event) {
      return new Promise((resolve, reject) => {
        if (closed) {
          reject(unavailable('it is closed'));
          return;
        }
        const line = formatEvent(new Date(), identity, event);
        const entry: Entry = {
          line,
          written: () => {
            clearTimeout(timer);
            resolve();
          },
          failed: (error) => {
            clearTimeout(timer);
            reject(error);
          },
        };
        // A disk that hangs cannot be interrupted. Should the line be written after all, the audit has something that was not done.
        const timer = setTimeout(() => {
          waiting.delete(entry);
          reject(unavailable('its disk does not respond'));
        }, limitMs);
        waiting.add(entry);
        draining ??= drain();
      });
    },
    async close() {
      closed = true;
      const done = (draining ?? Promise.resolve()).then(() => appender.close());
      await within(limitMs, done);
    },
  };
}

/** Makes a directory where there is none. One level only: a mistyped path is better reported than made. */
async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new Error(`there is no directory ${dirname(directory)}; make it first`, { cause: error });
    if (code !== 'EEXIST') throw error;
  }
}

/** Takes the oldest entries out: one at least, and no more than fit. */
function takeUpTo(bytes: number, waiting: Set<Entry>): readonly Entry[] {
  const taken: Entry[] = [];
  let total = 0;
  for (const entry of waiting) {
    total += entry.line.rest.length;
    if (taken.length > 0 && total > bytes) break;
    waiting.delete(entry);
    taken.push(entry);
  }
  return taken;
}

/** One event as one line of JSON. */
function formatEvent(time: Date, identity: SessionIdentity | 'gateway', event: AuditEvent): Line {
  const { kind, ref, ...rest } = { ref: undefined, ...event };
  const line = {
    event: kind,
    ...(identity === 'gateway' ? { via: identity } : fieldsOf(identity, OPENING.has(kind))),
    object: ref === undefined ? undefined : nameObject(ref),
    ...rest,
    ...('detail' in rest ? { detail: cut(rest.detail, DETAIL_BYTES) } : {}),
  };
  return { time: time.toISOString(), rest: printableJson(JSON.stringify(line).slice(1)) };
}

/** The first, and mostly the only, line of a session: it alone has what the peer chose, so that no peer makes all lines long. */
const OPENING: ReadonlySet<AuditEvent['kind']> = new Set(['session-start', 'session-refused']);

function fieldsOf({ session, principal, access, repository }: SessionIdentity, opening: boolean) {
  const { client, id, via, key, certificate, from, fromPort, user, command } = principal;
  return {
    session,
    client,
    id,
    via,
    key,
    ...(opening && certificate !== undefined && namesOf(certificate)),
    from,
    fromPort,
    user: opening && user !== undefined ? cut(user, PEER_TEXT_BYTES) : undefined,
    command: opening && command !== undefined ? cut(command, PEER_TEXT_BYTES) : undefined,
    access,
    store: repository.store,
    prefix: repository.prefix,
  };
}

function namesOf({ ca, keyId, serial }: CertifiedBy) {
  return { ca, keyId: cut(keyId, PEER_TEXT_BYTES), serial };
}

function nameObject(ref: ObjectRef): string {
  return ref.type === 'config' ? 'config' : `${ref.type}/${ref.name}`;
}

/** As much of a text as takes so many bytes when it is written. */
function cut(text: string, most: number): string {
  // A unit of UTF-16 takes six bytes at most: those of an escape.
  if (text.length * 6 <= most) return text;
  let bytes = 0;
  let kept = 0;
  let length = 0;
  for (const character of text) {
    bytes += bytesOf(character);
    if (bytes > most) return `${text.slice(0, kept)}… (cut from ${text.length} characters)`;
    length += character.length;
    if (bytes <= most - CUT_BYTES) kept = length;
  }
  return text;
}

/** What a character takes in a line, in bytes. */
function bytesOf(character: string): number {
  if (character >= ' ' && character <= '~' && character !== '"' && character !== '\\') return 1;
  return Buffer.byteLength(printableJson(JSON.stringify(character))) - 2;
}
