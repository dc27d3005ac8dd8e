/** `restic-gateway audit verify` and `audit copy`: whether the audit is as it was written, and copying it where none of this host can change it. */
import { compareCopy, type CopyReport } from '../audit/compare-copy.ts';
import { createCopying } from '../audit/copying.ts';
import { headsFile, readHeads } from '../audit/heads.ts';
import { inOrder, withAuditFiles } from '../audit/read.ts';
import { verifyAudit, type AuditReport } from '../audit/verify.ts';
import type { GatewayConfig } from '../config/types.ts';
import { GatewayError } from '../core/errors.ts';
import { openAuditCopy } from '../client-maintenance.ts';
import { SILENT } from '../ports/log.ts';
import { linesRead, withProgress } from './progress.ts';
import { jsonLine } from './json.ts';
import { UsageError } from './command-line/usage-error.ts';
import { loadOwnConfig } from './own-user.ts';
import { refuseInForcedCommand } from './program.ts';
import { counted, formatBytes, formatDuration, printable } from './terminal.ts';

/** The copy too, where it was compared. */
type WholeReport = AuditReport & { readonly copy?: CopyReport };

/**
 * Verifies the files named, else the config's audit with those rotated away from it, and with `copy` against its copy.
 * @returns the exit status: 1 when a line was changed, removed, moved or inserted
 * @throws GatewayError `audit-unavailable` when a file cannot be read
 */
export async function runAuditVerify(options: {
  readonly config: string | undefined;
  readonly files: readonly string[];
  readonly copy: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}): Promise<number> {
  refuseInForcedCommand();
  if (options.copy && options.files.length > 0)
    throw new UsageError("--copy compares the config's audit with its copy; name no files beside it");
  const report: WholeReport =
    options.files.length > 0 ? await watchedVerify(await inOrder(options.files), undefined) : await verifyOwn(options);
  if (report.files.length === 0 && report.problemCount === 0)
    throw new GatewayError('audit-unavailable', { detail: 'there is no audit to verify yet' });
  const good = report.problemCount + (report.copy?.problems.length ?? 0) === 0;
  if (!options.quiet || !good)
    process.stdout.write(options.json ? jsonLine('verify', { ...report, good }) : describe(report));
  return good ? 0 : 1;
}

/**
 * Copies once what has come since: for a timer, where no `serve` does it.
 * @returns the exit status
 * @throws GatewayError `usage` when the config names no copy, `audit-unavailable`, and what the store throws
 */
export async function runAuditCopy({
  config: file,
  quiet,
}: {
  readonly config: string | undefined;
  readonly quiet: boolean;
}): Promise<number> {
  refuseInForcedCommand();
  const config = await loadOwnConfig(file);
  const { store, name } = await openCopy(config);
  try {
    // What goes wrong is thrown, and said there.
    const bytes = await withProgress(`${name}: comparing what is there`, ({ show }) => {
      let copied = 0;
      const made = (more: number): void => {
        copied += more;
        show(() => `${name}: ${formatBytes(copied)} copied`);
      };
      const copying = createCopying({ config, store, name, log: SILENT, made });
      return copying.run(new AbortController().signal);
    });
    if (!quiet)
      process.stdout.write(bytes === 0 ? `${name}: nothing new\n` : `${name}: copied ${formatBytes(bytes)}\n`);
    return 0;
  } finally {
    await store.close();
  }
}

async function openCopy(config: GatewayConfig) {
  const opened = await openAuditCopy(config);
  if (opened === undefined)
    throw new GatewayError('usage', { detail: `${config.file} names no copy of the audit; docs/audit.md shows how` });
  return opened;
}

async function verifyOwn(options: {
  readonly config: string | undefined;
  readonly copy: boolean;
}): Promise<WholeReport> {
  const config = await loadOwnConfig(options.config);
  const { audit, state } = config;
  const chain = await verifyChain(audit.file, state);
  if (!options.copy) return chain;
  const { store, name } = await openCopy(config);
  try {
    const { signal } = new AbortController();
    const { keep } = audit;
    const copy = await withProgress(`${name}: listing what is there`, ({ show }) =>
      withAuditFiles(audit.file, (files) => {
        let bytes = 0;
        const saw = (more: number): void => {
          bytes += more;
          show(() => `${name}: ${formatBytes(bytes)} compared`);
        };
        return compareCopy(files, store, { keep, signal, saw });
      }),
    );
    return { ...chain, copy };
  } finally {
    await store.close();
  }
}

function verifyChain(file: string, state: string): Promise<AuditReport> {
  return withAuditFiles(file, async (files) => {
    // What has been noted by now is in these files or in one that replaces them, which would be noticed.
    const heads = await readHeads(headsFile(state));
    return watchedVerify(files, heads);
  });
}

/** Verifies, and shows at a terminal how far it is. */
async function watchedVerify(files: readonly string[], heads: Parameters<typeof verifyAudit>[1]): Promise<AuditReport> {
  return withProgress('reading the audit log', (progress) => verifyAudit(files, heads, linesRead(progress, files)));
}

function describe(report: WholeReport): string {
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
  const { copy } = report;
  if (copy !== undefined)
    out.push(
      ...copy.problems,
      ...copy.notes.map((note) => `note: ${note}`),
      copy.problems.length === 0
        ? `good: as its copy, ${formatBytes(copy.bytes)}`
        : `NOT as its copy: ${counted(copy.problems.length, 'problem')}`,
    );
  return out.map((line) => `${printable(line)}\n`).join('');
}
