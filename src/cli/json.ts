/**
 * What `--json` prints (docs/json.md): JSON lines, each an object with `v`, the version of this format, and `kind`, what it is about. Results
 * go to stdout. stderr has lines of kind `error` and `warning`, and nothing else of the gateway's.
 */
import { printableJson } from '../core/printable.ts';
import type { ClientStatus, SessionFigures } from '../monitor/client-status.ts';

/** What a line is about. */
type JsonKind = (typeof JSON_KINDS)[number];

/** All kinds, in the order of the docs. */
export const JSON_KINDS = [
  ...(['status', 'session', 'event', 'verify', 'check', 'client'] as const),
  ...(['client-change', 'clients', 'legal-hold', 'scrub', 'forget', 'trash'] as const),
  ...(['trash-restore', 'trash-purge', 'undo', 'quarantine', 'quarantine-made', 'quarantine-restored'] as const),
  ...(['extend', 'probe', 'gateway', 'revocation', 'notify', 'notify-test', 'error', 'warning'] as const),
] as const;

/** One line of JSON that steers no terminal, with its line break. */
export function jsonLine(kind: JsonKind, value: object): string {
  return `${printableJson(JSON.stringify({ v: 1, kind, ...value }))}\n`;
}

/** The status of a client, by the names that are the same in all kinds. */
export function statusJson(one: ClientStatus): object {
  const { arrived, arrivedLately, addresses, keys, anomalies, refusals, removals, running, latest, scrub, ...rest } =
    one;
  const { unfinishedScrub, ...plain } = rest;
  return {
    ...plain,
    good: one.state === 'ok' || one.state === 'disabled',
    ...{ added: arrived, addedLately: arrivedLately },
    running: running.map(sessionJson),
    latest: latest.map(sessionJson),
    anomalies: anomalies.map(({ at, ...each }) => ({ ...each, first: at })),
    refusals: refusals.map(({ at, ...each }) => ({ ...each, first: at })),
    removals: removals.map(({ at, ...each }) => ({ ...each, first: at })),
    addresses: addresses.map(({ value, ...each }) => ({ ...each, address: value })),
    keys: keys.map(({ value, ...each }) => ({ ...each, fingerprint: value })),
    ...(scrub && { scrub: renamedTimes(scrub) }),
    ...(unfinishedScrub && { unfinishedScrub: renamedTimes(unfinishedScrub) }),
  };
}

function sessionJson({ key, ...one }: SessionFigures): object {
  return { ...one, ...(key !== undefined && { fingerprint: key }) };
}

function renamedTimes(scrub: { readonly started?: Date; readonly finished?: Date }): object {
  const { started, finished, ...rest } = scrub;
  return { ...rest, ...(started && { start: started }), ...(finished && { end: finished }) };
}
