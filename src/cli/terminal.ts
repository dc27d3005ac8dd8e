/** What the commands print for people: tables, sizes, times and colours, each only where they belong. */
import { styleText } from 'node:util';
import { printable } from '../core/printable.ts';
import { fitted, textWidth, wrapped } from './text.ts';

export { printable } from '../core/printable.ts';
export { counted, formatBytes, formatDuration } from '../core/quantities.ts';

/** A stream that a person may sit at. */
type Output = Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>;

type Style = Parameters<typeof styleText>[0];

/** Whether a stream is a terminal that wants colours (https://no-color.org). */
function wantsColour(stream: Output): boolean {
  return stream.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

/** Text in a colour or bold where the stream wants it, else as it is. */
export function styled(stream: Output, style: Style, text: string): string {
  // Node would look at stdout by itself, and take CI in the environment for a terminal without colours.
  return wantsColour(stream) ? styleText(style, text, { validateStream: false }) : text;
}

/** How many columns a stream's terminal has; undefined for what is no terminal, where lines may be of any length. */
export function terminalWidth(stream: Output): number | undefined {
  const asked = Number(process.env['COLUMNS']);
  const exported = Number.isInteger(asked) && asked > 0 ? asked : undefined;
  // Shells do not export COLUMNS: whoever does wants it, for a pager too.
  if (!stream.isTTY) return exported;
  return stream.columns > 0 ? stream.columns : (exported ?? DEFAULT_WIDTH);
}

const DEFAULT_WIDTH = 80;
/** A terminal that is narrower than this cannot be written for. */
const LEAST_WIDTH = 20;

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers are read more easily when they end in one line. */
  readonly right?: boolean;
  /** Where the table is too wide, the columns with the lowest number are left out first; one without stays. */
  readonly rank?: number;
  /** To how many columns it may be cut, `…` in its middle (names) or at its end (sentences); one without is not. */
  readonly cut?: { readonly to: number; readonly at: 'middle' | 'end' };
}

/** What stands in a table. A moment is written in the zone that the title then names; a colour is only for terminals. */
type Cell = string | Date | { readonly text: string; readonly style: Style };

/**
 * A table without lines, its columns two spaces apart; with a line break at its end. It fits the terminal: columns are cut, then left out.
 * Cells are made printable.
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  width = terminalWidth(process.stdout),
): string {
  const laidOut = columns.map((column, index) =>
    layOut(
      column,
      rows.map((row) => row[index] ?? ''),
    ),
  );
  const shown = width === undefined ? laidOut : fitColumns(laidOut, Math.max(LEAST_WIDTH, width));
  const line = (cellOf: (column: LaidOut) => { readonly text: string; readonly style?: Style | undefined }): string => {
    const parts = shown.map((column) => {
      const { text, style } = cellOf(column);
      const cell = fitted(text, column.width, column.cut?.at ?? 'end');
      const blanks = ' '.repeat(column.width - textWidth(cell));
      const painted = style === undefined ? cell : styled(process.stdout, style, cell);
      return column.right === true ? blanks + painted : painted + blanks;
    });
    return `${parts.join('  ').trimEnd()}\n`;
  };
  const body = rows.map((_row, index) =>
    line(({ texts, styles }) => ({ text: texts[index] ?? '', style: styles[index] })),
  );
  return line(({ title }) => ({ text: title })) + body.join('');
}

/** A column with its cells as text, and how wide it is. */
interface LaidOut extends Column {
  readonly texts: readonly string[];
  readonly styles: readonly (Style | undefined)[];
  readonly width: number;
}

function layOut(column: Column, cells: readonly Cell[]): LaidOut {
  const times = cells.filter((cell) => cell instanceof Date);
  // One zone for all, as it mostly is, is said once.
  const [zone = '', ...others] = new Set(times.map(zoneOf));
  const isOne = times.length > 0 && others.length === 0;
  const texts = cells.map((cell) =>
    printable(
      cell instanceof Date
        ? isOne
          ? formatLocal(cell)
          : formatTime(cell)
        : typeof cell === 'string'
          ? cell
          : cell.text,
    ),
  );
  const styles = cells.map((cell) => (typeof cell === 'string' || cell instanceof Date ? undefined : cell.style));
  const title = isOne ? `${column.title} (${zone})` : column.title;
  const width = texts.reduce((most, text) => Math.max(most, textWidth(text)), textWidth(title));
  return { ...column, title, texts, styles, width };
}

const GAP = 2;

/** The columns that fit, at the widths at which they do. */
function fitColumns(all: readonly LaidOut[], width: number): readonly LaidOut[] {
  const total = (columns: readonly LaidOut[]): number =>
    columns.reduce((sum, column) => sum + column.width, GAP * (columns.length - 1));
  const least = (column: LaidOut): number => Math.min(column.width, column.cut?.to ?? column.width);
  let columns = all;
  for (;;) {
    if (total(columns) <= width) return columns;
    const leaves = [...columns].filter(({ rank }) => rank !== undefined).sort((a, b) => (a.rank ?? 0) - (b.rank ?? 0));
    // What says nothing goes first, and nothing is cut for it.
    const empty = leaves.find(({ texts }) => texts.every((text) => text === ''));
    const enough = total(columns.map((column) => ({ ...column, width: least(column) }))) <= width;
    const left = empty ?? (enough ? undefined : leaves[0]);
    if (left === undefined) break;
    columns = columns.filter((column) => column !== left);
  }
  // The widest gives first; where even the least is too much, all give what they must.
  const floors = [least, () => 1];
  let widths = columns.map((column) => column.width);
  for (const floor of floors) {
    let excess = widths.reduce((sum, one) => sum + one, GAP * (columns.length - 1)) - width;
    while (excess > 0) {
      const can = columns.map((column, index) => ((widths[index] ?? 0) > floor(column) ? (widths[index] ?? 0) : -1));
      const widest = can.indexOf(Math.max(...can));
      if ((can[widest] ?? -1) < 0) break;
      widths = widths.with(widest, (widths[widest] ?? 0) - 1);
      excess--;
    }
  }
  return columns.map((column, index) => ({ ...column, width: widths[index] ?? 0 }));
}

/** Lines of prose, wrapped to fit the terminal; with a line break at each end. Blanks before a line stay, and `indent` begins its further ones. */
export function prose(text: string, indent = '', stream: Output = process.stdout): string {
  const width = terminalWidth(stream);
  const lines = text.split('\n');
  const fit =
    width === undefined ? lines : lines.flatMap((line) => wrapped(line, Math.max(LEAST_WIDTH, width), indent));
  return fit.map((line) => `${line}\n`).join('');
}

/** A moment in this machine's zone, to the second, as a command line takes it too: `2026-11-25 19:00:00 +01:00`, `2026-11-25 18:00:00 UTC`. */
export function formatTime(time: Date): string {
  return `${formatLocal(time)} ${zoneOf(time)}`;
}

function formatLocal(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** How far the local clock is from UTC at a moment: `UTC`, `+01:00`. */
function zoneOf(time: Date): string {
  const minutes = -time.getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const two = (value: number): string => String(value).padStart(2, '0');
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
