/** The container image, built by the project's own Dockerfile. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Engine } from './containers.ts';
import { lab, run, tempDir, type Outcome } from './lab.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PACKAGING = path.join(ROOT, 'scripts/packaging');

/** What the image is called that `buildImage` makes. */
export const IMAGE = 'localhost/restic-gateway';

/** Makes the lab's base known to an engine, for builds to start from. */
export async function importBase({ good }: Engine): Promise<void> {
  await good(['import', '--quiet', lab().imageBase, 'localhost/base'], 300_000);
}

/**
 * Builds from this checkout, on the lab's base.
 * @param commit - as the build argument; none when undefined
 */
export async function buildImage({ podman }: Engine, commit: string | undefined): Promise<Outcome> {
  const cache = lab().npmCache;
  const lockfile = createHash('sha256')
    .update(readFileSync(path.join(ROOT, 'package-lock.json')))
    .digest('hex');
  if (!existsSync(path.join(cache, 'locks', lockfile)))
    throw new Error(`${cache} has not all that is in package-lock.json; run scripts/lab/setup`);
  // Of the person's own settings the build gets nothing but what the packages are called by in the cache.
  const { stdout: registry } = await run('npm', ['config', 'get', 'registry']);
  const settings = path.join(tempDir(), 'npmrc');
  writeFileSync(settings, `registry=${registry.trim()}\noffline=true\n`);
  return podman(
    [
      ...['build', '--isolation', 'chroot', '--format', 'docker', '--pull=never', '--layers=false', '--tag', IMAGE],
      ...['--file', path.join(PACKAGING, 'Dockerfile')],
      // Docker finds it by its name
      ...['--ignorefile', path.join(PACKAGING, 'Dockerfile.dockerignore')],
      ...['--build-arg', 'BASE=localhost/base', ...(commit === undefined ? [] : ['--build-arg', `COMMIT=${commit}`])],
      ...['--volume', `${cache}:/root/.npm`, '--volume', `${settings}:/root/.npmrc:ro`],
      ROOT,
    ],
    300_000,
  );
}
