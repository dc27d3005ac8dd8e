/** Sees to it that what is measured is what is in src. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from './lab.ts';

/** Builds the gateway when a source is newer than the last build. */
export function buildWhenStale(): void {
  const built = path.join(ROOT, 'dist/main.js');
  const when = existsSync(built) ? statSync(built).mtimeMs : 0;
  const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  if ([...sources, path.join(ROOT, 'scripts/build.mjs')].some((file) => statSync(file).mtimeMs > when))
    execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
}
