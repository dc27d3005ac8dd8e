/**
 * Plots as SVG, drawn from zero. A first backup, or one day like it, is a hundred times what comes later: where few values are far above all
 * others, the scale ends at the others, and a mark shows what is cut.
 *
 * What they show is said in words too: in their title, and in what stands around them.
 */
import { counted, formatBytes } from '../core/quantities.ts';
import type { ClientStatus } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';

/** A value for each day, oldest first; undefined where it is not known. */
interface Series {
  readonly days: readonly string[];
  readonly values: readonly (number | undefined)[];
  /** What it shows, in words. */
  readonly title: string;
}

const SMALL = { width: 120, height: 28 };
const LARGE = { width: 720, height: 150 };

/**
 * What the repository held by day, as far as the audit knows it; else what has arrived by then, of the days that are shown.
 * @param count - how many days, up to today
 */
export function growthOf({ days }: ClientStatus, count: number): Series {
  const shown = days.slice(-count);
  const names = shown.map(({ day }) => day);
  const known = shown.findIndex(({ size }) => size !== undefined);
  if (known < 0) {
    let sum = 0;
    const values = shown.map(({ added }) => (sum += added));
    return { days: names, values, title: `Arrived since ${names[0] ?? ''}: ${formatBytes(sum)}` };
  }
  const values = shown.map(({ size }) => size);
  const [first = 0, last = 0] = [values[known], values.at(-1)];
  const most = Math.max(...values.map((value) => value ?? 0));
  const peak = most > Math.max(first, last) ? `, at most ${formatBytes(most)}` : '';
  const title = `Size from ${names[known] ?? ''} to ${names.at(-1) ?? ''}: ${formatBytes(first)} to ${formatBytes(last)}${peak}`;
  return { days: names, values, title };
}

/** What arrived on each day. */
export function additionsOf({ days }: ClientStatus): Series {
  const values = days.map(({ added }) => added);
  const most = formatBytes(Math.max(0, ...values));
  const title = `Added on each day from ${days[0]?.day ?? ''} to ${days.at(-1)?.day ?? ''}: at most ${most}`;
  return { days: days.map(({ day }) => day), values, title };
}

/** A line with its area, as small as a word. */
export function smallPlot(series: Series): Html {
  const top = topOf(series);
  return html`<svg class="spark" viewBox="0 0 ${SMALL.width} ${SMALL.height}" role="img">
    <title>${titleOf(series, top)}</title>
    ${area(series, SMALL, top)}${cutMark(series, SMALL, top)}
  </svg>`;
}

/** The same with its scale. @param kind - `line` with its area, or a `bar` for each day */
export function largePlot(series: Series, kind: 'line' | 'bars'): Html {
  const { days } = series;
  const top = topOf(series);
  const title = titleOf(series, top);
  return html`<figure class="plot">
    <figcaption>${title}</figcaption>
    <div class="scale" aria-hidden="true"><span>${formatBytes(top)}</span><span>0</span></div>
    <svg viewBox="0 0 ${LARGE.width} ${LARGE.height}" preserveAspectRatio="none" role="img">
      <title>${title}</title>
      <path
        class="grid"
        d="M0 1H${LARGE.width}M0 ${LARGE.height / 2}H${LARGE.width}M0 ${LARGE.height - 1}H${LARGE.width}"
      />
      ${kind === 'line' ? area(series, LARGE, top) : bars(series, LARGE, top)}${cutMark(series, LARGE, top)}
    </svg>
    <div class="axis" aria-hidden="true"><span>${days[0]}</span><span>${days.at(-1)}</span></div>
  </figure>`;
}

interface Box {
  readonly width: number;
  readonly height: number;
}

/** Above so many times the 95th percentile of what is there at all, values are cut. */
const FAR_ABOVE = 3;
const PERCENTILE = 0.95;

/** Where the scale ends: at the largest value, or if that is far above the others, a little above the 95th percentile. */
function topOf({ values }: Series): number {
  const sorted = values.filter((value) => value !== undefined && value > 0).sort((a, b) => (a ?? 0) - (b ?? 0));
  const most = sorted.at(-1) ?? 1;
  const usual = sorted[Math.floor(PERCENTILE * (sorted.length - 1))] ?? most;
  // Rounded, so that what is written beside it is where it ends.
  return most > FAR_ABOVE * usual ? Math.ceil(usual * 1.25) : Math.max(1, most);
}

function titleOf(series: Series, top: number): string {
  const cut = series.values.filter((value) => value !== undefined && value > top).length;
  return cut === 0 ? series.title : `${series.title}; ${counted(cut, 'day')} above ${formatBytes(top)} cut off`;
}

/** A dashed line along the top where values go on beyond it. */
function cutMark({ values }: Series, { width }: Box, top: number): Html | undefined {
  const step = width / values.length;
  const marks = values.flatMap((value, index) => {
    if (value === undefined || value <= top) return [];
    const middle = (index + 0.5) * step;
    const half = Math.max(step / 2, width / 60);
    return [`M${short(Math.max(0, middle - half))} 3H${short(Math.min(width, middle + half))}`];
  });
  return marks.length === 0 ? undefined : html`<path class="beyond" d="${marks.join('')}" />`;
}

function area(series: Series, { width, height }: Box, most: number): Html | undefined {
  const { values } = series;
  const points = values.flatMap((value, index) => {
    if (value === undefined) return [];
    const x = (index * width) / Math.max(1, values.length - 1);
    return [[short(x), short(height - 2 - ((height - 4) * Math.min(value, most)) / most)] as const];
  });
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const line = points.map(([x, y]) => `${x} ${y}`).join('L');
  return html`<path class="area" d="M${first[0]} ${height}L${line}L${last[0]} ${height}Z" /><path
      class="line"
      d="M${line}"
    />`;
}

function bars(series: Series, { width, height }: Box, most: number): Html {
  const { values } = series;
  const step = width / values.length;
  const drawn = values.flatMap((value, index) => {
    if (value === undefined || value <= 0) return [];
    // Something is never drawn as nothing.
    const tall = Math.max(2, ((height - 4) * Math.min(value, most)) / most);
    return [`M${short((index + 0.15) * step)} ${height}v-${short(tall)}h${short(step * 0.7)}v${short(tall)}z`];
  });
  return html`<path class="bars" d="${drawn.join('') || 'M0 0'}" />`;
}

function short(value: number): number {
  return Math.round(value * 10) / 10;
}
