/** How a file of the audit is opened to be read. Its path may lead over a link, which is the admin's to make. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

/** A FIFO that nobody writes to does not hold whoever opens it. @throws Error for what is no regular file; of the file system */
export async function openAuditFile(file: string): Promise<FileHandle> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error(`${file} is not a regular file; move it away`);
}
