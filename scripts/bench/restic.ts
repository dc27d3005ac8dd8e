/** restic as a client runs it: the newest, through a system's SSH server. */
import path from 'node:path';
import { must, run, type Ended, type Lab } from './lab.ts';
import type { System } from './site.ts';

/** Runs restic; its cache is new each time unless `cache` names one. @throws Error when it fails */
export async function restic(
  lab: Lab,
  system: System,
  client: number,
  args: readonly string[],
  cache?: string,
): Promise<Ended> {
  return must(
    run(lab.peers.restic, ['-o', `rclone.program=${system.ssh(client).join(' ')}`, '-r', 'rclone:x', ...args], {
      env: { RESTIC_PASSWORD: 'password', RESTIC_CACHE_DIR: cache ?? lab.directory('cache') },
    }),
  );
}

/** Path of a backed-up directory below the target of a restore. */
export function restored(target: string, source: string): string {
  return path.join(target, source);
}
