/**
 * How the audit's lines hang together. Each line names, by hash, the lines of its file that nothing referred to when its writer last
 * looked: normally the line before, after a race of several writers more than one. So no writer ever waits for another, and still every
 * line vouches for all that came before it. docs/audit.md says what this shows and what it cannot.
 */
import { hash } from 'node:crypto';

/** What a line says of others. All are hashes of lines as `hashLine` makes them. */
export interface Links {
  /** Lines of the same file. */
  readonly prev: readonly string[];
  /** Lines of the file before, in the first line that a writer puts into a new file. */
  readonly prior: readonly string[];
  /** Whether it was written together with the line before, so that its writer had not looked at the file in between. */
  readonly joined: boolean;
}

/** The most hashes in one list; what is left over is named by later lines. */
export const MOST_LINKS = 64;

/** The SHA-256 of a line's bytes without its end, its first 132 bits in base64url. */
export function hashLine(line: Uint8Array): string {
  return hash('sha256', line, 'base64url').slice(0, 22);
}

/** The links as members of the line's object. */
export function formatLinks({ prev, prior, joined }: Links): string {
  const list = (hashes: readonly string[]): string => `[${hashes.map((one) => `"${one}"`).join(',')}]`;
  return `"prev":${list(prev)}${prior.length === 0 ? '' : `,"prior":${list(prior)}`}${joined ? ',"joined":true' : ''}`;
}

// Where a line has its links, ahead of all that a peer has chosen.
const LINKS =
  /^\{"time":"[^"]{1,32}","v":1,"prev":\[((?:"[\w-]{22}",?)*)\](?:,"prior":\[((?:"[\w-]{22}",?)*)\])?(,"joined":true)?,/;
/** What that takes at most. */
const LINKS_BYTES = 4096;

/** The links of a line, undefined when it has none: it is torn, foreign, or older than links are. */
export function readLinks(line: Buffer): Links | undefined {
  const match = LINKS.exec(line.subarray(0, LINKS_BYTES).toString('latin1'));
  if (match === null) return undefined;
  const list = (text = ''): string[] => (text === '' ? [] : text.replaceAll('"', '').split(','));
  return { prev: list(match[1]), prior: list(match[2]), joined: match[3] !== undefined };
}
