/** How V8 looks for garbage in a process that moves much data and holds little. */
import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8 from starting to mark its whole heap whenever some 10 MB of buffers came by, which it does because buffers count for its old
 * space, though these die young: in a process that moves backups, that marking took as much CPU as all the rest. Without it the buffers
 * go with the young generation, and the old one is still collected, in one pause, when it has grown.
 *
 * Called once, before there is much on the heap.
 */
export function collectGarbageForThroughput(): void {
  setFlagsFromString('--no-incremental-marking');
}
