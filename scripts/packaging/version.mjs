/** What a build calls itself. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/**
 * Version and commit. The commit is that of the environment (BUILD_COMMIT), for builds that see no checkout, as that of the image, or of git;
 * it is left out where this is no checkout of its own, or git is not there.
 */
export function buildVersion() {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  const given = process.env.BUILD_COMMIT ?? '';
  if (given !== '') return `${version} (${given})`;
  if (!existsSync('.git')) return version;
  try {
    const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    const commit = execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'], options);
    return `${version} (${commit.trim()})`;
  } catch {
    return version;
  }
}
