/** The ratios as a picture: a bar a row, its spread as a line, its aim as a mark. */
import { init } from 'echarts';
import type { Section } from './report.ts';
import { spread } from './statistics.ts';

const BAR = 26;
const WIDTH = 1100;
const LABELS = 460;

/** Draws all rows that are ratios. @returns an SVG document */
export function plot(sections: readonly Section[], caption: string): string {
  const rows = sections
    .flatMap(({ measure, rows: all }) => all.map((row) => ({ measure, row })))
    .filter(({ row }) => row.unit === 'ratio')
    .toReversed();
  const height = BAR * rows.length + 120;
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  const spreads = rows.map(({ row }) => spread(row.values));
  const aims = rows.map(({ row: { aim } }, index) =>
    aim === undefined ? [] : [['atMost' in aim ? aim.atMost : aim.atLeast, index]],
  );
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: [
      {
        text: 'restic-gateway to OpenSSH + rclone (line: least to most; red: the aim)',
        left: 'center',
        top: 8,
        textStyle: { fontSize: 15 },
      },
      { text: caption, left: 'center', top: 34, textStyle: { fontSize: 10, fontWeight: 'normal' } },
    ],
    grid: { left: LABELS, right: 70, top: 70, bottom: 30 },
    xAxis: { type: 'value', min: 0 },
    yAxis: {
      type: 'category',
      data: rows.map(({ measure, row }) => `${measure}: ${row.what}, ${row.of}`),
      axisLabel: { width: LABELS - 20, overflow: 'truncate', fontSize: 11, interval: 0 },
    },
    series: [
      {
        type: 'bar',
        data: spreads.map(({ median }) => Number(median.toFixed(2))),
        barWidth: 14,
        itemStyle: { color: '#7aa6c2' },
        label: { show: true, position: 'insideLeft', fontSize: 10, color: '#123' },
        markLine: {
          symbol: 'none',
          silent: true,
          lineStyle: { color: '#888', type: 'dashed' },
          label: { show: false },
          data: [{ xAxis: 1 }],
        },
      },
      {
        type: 'lines',
        coordinateSystem: 'cartesian2d',
        lineStyle: { color: '#123', width: 2, opacity: 1 },
        data: spreads.map(({ min, max }, index) => ({
          coords: [
            [min, index],
            [max, index],
          ],
        })),
      },
      { type: 'scatter', symbol: 'rect', symbolSize: [3, 18], itemStyle: { color: '#c0392b' }, data: aims.flat() },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
