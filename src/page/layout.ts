/** The frame of every page: its head, its landmarks, and the way back. */
import type { ClientState } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';
import { compact, STYLE } from './style.ts';
import { marks } from './words.ts';

/** How often a page that does so loads itself anew, in seconds. */
const REFRESH_SECONDS = 60;

/** Which gateway this is. */
export interface About {
  readonly host: string;
  readonly version: string;
}

/** What every page is told beside what it shows. */
export interface Frame {
  readonly about: About;
  readonly now: Date;
  /** What the address asks for. */
  readonly query: URLSearchParams;
}

/** A page as a whole. */
interface Layout {
  readonly frame: Frame;
  /** What the window is called. */
  readonly title: string;
  /** The worst state on it: the window's icon. */
  readonly state: ClientState;
  /** Where the pages begin, from this one: `./` or `../`. */
  readonly root: './' | '../';
  /** Whether it can load itself anew. */
  readonly refreshes: boolean;
  /** In seconds, for a page that has nothing to read yet. */
  readonly retry?: number;
  readonly main: Html;
}

/** The text of a page. */
export function document({ frame, title, state, root, refreshes, retry, main }: Layout): string {
  const { about, now, query } = frame;
  const stamp = now.toISOString();
  const refresh = refreshes ? isRefreshing(query) : undefined;
  const seconds = refresh === true ? REFRESH_SECONDS : retry;
  return compact(
    html`<!doctype html>
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <meta name="viewport" content="width=device-width, initial-scale=1" />
          <meta name="color-scheme" content="light dark" />
          ${seconds === undefined ? undefined : html`<meta http-equiv="refresh" content="${seconds}" />`}
          <title>${title} · restic-gateway on ${about.host}</title>
          <link rel="icon" href="${ICONS[state]}" />
          ${STYLE}
        </head>
        <body>
          <a class="skip" href="#content">Skip to the content</a>
          ${marks()}
          <header>
            <nav aria-label="Pages"><a href="${root}">All clients</a> <a href="${root}help">Help</a></nav>
            <p>
              <bdi>${about.host}</bdi>, as of
              <time datetime="${stamp}">${stamp.slice(0, 10)} ${stamp.slice(11, 19)} UTC</time
              >${refreshLink(refresh, query)}
            </p>
          </header>
          <main id="content" tabindex="-1">${main}</main>
          <footer>
            <p>
              restic-gateway ${about.version} on <bdi>${about.host}</bdi>. All times are UTC, by this gateway's clock.
              What is shown comes from its audit; this page changes nothing.
            </p>
          </footer>
        </body>
      </html>`.toString(),
  );
}

function isRefreshing(query: URLSearchParams): boolean {
  return query.get('refresh') === `${REFRESH_SECONDS}`;
}

/** Of what stands in an address, in characters. */
const LONGEST_VALUE = 200;

/** The same address with other values in its query; without those that are empty. */
export function changed(query: URLSearchParams, changes: Readonly<Record<string, string>>): string {
  const next = new URLSearchParams();
  for (const name of ['find', 'state', 'page', 'refresh']) {
    const value = (changes[name] ?? query.get(name) ?? '').slice(0, LONGEST_VALUE);
    if (value !== '') next.set(name, value);
  }
  return `?${next.toString()}`;
}

function refreshLink(refresh: boolean | undefined, query: URLSearchParams): Html | undefined {
  if (refresh === undefined) return undefined;
  return refresh
    ? html` · anew every minute · <a href="${changed(query, { refresh: '' })}">stop</a>`
    : html` · <a href="${changed(query, { refresh: `${REFRESH_SECONDS}` })}">load anew every minute</a>`;
}

/** The marks once more, as files of their own: an icon knows nothing of the page's style. */
const ICONS = {
  ok: icon('#14703c', '<circle cx="8" cy="8" r="8"/>', 'm4.7 8.3 2.3 2.4 4.3-5'),
  attention: icon('#c5281f', '<path d="M8 .6 15.8 15H.2Z"/>', 'M8 5.6v4M8 11.8v.9'),
  late: icon('#c5281f', '<circle cx="8" cy="8" r="8"/>', 'M8 4v4.3l2.8 1.9'),
  never: icon('#a65b00', '<circle cx="8" cy="8" r="8"/>', 'M5 8h.1M8 8h.1M11 8h.1'),
  disabled: icon('#5b6675', '<circle cx="8" cy="8" r="8"/>', 'M4.6 8h6.8'),
} as const satisfies Record<ClientState, string>;

function icon(colour: string, shape: string, sign: string): string {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="${colour}">${shape}</g><path d="${sign}" fill="none" stroke="#fff" stroke-width="1.8" stroke-linecap="round"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
