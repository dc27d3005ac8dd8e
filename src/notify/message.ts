/** A message, and its words for people: bounded, printable, and escaped for where they are shown. Pure. */
import { createHash } from 'node:crypto';
import { printable } from '../core/printable.ts';
import type { Census, Draft, Item } from './plan.ts';

/** What is sent to a target. */
export interface Message {
  /** The same whenever the same is sent again. */
  readonly id: string;
  readonly kind: Draft['kind'] | 'test';
  readonly at: number;
  /** The host that the gateway runs on. */
  readonly gateway: string;
  readonly severity: Draft['severity'];
  /** One line. */
  readonly title: string;
  /** The first of them, the worst first. */
  readonly items: readonly Item[];
  /** How many more there are. */
  readonly more: number;
  /** How many clients are in each state, in a digest. */
  readonly census?: Census;
}

/** So many are told one by one. */
const MOST_ITEMS = 20;
/** What anybody needs to read of a text that a client or a storage may have had a part in, in characters. */
const LONGEST = 500;
/** Of a name, which nobody but the config has a part in unless files of `state` were changed. */
const LONGEST_NAME = 100;
/** How many clients a title names. */
const MOST_NAMED = 3;

/** @param gateway - the host's name */
export function messageOf(draft: Draft, target: string, gateway: string): Message {
  const items = draft.items.slice(0, MOST_ITEMS).map((item) => ({
    ...item,
    rule: printable(item.rule, LONGEST_NAME),
    what: printable(item.what, LONGEST),
    advice: printable(item.advice, LONGEST),
  }));
  const told = draft.items.map(({ key, state, since }) => `${key} ${state} ${since}`);
  const hash = createHash('sha256').update(JSON.stringify([gateway, target, draft.kind, draft.number, told]));
  return {
    ...{ id: hash.digest('hex').slice(0, 32), kind: draft.kind, at: draft.at, gateway, severity: draft.severity },
    ...{ title: printable(titleOf(draft), LONGEST), items, more: draft.items.length - items.length },
    ...(draft.census !== undefined && { census: draft.census }),
  };
}

/** What `notify test` sends. */
export function testMessage(gateway: string, now: number, id: string): Message {
  return {
    ...{ id, kind: 'test', at: now, gateway, severity: 'ok', items: [], more: 0 },
    title: 'a test: notifications arrive here',
  };
}

function titleOf({ kind, severity, items, census = {} }: Draft): string {
  if (kind === 'digest') {
    const all = Object.values(census).reduce((sum, count) => sum + count, 0);
    const good = (census.ok ?? 0) + (census.disabled ?? 0);
    return `weekly summary: ${good} of ${all} clients OK`;
  }
  const [only] = items;
  const mark = severity === 'ok' ? 'OK' : severity.toUpperCase();
  if (items.length === 1 && only !== undefined) {
    const { client = 'the gateway', rule, state } = only;
    const how = { new: '', worse: ' (worse)', over: ' is over', still: ' goes on', missed: ' came and went' }[state];
    return `${mark}: ${client}: ${rule}${how}`;
  }
  const states = ['new', 'worse', 'missed', 'over', 'still'] as const;
  const counts = states.flatMap((state) => {
    const count = items.filter((one) => one.state === state).length;
    const word = { new: 'new', worse: 'worse', missed: 'came and went', over: 'over', still: 'going on' }[state];
    return count === 0 ? [] : [`${count} ${word}`];
  });
  const names = [...new Set(items.map(({ client = 'the gateway' }) => client))];
  const rest = names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : '';
  return `${mark}: ${counts.join(', ')}: ${names.slice(0, MOST_NAMED).join(', ')}${rest}`;
}

/** How words are written where they are shown. */
export interface Markup {
  /** Makes a text one that is shown as it is. */
  readonly escape: (text: string) => string;
  readonly bold: (escaped: string) => string;
}

export const PLAIN: Markup = { escape: (text) => text, bold: (text) => text };

/** Source: https://docs.slack.dev/messaging/formatting-message-text */
export const SLACK: Markup = {
  escape: (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'),
  bold: (text) => `*${text}*`,
};

/** CommonMark; a mention (`@all`) is broken by a character of no width, since chats look for it whatever stands before. */
export const MARKDOWN: Markup = {
  escape: (text) => text.replace(/[\\`*_{}[\]()<>#+!|~:-]/g, '\\$&').replaceAll('@', '@\u200b'),
  bold: (text) => `**${text}**`,
};

/** The words below the title. @param mostBytes - what does not fit is counted */
export function wordsOf(message: Message, { escape, bold }: Markup = PLAIN, mostBytes = Infinity): string {
  const { items, more, census, kind } = message;
  const parts: string[] = [];
  if (kind === 'test') parts.push(escape('If you read this, the target is set up as it should be.'));
  if (census !== undefined) {
    const counts = Object.entries(census).map(([state, count]) => `${count} ${state}`);
    parts.push(escape(`Clients: ${counts.length === 0 ? 'none' : counts.join(', ')}.`));
    if (items.length === 0) parts.push(escape('Nothing is open.'));
  }
  const end = (left: number): string =>
    left === 0 ? '' : `\n\n${escape(`And ${left} more: restic-gateway status shows all.`)}`;
  let shown = 0;
  for (const item of items) {
    const { state, severity, client = 'the gateway', rule, since, what, advice } = item;
    const began = new Date(since).toISOString().slice(0, 16).replace('T', ' ');
    const lines = [
      bold(
        escape(`${STATES[state]}${state === 'over' ? '' : `, ${severity}`}: ${client}: ${rule}, since ${began} UTC`),
      ),
      escape(what),
      ...(advice === '' ? [] : [escape(advice)]),
    ];
    const next = lines.join('\n');
    const room = mostBytes - Buffer.byteLength([...parts, next].join('\n\n')) - Buffer.byteLength(end(9999));
    if (room < 0) break;
    parts.push(next);
    shown += 1;
  }
  return parts.join('\n\n') + end(items.length - shown + more);
}

const STATES = {
  new: 'New',
  worse: 'Worse',
  over: 'Over',
  still: 'Still',
  missed: 'Came and went while this target could not be reached',
} as const satisfies Record<Item['state'], string>;
