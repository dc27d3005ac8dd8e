/**
 * `status --nagios`: one line and an exit status as Nagios, Icinga, Zabbix and checkmk read them of a plugin.
 *
 * Source: https://nagios-plugins.org/doc/guidelines.html (plugin output, return codes, performance data)
 */
import { messageOf } from '../core/errors.ts';
import type { ClientState, ClientStatus } from '../monitor/client-status.ts';
import type { GatewayProblem } from '../monitor/gateway-problems.ts';
import { counted, printable } from './terminal.ts';

const EXIT = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 } as const;

const STATES = ['attention', 'late', 'never', 'ok', 'disabled'] as const satisfies readonly ClientState[];

/** How bad each state is. */
const LEVELS = {
  attention: 'CRITICAL',
  late: 'CRITICAL',
  never: 'WARNING',
  ok: 'OK',
  disabled: 'OK',
} as const satisfies Record<ClientState, keyof typeof EXIT>;

/** How many clients are named. */
const MOST_NAMED = 5;

/** Prints the line. @param problems - what is wrong with the gateway itself @returns the exit status */
export function reportToNagios(all: readonly ClientStatus[], problems: readonly GatewayProblem[]): number {
  const levels: (keyof typeof EXIT)[] = all.map(({ state }) => LEVELS[state]);
  levels.push(...problems.map(({ kind }) => (kind === 'audit-lost' ? ('CRITICAL' as const) : ('WARNING' as const))));
  const level = (['CRITICAL', 'WARNING'] as const).find((one) => levels.includes(one)) ?? 'OK';
  const counts = STATES.map((state) => [state, all.filter((one) => one.state === state).length] as const);
  const bad = STATES.flatMap((state) => all.filter((one) => one.state === state && LEVELS[state] !== 'OK'));
  const named = bad
    .slice(0, MOST_NAMED)
    .map(({ client, state, reasons }) => `${client} ${state}${reasons[0] === undefined ? '' : ` (${reasons[0]})`}`);
  if (bad.length > MOST_NAMED) named.push(`and ${bad.length - MOST_NAMED} more`);
  named.push(...problems.map(({ words }) => words));
  const words = named.length === 0 ? counted(all.length, 'client') : named.join(', ');
  const figures = counts.map(([state, count]) => `${state}=${count};;;0;${all.length}`).join(' ');
  say(level, words, figures);
  return EXIT[level];
}

/** What keeps the status from being known. @returns the exit status */
export function unknownToNagios(error: unknown): number {
  say('UNKNOWN', messageOf(error));
  return EXIT.UNKNOWN;
}

function say(level: keyof typeof EXIT, words: string, figures?: string): void {
  // What stands after a bar is taken for figures.
  const text = printable(words.replaceAll('\n', ' ')).replaceAll('|', '/');
  process.stdout.write(`RESTIC-GATEWAY ${level} - ${text}${figures === undefined ? '' : ` | ${figures}`}\n`);
}
