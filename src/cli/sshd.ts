/** What this machine's sshd takes from clients that would be theirs to run in a forced command. */
import { execFileSync } from 'node:child_process';

/** Debian's; sshd must be started by an absolute path, as it starts itself anew. */
export const SSHD = '/usr/sbin/sshd';
export const SSHD_CONFIG = '/etc/ssh/sshd_config';

/** Each is code in a process that starts with it: in Node, in what links dynamically, in the login user's shell before any line of ours. */
const AS_GOOD_AS_CODE = ['NODE_OPTIONS', 'LD_PRELOAD', 'BASH_ENV', 'ENV', 'PATH'];

/** What is wrong in sshd's settings, as plain lines; empty where they cannot be read, which is root's right. */
export function sshdTrouble(): readonly string[] {
  if (process.geteuid?.() !== 0) return [];
  try {
    const output = execFileSync(SSHD, ['-T'], { timeout: 5000, stdio: ['ignore', 'pipe', 'ignore'] });
    return troubleIn(output.toString());
  } catch {
    return [];
  }
}

/** @param settings - what `sshd -T` prints: `keyword value` in each line */
export function troubleIn(settings: string): readonly string[] {
  return settings.split('\n').flatMap((line) => {
    const [keyword, ...values] = line.trim().split(/\s+/);
    const value = values.join(' ');
    if (keyword === 'acceptenv') {
      const taken = AS_GOOD_AS_CODE.filter((name) => values.some((pattern) => matches(pattern, name)));
      return taken.length === 0
        ? []
        : [
            `sshd takes ${taken.join(', ')} from clients, which is code of theirs: AcceptEnv must be no wider than LANG LC_*`,
          ];
    }
    if (keyword === 'permituserenvironment' && value !== 'no')
      return [`sshd takes variables from ~/.ssh/environment: set PermitUserEnvironment no`];
    return [];
  });
}

function matches(pattern: string, name: string): boolean {
  const parts = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${parts}$`).test(name);
}
