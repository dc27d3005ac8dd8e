/** Tells whether files are still the ones that they were. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../core/errors.ts';
import { clientFileNames } from './sources.ts';

/** What changes whenever the file is written or replaced. Empty while there is none. */
export function fileState(file: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return '';
  }
}

/** As `fileState`, of a config's file and of all in its `clientsDirectory`. */
export function configState(file: string, directory: string | undefined): string {
  return directory === undefined ? fileState(file) : `${fileState(file)} ${clientsState(directory)}`;
}

/** As `fileState`, of all files in `clientsDirectory`. */
export function clientsState(directory: string | undefined): string {
  if (directory === undefined) return '';
  const hash = createHash('sha256');
  try {
    for (const name of clientFileNames(directory)) hash.update(`${name} ${fileState(join(directory, name))}\n`);
  } catch (error) {
    // Whoever reads it says so.
    hash.update(messageOf(error));
  }
  return hash.digest('hex');
}
