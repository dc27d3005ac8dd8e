/** The look of the pages: light and dark as the reader's system has it, from a wide screen down to a phone. */
import { createHash } from 'node:crypto';
import { html } from './html.ts';

/** The style element. */
export const STYLE = html`<style>
  :root {
    color-scheme: light dark;
    --bg: #f4f6f9;
    --card: #fff;
    --line: #dde2ea;
    --text: #18202c;
    --minor: #55606f;
    --link: #0b57b8;
    --well: #14703c;
    --bad: #b3211a;
    --warn: #8a4b00;
    --off: #5b6675;
    --cut: #fff;
    --plot: #2767c9;
    --tint: #f0f5fd;
    --well-bg: #e7f5ec;
    --bad-bg: #fdecea;
    --warn-bg: #fdf1dc;
    --off-bg: #edf0f4;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --bg: #0e1218;
      --card: #171d26;
      --line: #2b3441;
      --text: #e8ecf2;
      --minor: #a2adbc;
      --link: #8ab8ff;
      --well: #63d394;
      --bad: #ff938a;
      --warn: #f2b65e;
      --off: #a2adbc;
      --cut: #171d26;
      --plot: #7fb0ff;
      --tint: #1b2430;
      --well-bg: #12301f;
      --bad-bg: #3a1a18;
      --warn-bg: #37270d;
      --off-bg: #232b36;
    }
  }
  * {
    box-sizing: border-box;
  }
  body {
    margin: 0;
    background: var(--bg);
    color: var(--text);
    font:
      15px/1.45 system-ui,
      -apple-system,
      'Segoe UI',
      Roboto,
      'Noto Sans',
      'DejaVu Sans',
      sans-serif;
    -webkit-text-size-adjust: 100%;
  }
  a {
    color: var(--link);
  }
  :focus-visible {
    outline: 3px solid var(--link);
    outline-offset: 2px;
    border-radius: 4px;
  }
  .skip {
    position: absolute;
    left: -999px;
  }
  .skip:focus {
    left: 12px;
    top: 8px;
    z-index: 1;
    background: var(--card);
    padding: 8px 12px;
  }
  header,
  main,
  footer {
    max-width: 1440px;
    margin: 0 auto;
    padding: 0 24px;
  }
  header {
    display: flex;
    flex-wrap: wrap;
    gap: 4px 16px;
    align-items: baseline;
    justify-content: space-between;
    padding-top: 18px;
    color: var(--minor);
    font-size: 13px;
  }
  header nav {
    font-size: 15px;
  }
  header nav a {
    font-weight: 600;
  }
  footer {
    padding: 28px 24px 36px;
    color: var(--minor);
    font-size: 13px;
  }
  main {
    display: grid;
    gap: 20px;
    grid-template-columns: minmax(0, 1fr);
    margin-top: 16px;
  }
  h1 {
    font-size: 27px;
    line-height: 1.2;
    margin: 0;
    font-weight: 650;
    letter-spacing: -0.01em;
    overflow-wrap: anywhere;
  }
  h2 {
    font-size: 17px;
    margin: 0 0 12px;
    font-weight: 650;
  }
  p {
    margin: 0;
  }
  section,
  .hero {
    background: var(--card);
    border: 1px solid var(--line);
    border-radius: 12px;
    padding: 18px 20px;
  }
  section > p + *,
  section > * + p {
    margin-top: 10px;
  }
  code,
  .id {
    font:
      13px/1.45 ui-monospace,
      'SF Mono',
      Menlo,
      Consolas,
      'DejaVu Sans Mono',
      monospace;
    overflow-wrap: anywhere;
  }
  code {
    background: var(--off-bg);
    padding: 1px 5px;
    border-radius: 4px;
  }
  .marks {
    position: absolute;
  }
  .mark {
    flex: none;
    fill: currentColor;
    vertical-align: -2px;
  }
  .cut {
    fill: none;
    stroke: var(--cut);
    stroke-width: 1.8;
    stroke-linecap: round;
    stroke-linejoin: round;
  }
  .ring {
    fill: none;
    stroke: currentColor;
    stroke-width: 2;
    stroke-dasharray: 2.6 2.3;
  }
  .hero {
    display: flex;
    flex-wrap: wrap;
    gap: 14px 32px;
    align-items: center;
    justify-content: space-between;
    border-left-width: 6px;
  }
  .hero .title {
    display: flex;
    gap: 14px;
    align-items: center;
    min-width: 0;
    flex: 1 1 auto;
  }
  .hero .title .mark {
    width: 36px;
    height: 36px;
  }
  .hero.well {
    border-left-color: var(--well);
  }
  .hero.attention,
  .hero.late {
    border-left-color: var(--bad);
  }
  .hero.never {
    border-left-color: var(--warn);
  }
  .hero.disabled {
    border-left-color: var(--off);
  }
  .mark.well {
    color: var(--well);
  }
  .mark.attention,
  .mark.late {
    color: var(--bad);
  }
  .mark.never {
    color: var(--warn);
  }
  .mark.disabled {
    color: var(--off);
  }
  .hero ul {
    list-style: none;
    margin: 0;
    padding: 0;
    display: flex;
    flex-wrap: wrap;
    gap: 8px;
  }
  .hero p {
    margin-top: 4px;
    color: var(--minor);
  }
  .badge {
    display: inline-flex;
    gap: 6px;
    align-items: center;
    padding: 3px 10px 3px 7px;
    border-radius: 99px;
    font-size: 13px;
    font-weight: 600;
    white-space: nowrap;
  }
  .badge.well {
    color: var(--well);
    background: var(--well-bg);
  }
  .badge.attention,
  .badge.late {
    color: var(--bad);
    background: var(--bad-bg);
  }
  .badge.never {
    color: var(--warn);
    background: var(--warn-bg);
  }
  .badge.disabled {
    color: var(--off);
    background: var(--off-bg);
  }
  .figures {
    display: grid;
    grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
    gap: 12px;
    margin: 0;
  }
  .figures div {
    background: var(--card);
    border: 1px solid var(--line);
    border-radius: 12px;
    padding: 12px 16px;
  }
  .figures dt {
    color: var(--minor);
    font-size: 13px;
  }
  .figures dd {
    margin: 2px 0 0;
    font-size: 19px;
    font-weight: 600;
    font-variant-numeric: tabular-nums;
  }
  .figures .minor {
    font-size: 13px;
    font-weight: 400;
  }
  .tables {
    padding: 6px 0 2px;
    overflow: hidden;
  }
  .tables h2,
  .tables > p {
    margin: 12px 20px 4px;
  }
  table {
    border-collapse: collapse;
    width: 100%;
    font-variant-numeric: tabular-nums;
    font-size: 14px;
  }
  caption {
    text-align: left;
    color: var(--minor);
    font-size: 13px;
    padding: 6px 0;
  }
  .tables caption {
    padding-left: 20px;
    padding-right: 20px;
  }
  th,
  td {
    padding: 9px 8px;
    text-align: left;
    vertical-align: top;
    border-top: 1px solid var(--line);
  }
  thead th {
    color: var(--minor);
    font-size: 12.5px;
    font-weight: 600;
    border-top: 0;
    vertical-align: bottom;
  }
  tbody th {
    overflow-wrap: anywhere;
    font-weight: 600;
  }
  .tables th:first-child,
  .tables td:first-child {
    padding-left: 20px;
  }
  .tables th:last-child,
  .tables td:last-child {
    padding-right: 20px;
  }
  tbody tr:hover {
    background: var(--tint);
  }
  .right {
    text-align: right;
    white-space: nowrap;
  }
  .minor {
    display: block;
    color: var(--minor);
    font-size: 12.5px;
    font-weight: 400;
  }
  .why {
    margin: 3px 0 0;
    padding: 0;
    list-style: none;
    font-weight: 400;
    font-size: 13px;
    max-width: 52ch;
    overflow-wrap: anywhere;
  }
  .bad {
    color: var(--bad);
    font-weight: 600;
  }
  .none {
    color: var(--minor);
  }
  td .id,
  td bdi {
    overflow-wrap: anywhere;
  }
  time,
  .unbroken,
  .size {
    white-space: nowrap;
  }
  .size {
    display: flex;
    gap: 12px;
    justify-content: flex-end;
    align-items: center;
  }
  .spark {
    width: 88px;
    height: 28px;
    flex: none;
  }
  .area {
    fill: var(--plot);
    fill-opacity: 0.16;
  }
  .line {
    fill: none;
    stroke: var(--plot);
    stroke-width: 1.6;
    vector-effect: non-scaling-stroke;
    stroke-linejoin: round;
  }
  .bars {
    fill: var(--plot);
  }
  .grid {
    fill: none;
    stroke: var(--line);
    vector-effect: non-scaling-stroke;
  }
  .plots {
    display: grid;
    gap: 20px 32px;
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  }
  .plot {
    margin: 0;
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    gap: 4px 10px;
  }
  .plot figcaption {
    grid-column: 1/-1;
    font-size: 14px;
    margin-bottom: 4px;
  }
  .plot svg {
    width: 100%;
    height: 150px;
    display: block;
    order: 1;
  }
  .plot .scale {
    order: 2;
    display: flex;
    flex-direction: column;
    justify-content: space-between;
    color: var(--minor);
    font-size: 12.5px;
  }
  .plot .axis {
    order: 3;
    display: flex;
    justify-content: space-between;
    color: var(--minor);
    font-size: 12.5px;
  }
  .quota {
    white-space: nowrap;
  }
  .wide .of {
    color: var(--minor);
    font-size: 12.5px;
  }
  .bar {
    display: block;
    width: 100%;
    min-width: 76px;
    height: 6px;
    border-radius: 3px;
    margin-top: 5px;
  }
  .track {
    fill: var(--line);
  }
  .fill {
    fill: var(--plot);
  }
  .full .fill {
    fill: var(--bad);
  }
  .facts {
    display: grid;
    grid-template-columns: max-content minmax(0, 1fr);
    gap: 7px 20px;
    margin: 0;
  }
  .facts dt {
    color: var(--minor);
  }
  .facts dd {
    margin: 0;
    overflow-wrap: anywhere;
  }
  .facts .quota {
    display: inline-block;
  }
  .open {
    list-style: none;
    margin: 0;
    padding: 0;
    display: grid;
    gap: 12px;
  }
  .open li {
    border-left: 4px solid var(--bad);
    padding: 2px 0 2px 14px;
    overflow-wrap: anywhere;
  }
  .open strong {
    display: block;
  }
  summary {
    cursor: pointer;
    color: var(--link);
  }
  details[open] summary {
    margin-bottom: 8px;
  }
  .running td,
  .running th {
    background: var(--tint);
  }
  @media (min-width: 1360px) {
    .facts {
      grid-template-columns: max-content minmax(0, 1fr) max-content minmax(0, 1fr);
    }
    .wide tbody th {
      min-width: 170px;
    }
  }
  @media (max-width: 1359px) {
    table,
    caption,
    tr,
    tbody th,
    td {
      display: block;
    }
    thead {
      position: absolute;
      width: 1px;
      height: 1px;
      overflow: hidden;
      clip-path: inset(50%);
    }
    tbody {
      display: grid;
      grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr));
    }
    tbody tr {
      border-top: 1px solid var(--line);
      padding: 12px 16px;
      min-width: 0;
    }
    tbody th,
    td,
    .tables th:first-child,
    .tables td:first-child,
    .tables th:last-child,
    .tables td:last-child {
      border: 0;
      padding: 3px 0;
    }
    tbody th {
      font-size: 16px;
    }
    td {
      display: flex;
      gap: 16px;
      justify-content: space-between;
      text-align: right;
    }
    td::before {
      content: attr(data-title);
      color: var(--minor);
      font-size: 13px;
      flex: none;
      text-align: left;
    }
    td:first-child::before {
      content: none;
    }
    td > div {
      min-width: 0;
    }
    td.empty {
      display: none;
    }
    .bar {
      margin-left: auto;
      width: 120px;
    }
    .running td,
    .running th {
      background: none;
    }
    .running {
      background: var(--tint);
    }
  }
  @media (max-width: 700px) {
    header,
    main,
    footer {
      padding-left: 12px;
      padding-right: 12px;
    }
    main {
      gap: 12px;
    }
    h1 {
      font-size: 22px;
    }
    .hero .title .mark {
      width: 28px;
      height: 28px;
    }
    .hero,
    section {
      padding: 14px;
    }
    .tables {
      padding: 6px 0 2px;
    }
    .tables h2,
    .tables > p {
      margin-left: 14px;
      margin-right: 14px;
    }
    .tables caption {
      padding-left: 14px;
    }
    .figures {
      grid-template-columns: repeat(2, minmax(0, 1fr));
    }
    .figures div:last-child {
      grid-column: 1 / -1;
    }
    .facts {
      grid-template-columns: minmax(0, 1fr);
      gap: 0;
    }
    .facts dd {
      margin-bottom: 9px;
    }
  }
  @media (forced-colors: active) {
    .mark {
      forced-color-adjust: none;
    }
    .line {
      stroke: CanvasText;
    }
    .bars,
    .fill {
      fill: CanvasText;
    }
  }
  @media print {
    body {
      background: #fff;
    }
    section,
    .hero {
      break-inside: avoid;
    }
  }
</style>`;

/** As it is sent: without the indents. */
export function compact(text: string): string {
  return text.replace(/\n\s+/g, '\n');
}

/**
 * What a page may do, for `Content-Security-Policy`: show itself and its own icon. No script, no form, no frame, nothing from elsewhere.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256')
    .update(/>([^]*)</.exec(compact(STYLE.toString()))?.[1] ?? '')
    .digest('base64')}'`,
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');
