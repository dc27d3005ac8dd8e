/** The fenced blocks of the documentation, and what the comment above each says of running it. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export const ROOT = path.resolve(import.meta.dirname, '../..');

/** One fenced block. */
export interface Fence {
  /** Path of the page below the project's root. */
  readonly page: string;
  /** Line of the page, from 1, where the block begins. */
  readonly line: number;
  /** `sh`, `yaml`, … */
  readonly language: string;
  /** Without the indentation that it has in a list. */
  readonly text: string;
  /** The comment right above it: `not run: WHY`, `run as: COMMAND`, `run: in the background`, … */
  readonly marker: string | undefined;
}

/** A page, read. */
interface Page {
  readonly page: string;
  readonly fences: readonly Fence[];
  /** Lines, from 1, of code that is indented instead of fenced, or that no fence ends. */
  readonly unfenced: readonly number[];
}

/** Every page that people read, as paths below the project's root. */
export function pages(): readonly string[] {
  const docs = readdirSync(path.join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));
  return ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', ...docs.sort().map((name) => `docs/${name}`)];
}

export function readPage(page: string): Page {
  return parsePage(page, readFileSync(path.join(ROOT, page), 'utf8'));
}

export function parsePage(page: string, markdown: string): Page {
  const fences: Fence[] = [];
  const unfenced: number[] = [];
  let marker: string | undefined;
  let open: { line: number; language: string; indent: number; text: string[] } | undefined;
  let inList = false;
  let blank = true;
  for (const [index, line] of markdown.split('\n').entries()) {
    if (open !== undefined) {
      if (line.trim() === '```') {
        const { line: at, language, text } = open;
        fences.push({ page, line: at, language, text: `${text.join('\n')}\n`, marker });
        open = undefined;
        marker = undefined;
      } else open.text.push(line.slice(open.indent));
      continue;
    }
    const [, indent, language] = /^( *)```(\S*)/.exec(line) ?? [];
    const [, comment] = /^ *<!-- (.*?) -->$/.exec(line) ?? [];
    if (indent !== undefined) open = { line: index + 1, language: language ?? '', indent: indent.length, text: [] };
    else if (comment !== undefined) marker = comment;
    else if (line.trim() !== '') {
      marker = undefined;
      if (blank && !inList && /^(?: {4}|\t)/.test(line)) unfenced.push(index + 1);
      if (/^(?:[-*]|\d+\.) /.test(line)) inList = true;
      else if (/^\S/.test(line)) inList = false;
    }
    blank = line.trim() === '';
  }
  if (open !== undefined) unfenced.push(open.line);
  return { page, fences, unfenced };
}

/** Why a block is not run; undefined for one that is. */
export function whyNotRun({ marker }: Fence): string | undefined {
  return /^not run: (.+)$/.exec(marker ?? '')?.[1];
}
