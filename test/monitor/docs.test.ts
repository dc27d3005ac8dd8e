/** docs/monitoring.md explains every state and every rule, and no other. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { ANOMALY_RULES } from '../../src/ports/audit-sink.ts';

const TEXT = readFileSync(path.resolve(import.meta.dirname, '../../docs/monitoring.md'), 'utf8');

/** The words in the first column of the table with this title. */
function firstColumn(title: string): string[] {
  const lines = TEXT.split('\n');
  const from = lines.findIndex((line) => line.startsWith(`| ${title} `));
  const rows = lines.slice(from + 2);
  return rows.slice(0, rows.indexOf('')).map((row) => /^\| `([a-z-]+)`/.exec(row)?.[1] ?? row);
}

test('the rules', () => {
  expect(firstColumn('rule')).toEqual([...ANOMALY_RULES]);
});

test('the states', () => {
  expect(firstColumn('state')).toEqual(['ok', 'late', 'attention', 'never', 'disabled']);
});
