/** `restic-gateway audit verify`: whether the audit is as it was written. */
import { headsFile, readHeads } from '../audit/heads.ts';
import { inOrder, withAuditFiles } from '../audit/read.ts';
import { verifyAudit, type AuditReport } from '../audit/verify.ts';
import { findConfigFile, loadConfig } from '../config/load.ts';
import { GatewayError } from '../core/errors.ts';
import { formatDuration } from './terminal.ts';

/**
 * Verifies the files named, else the config's audit with those rotated away from it.
 * @returns the exit status: 1 when a line was changed, removed, moved or inserted
 * @throws GatewayError `audit-unavailable` when a file cannot be read
 */
export async function runAuditVerify(options: {
  readonly config: string | undefined;
  readonly files: readonly string[];
  readonly json: boolean;
}): Promise<number> {
  const report = options.files.length > 0 ? await verifyAudit(await inOrder(options.files)) : await verifyOwn(options);
  if (report.files.length === 0)
    throw new GatewayError('audit-unavailable', { detail: 'there is no audit to verify yet' });
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : describe(report));
  return report.problemCount > 0 ? 1 : 0;
}

async function verifyOwn({ config: file }: { readonly config: string | undefined }): Promise<AuditReport> {
  const { audit, state } = loadConfig(findConfigFile(file));
  return withAuditFiles(audit.file, async (files) => {
    // What has been noted by now is in these files or in one that replaces them, which would be noticed.
    const heads = await readHeads(headsFile(state));
    return verifyAudit(files, heads);
  });
}

function describe(report: AuditReport): string {
  const { files, lines, problems, problemCount, torn, tornCount, unlinked, loose } = report;
  const out = problems.map(({ file, line, message }) => `${file}:${line}: ${message}`);
  if (problemCount > problems.length) out.push(`and ${problemCount - problems.length} more`);
  for (const { file, line } of torn)
    out.push(`${file}:${line}: note: torn by a crash or a full disk; it counts as not written`);
  if (tornCount > torn.length) out.push(`note: and ${tornCount - torn.length} more torn lines`);
  for (const { file, line, ms } of report.setBack)
    out.push(
      `${file}:${line}: note: the clock was set back by ${formatDuration(ms)}; the order of the lines is what counts`,
    );
  if (unlinked > 0)
    out.push(`note: ${counted(unlinked, 'line')} from before lines were linked; only the last of them is held`);
  if (report.continues) out.push(`note: ${files[0] ?? ''} continues an older file that is not here`);
  if (loose > 0) out.push(`note: ${counted(loose, 'line')} at the end of a file that nothing refers to yet`);
  if (!report.endChecked) out.push('note: the end was not checked: there are no notes of the newest lines for it');
  const where = `${counted(lines, 'line')} in ${counted(files.length, 'file')}`;
  out.push(
    problemCount === 0 ? `good: ${where}` : `NOT as it was written: ${counted(problemCount, 'problem')} in ${where}`,
  );
  return out.map((line) => `${line}\n`).join('');
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
