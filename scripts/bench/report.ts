/** The results as a table for people. Ratios and memory only: a time says more about the machine than about the gateway. */
import type { Aim, Row } from './measure.ts';
import { spread } from './statistics.ts';

/** The rows of one measure. */
export interface Section {
  readonly measure: string;
  readonly rows: readonly Row[];
}

/** Whether the median is what it should be; undefined where there is no aim. */
export function meets({ values, aim }: Row): boolean | undefined {
  if (aim === undefined) return undefined;
  const { median } = spread(values);
  return 'atMost' in aim ? median <= aim.atMost : median >= aim.atLeast;
}

/** A table in Markdown, its columns aligned so that it reads well on a terminal too. */
export function table(sections: readonly Section[]): string {
  const head = ['measure', 'what', 'of', 'median', 'spread', 'aim', 'met'];
  const lines = sections.flatMap(({ measure, rows }) =>
    rows.map((row) => {
      const { median, min, max } = spread(row.values);
      const show = (value: number): string => amount(value, row.unit);
      const met = meets(row);
      return [
        measure,
        row.what,
        row.of,
        show(median),
        `${show(min)} – ${show(max)}`,
        row.aim === undefined ? '' : aimText(row.aim, row.unit),
        met === undefined ? '' : met ? 'yes' : 'no',
      ];
    }),
  );
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)));
  const format = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [format(head), format(widths.map((width) => '-'.repeat(width))), ...lines.map(format)].join('\n');
}

function aimText(aim: Aim, unit: Row['unit']): string {
  return 'atMost' in aim ? `≤ ${amount(aim.atMost, unit)}` : `≥ ${amount(aim.atLeast, unit)}`;
}

function amount(value: number, unit: Row['unit']): string {
  if (unit === 'ratio') return value.toFixed(2);
  const kib = value / 1024;
  return Math.abs(kib) < 1024 ? `${kib.toFixed(0)} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}
