/** The words and marks that both pages use: states, times, counts. */
import { formatBytes, formatDuration } from '../core/quantities.ts';
import type { ClientStatus, ClientState } from '../monitor/client-status.ts';
import { html, type Html } from './html.ts';

/** Worst first. */
export const STATES: readonly ClientState[] = ['attention', 'late', 'never', 'ok', 'disabled'];

const WORDS: Readonly<Record<ClientState, string>> = {
  attention: 'Needs a look',
  late: 'Late',
  never: 'Never yet',
  ok: 'OK',
  disabled: 'Disabled',
};

/** The shapes of the states, each another one, to be drawn by `mark`; once on a page. */
export function marks(): Html {
  return html`<svg class="marks" aria-hidden="true" width="0" height="0">
    <symbol id="attention" viewBox="0 0 16 16">
      <path d="M8 1.2 15.4 14.4H.6Z" />
      <path class="cut" d="M8 5.6v4M8 11.6v.9" />
    </symbol>
    <symbol id="late" viewBox="0 0 16 16">
      <circle cx="8" cy="8" r="7.2" />
      <path class="cut" d="M8 4v4.3l2.8 1.9" />
    </symbol>
    <symbol id="never" viewBox="0 0 16 16"><circle class="ring" cx="8" cy="8" r="6.2" /></symbol>
    <symbol id="ok" viewBox="0 0 16 16">
      <circle cx="8" cy="8" r="7.2" />
      <path class="cut" d="m4.7 8.3 2.3 2.4 4.3-5" />
    </symbol>
    <symbol id="disabled" viewBox="0 0 16 16">
      <circle cx="8" cy="8" r="7.2" />
      <path class="cut" d="M4.6 8h6.8" />
    </symbol>
  </svg>`;
}

/** The shape of a state, for beside its words. */
export function mark(state: ClientState): Html {
  return html`<svg class="mark ${state}" aria-hidden="true" width="16" height="16"><use href="#${state}" /></svg>`;
}

/** A state, in shape and words. */
export function badge(state: ClientState, words = WORDS[state]): Html {
  return html`<span class="badge ${state}">${mark(state)}${words}</span>`;
}

export function needsAttention({ state }: ClientStatus): boolean {
  return state !== 'ok' && state !== 'disabled';
}

/** A moment to the minute, UTC: `2026-11-25 18:04`. */
export function dateAndTime(time: Date): Html {
  const iso = time.toISOString();
  return html`<time datetime="${iso}">${iso.slice(0, 10)} ${iso.slice(11, 16)}</time>`;
}

/** How long ago, or until when, with the moment itself for who points at it. */
export function distance(time: Date, now: Date): Html {
  const ms = now.getTime() - time.getTime();
  const iso = time.toISOString();
  const words = ms >= 0 ? `${formatDuration(ms)} ago` : `in ${formatDuration(-ms)}`;
  return html`<time datetime="${iso}" title="${iso.slice(0, 19).replace('T', ' ')} UTC">${words}</time>`;
}

/** Names of objects by their first digits, as restic shows them. */
export function withShortNames(text: string): string {
  return text.replace(/\b([0-9a-f]{8})[0-9a-f]{56}\b/g, '$1…');
}

/** What is stored, `~` where it is estimated. */
export function sizeWords({ size }: ClientStatus): string {
  if (size === undefined) return 'not known';
  return size.by === 'estimated' ? `~${formatBytes(size.bytes)}` : formatBytes(size.bytes);
}

/** A bar that is filled as far as the quota is, with its words. */
export function quotaBar({ quota }: ClientStatus): Html | undefined {
  if (quota === undefined) return undefined;
  const { limit, used } = quota;
  if (used === undefined) return html`of ${formatBytes(limit)}`;
  const share = limit === 0 ? 1 : used / limit;
  const filled = Math.round(Math.min(1, share) * 100);
  return html`<span class="quota"
    >${Math.floor(share * 100)} % <span class="of">of ${formatBytes(limit)}</span
    ><svg class="bar ${share >= 0.95 ? 'full' : ''}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="track" width="100" height="6" />
      <rect class="fill" width="${filled}" height="6" /></svg
  ></span>`;
}

/** What the last scrub found. */
export function scrubWords({ scrub, unfinishedScrub }: ClientStatus, now: Date): Html {
  const unfinished = unfinishedScrub && html`<span class="minor">one is unfinished</span>`;
  if (scrub === undefined) return html`<span class="none">never</span>${unfinished}`;
  return html`${foundWords(scrub)}<span class="minor">${distance(scrub.finished, now)}</span>${unfinished}`;
}

/** `good`, or how many files are bad. */
export function foundWords({ findings, quick }: NonNullable<ClientStatus['scrub']>): Html {
  const words = `${findings === 0 ? 'good' : `${findings} bad`}${quick ? ' (quick)' : ''}`;
  return html`<span class="${findings === 0 ? '' : 'bad'}">${words}</span>`;
}
