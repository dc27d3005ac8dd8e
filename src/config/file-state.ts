/** Tells whether a file is still the one that it was. */
import { statSync } from 'node:fs';

/** What changes whenever the file is written or replaced. Empty while there is none. */
export function fileState(file: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return '';
  }
}
