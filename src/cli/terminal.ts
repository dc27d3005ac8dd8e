/** What the commands print for people: tables, sizes, times and colours, each only where they belong. */
import { styleText } from 'node:util';

/** A stream that a person may sit at. */
type Output = Pick<NodeJS.WriteStream, 'isTTY'>;

/** Whether a stream is a terminal that wants colours (https://no-color.org). */
export function wantsColour(stream: Output): boolean {
  return stream.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

/** Text in a colour or bold where the stream wants it, else as it is. */
export function styled(stream: Output, style: Parameters<typeof styleText>[0], text: string): string {
  return wantsColour(stream) ? styleText(style, text) : text;
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers are read more easily when they end in one line. */
  readonly right?: boolean;
}

/** A table without lines, its columns two spaces apart; with a line break at its end. Cells hold no line breaks and no colours. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] ?? '').length)),
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

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A number of bytes as people read it: `0 B`, `1.5 KiB`, `12.3 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit] ?? ''}`;
}

/** Milliseconds as people read them: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** Text of someone else's making, without what could play tricks on a terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
}
