/** What a build calls itself. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** Version and commit; the commit is left out where this is no checkout of its own, or git is not there. */
export function buildVersion() {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  if (!existsSync('.git')) return version;
  try {
    const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    const commit = execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'], options);
    return `${version} (${commit.trim()})`;
  } catch {
    return version;
  }
}
