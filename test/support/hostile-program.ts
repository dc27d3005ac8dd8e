/**
 * The hostile client as a process of its own:
 * `node --import ./scripts/bench/typescript.mjs test/support/hostile-program.ts TARGET.json SECONDS [ACTION]...`
 * All actions unless some are named. Prints how often each was done, as JSON, once the time is over or it is asked to stop by SIGTERM.
 */
import { readFileSync } from 'node:fs';
import { beHostile, HOSTILE_ACTIONS, type HostileAction, type HostileTarget } from './hostile-client.ts';

const [, , file = '', seconds = '', ...named] = process.argv;
const names = (named.length === 0 ? Object.keys(HOSTILE_ACTIONS) : named) as HostileAction[];
const unknown = names.filter((name) => !(name in HOSTILE_ACTIONS));
if (unknown.length > 0) {
  process.stderr.write(`no such action: ${unknown.join(', ')}; there are ${Object.keys(HOSTILE_ACTIONS).join(', ')}\n`);
  process.exit(2);
}
const stop = new AbortController();
process.once('SIGTERM', () => {
  stop.abort();
});
setTimeout(
  () => {
    stop.abort();
  },
  Number(seconds) * 1000,
);
// One that attacks breaks its own tools, too: what it does with a connection that is gone is no reason to stop.
const seen = new Set<string>();
process.on('uncaughtException', ({ message }) => {
  if (seen.size < 20 && !seen.has(message)) process.stderr.write(`the hostile client itself: ${message}\n`);
  seen.add(message);
});
const { counts } = beHostile(JSON.parse(readFileSync(file, 'utf8')) as HostileTarget, names, stop.signal);
stop.signal.addEventListener('abort', () => {
  process.stdout.write(`${JSON.stringify(counts)}\n`, () => process.exit(0));
});
process.stdout.write('attacking\n');
