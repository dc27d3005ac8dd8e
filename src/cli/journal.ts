/** Lines for systemd's journal, which takes each one's severity from its beginning (sd-daemon(3)). */
import { fstatSync } from 'node:fs';

/** The severities that are used, as in syslog. */
const SEVERITIES = { error: 3, warn: 4, info: 6 } as const;

/** Whether stderr is the journal, as systemd says in `JOURNAL_STREAM` (systemd.exec(5)), and not something that it was redirected to. */
export function isJournal(env: NodeJS.ProcessEnv = process.env): boolean {
  const stream = env['JOURNAL_STREAM'];
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Gives every line of a printable text its severity. */
export function journalLines(severity: keyof typeof SEVERITIES, text: string): string {
  return text.replace(/^/gm, `<${SEVERITIES[severity]}>`);
}
