/** How a file of the audit is opened to be read. Its path may lead over a link, which is the admin's to make. */
import { constants, type Stats } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { GatewayError } from '../core/errors.ts';

/** A FIFO that nobody writes to does not hold whoever opens it. @throws Error for what is no regular file; of the file system */
export async function openAuditFile(file: string): Promise<FileHandle> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error(`${file} is not a regular file; move it away`);
}

/** What is at the path; undefined when nothing is. @throws Error of the file system */
export async function statOrNone(file: string): Promise<Stats | undefined> {
  try {
    return await stat(file);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Which file it is, whatever its name. */
export function inodeOf({ dev, ino }: Pick<Stats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`;
}

/** Whether what failed is that a file is not there, or not any more. */
export function isGone(error: unknown): boolean {
  const { code, cause } = error as { readonly code?: unknown; readonly cause?: unknown };
  return code === 'ENOENT' || (error instanceof GatewayError && cause !== undefined && isGone(cause));
}
