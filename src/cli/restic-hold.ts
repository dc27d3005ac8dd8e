/** Whether the admin's restic is to have the repository for itself, and how the clients' runs are dealt with then. */
import { UsageError } from './command-line/usage-error.ts';
import { readDuration } from '../config/values.ts';
import type { HoldRequest } from '../ports/sessions.ts';

/** For how long runs are waited for unless the admin says otherwise, in ms. */
const WAIT_MS = 10 * 60 * 1000;

/** restic's commands that take an exclusive lock, in one of their forms at least, from 0.14 to 0.19. */
const EXCLUSIVE: ReadonlySet<string> = new Set([
  ...['check', 'forget', 'migrate', 'prune', 'rebuild-index', 'repair', 'rewrite', 'tag'],
  ...['key passwd', 'key remove'],
]);

/** restic's global options that take the next word as their value. */
const WITH_VALUE: ReadonlySet<string> = new Set([
  ...['-r', '--repo', '--repository-file', '-p', '--password-file', '--password-command', '-o', '--option'],
  ...['--cacert', '--cache-dir', '--compression', '--http-user-agent', '--key-hint', '--limit-download'],
  ...['--limit-upload', '--pack-size', '--retry-lock', '--stuck-request-timeout', '--tls-client-cert'],
]);

/**
 * @param args - restic's own
 * @param options - `holdClient`: how long to wait, `''` for the default, false for not at all, undefined to go by restic's command
 * @throws GatewayError `usage`
 */
export function holdRequest(
  args: readonly string[],
  { holdClient, endSessions }: { readonly holdClient: string | false | undefined; readonly endSessions: boolean },
): HoldRequest | undefined {
  if (holdClient === false) {
    if (endSessions) throw new UsageError('say either --end-sessions or --no-hold-client, not both');
    return undefined;
  }
  if (holdClient === undefined && !endSessions && !takesExclusiveLock(args)) return undefined;
  return { waitMs: holdClient === undefined || holdClient === '' ? WAIT_MS : parseWait(holdClient), endSessions };
}

function parseWait(text: string): number {
  const ms = readDuration(text);
  if (!(ms <= 12 * 3_600_000))
    throw new UsageError(
      `--hold-client ${text}: must be a length of time with its unit, up to 12h, such as 90s, 10min or 2h`,
    );
  return ms;
}

/** Whether restic's command may take an exclusive lock; not with --no-lock. */
function takesExclusiveLock(args: readonly string[]): boolean {
  if (args.includes('--no-lock')) return false;
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    if (!arg.startsWith('-')) words.push(arg);
    else if (WITH_VALUE.has(arg)) index++;
  }
  const [command = '', ...more] = words;
  return EXCLUSIVE.has(command) || EXCLUSIVE.has(`${command} ${more[0] ?? ''}`);
}
