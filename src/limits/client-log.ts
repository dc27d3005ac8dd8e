/** The log as one client's sessions write to it: what a client makes happen again and again is counted beyond a rate, and said with the next line. */
import { createAllowance } from '../core/allowance.ts';
import { getOrMake } from '../core/get-or-make.ts';
import type { Log } from '../ports/log.ts';

/** Lines at once, and each second after that: of sessions that come and go, and of what goes wrong, in one process. */
const INFO = { burst: 400, perSecond: 240 / 3600 };
const TROUBLE = { burst: 60, perSecond: 60 / 3600 };

/** The logs of all clients. */
export interface ClientLogs {
  of(client: string): Log;
}

/** @param now - a clock that only goes forward, in ms */
export function createClientLogs(log: Log, now: () => number = () => performance.now()): ClientLogs {
  const logs = new Map<string, Log>();
  const create = (): Log => {
    const limited = ({ burst, perSecond }: typeof INFO) => {
      const allowance = createAllowance(burst, perSecond, now);
      let unwritten = 0;
      return (level: keyof Log): Log[keyof Log] =>
        (fields, message) => {
          if (!allowance.take()) {
            unwritten++;
            return;
          }
          log[level](unwritten === 0 ? fields : { ...fields, unwritten }, message);
          unwritten = 0;
        };
    };
    const trouble = limited(TROUBLE);
    return { info: limited(INFO)('info'), warn: trouble('warn'), error: trouble('error') };
  };
  return { of: (client) => getOrMake(logs, client, create) };
}
