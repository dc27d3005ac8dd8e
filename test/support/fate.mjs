/**
 * Loaded into a gateway by `--import`: kills it right after so many changes of its store, or moves its clock, as the
 * environment says. No option of the product does this.
 *
 * FATE_KILL_AFTER: changes that are let happen, locks left out; the process is killed at the end of the last of them.
 * FATE_UNDER: the store's directory, or the path of its bucket. FATE_AHEAD_MS: how far its clock is ahead.
 */
import http from 'node:http';
import { createRequire, syncBuiltinESMExports } from 'node:module';

const require = createRequire(import.meta.url);
const { FATE_KILL_AFTER, FATE_UNDER = '', FATE_AHEAD_MS } = process.env;

let left = Number(FATE_KILL_AFTER ?? Infinity);
const changed = () => {
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
};
const counts = (path) => typeof path === 'string' && path.startsWith(FATE_UNDER) && !path.includes('/locks/');

if (FATE_KILL_AFTER !== undefined) {
  const files = require('node:fs/promises');
  // One after the other, so that each state between two of them is met.
  let before = Promise.resolve();
  for (const name of ['link', 'rename', 'unlink', 'rmdir']) {
    const real = files[name];
    files[name] = (...args) => {
      if (!counts(args[0]) && !counts(args[1])) return real(...args);
      const done = before.then(() => real(...args)).then(changed);
      before = done.catch(() => undefined);
      return done;
    };
  }
  const request = http.request;
  http.request = (...args) => {
    const made = request(...args);
    const [{ method, path }] = args;
    if ((method === 'PUT' || method === 'DELETE') && counts(path)) made.prependOnceListener('response', changed);
    return made;
  };
}

if (FATE_AHEAD_MS !== undefined) {
  const Clock = Date;
  const now = () => Clock.now() + Number(FATE_AHEAD_MS);
  globalThis.Date = class extends Clock {
    constructor(...args) {
      super(...(args.length === 0 ? [now()] : args));
    }
    static now() {
      return now();
    }
  };
}

syncBuiltinESMExports();
