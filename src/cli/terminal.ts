/** What the commands print for people: tables, sizes, times and colours, each only where they belong. */
import { styleText } from 'node:util';
import { printable, printableJson } from '../core/printable.ts';

export { printable } from '../core/printable.ts';
export { counted, formatBytes, formatDuration } from '../core/quantities.ts';

/** A stream that a person may sit at. */
type Output = Pick<NodeJS.WriteStream, 'isTTY'>;

/** Whether a stream is a terminal that wants colours (https://no-color.org). */
function wantsColour(stream: Output): boolean {
  return stream.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

/** Text in a colour or bold where the stream wants it, else as it is. */
export function styled(stream: Output, style: Parameters<typeof styleText>[0], text: string): string {
  // Node would look at stdout by itself, and take CI in the environment for a terminal without colours.
  return wantsColour(stream) ? styleText(style, text, { validateStream: false }) : text;
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers are read more easily when they end in one line. */
  readonly right?: boolean;
}

/** A table without lines, its columns two spaces apart; with a line break at its end. Cells are made printable, so they hold no colours. */
export function table(columns: readonly Column[], all: readonly (readonly string[])[]): string {
  const rows = all.map((cells) => cells.map((cell) => printable(cell)));
  // Of a million rows, Math.max cannot be given all at once.
  const widths = columns.map(({ title }, index) =>
    rows.reduce((width, row) => Math.max(width, (row[index] ?? '').length), title.length),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ right }, index) => {
        const cell = cells[index] ?? '';
        const width = widths[index] ?? 0;
        return right === true ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [columns.map(({ title }) => title), ...rows].map((cells) => `${line(cells)}\n`).join('');
}

/** A value as one line of JSON that steers no terminal, with its line break. */
export function jsonLine(value: unknown): string {
  return `${printableJson(JSON.stringify(value))}\n`;
}
