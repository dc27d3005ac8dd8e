/** Files that are read whole: regular ones of a bounded size, so that a pipe or a device in their place holds nothing up and fills nothing. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** As large as a private key or a list of public ones is at most, with comments. */
export const MOST_KEY_BYTES = 64 * 1024;
/** A config of a thousand clients is some 300 KiB; what is far larger is another file. */
export const MOST_CONFIG_BYTES = 16 * 1024 * 1024;

/**
 * Reads a file whole.
 * @param most - bytes that it may have
 * @throws an error of the file system, or one whose message says what is wrong with the file: `it is not a regular file`
 */
export function readSmallFile(file: string, most: number): Buffer {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(descriptor);
    // Reading a directory fails with what is right for that.
    if (!stat.isFile() && !stat.isDirectory()) throw new Error('it is not a regular file');
    if (stat.size > most) throw new TooLarge(most);
    return readUpTo(descriptor, most, stat.size + 1);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Reads what is open to its end.
 * @param likely - how many bytes there are, one more to see the end at once
 * @throws TooLarge, and errors of the file system
 */
export function readUpTo(descriptor: number, most: number, likely: number = most + 1): Buffer {
  const chunks: Buffer[] = [];
  for (let bytes = 0; ;) {
    const chunk = Buffer.allocUnsafe(likely);
    const read = readSync(descriptor, chunk);
    if (read === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, read));
    bytes += read;
    if (bytes > most) throw new TooLarge(most);
  }
}

/** The file is larger than it may be. */
export class TooLarge extends Error {
  constructor(most: number) {
    super(`it is larger than ${most / 1024} KiB`);
  }
}
