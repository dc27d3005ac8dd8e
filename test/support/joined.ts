/** Two sockets as one way. */
import type { Duplex } from 'node:stream';

/** Passes everything on between two ends; when one is gone, the other goes, too. */
export function join(one: Duplex, other: Duplex): void {
  for (const end of [one, other])
    end
      .on('error', () => undefined)
      .on('close', () => {
        one.destroy();
        other.destroy();
      });
  one.pipe(other).pipe(one);
}
