/**
 * Values that nobody can change: the config is one for all sessions.
 */

const DATE_SETTERS = Object.getOwnPropertyNames(Date.prototype).filter((name) => name.startsWith('set'));

/** The same value, with everything in it frozen: any attempt to change it throws. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  // A date keeps its time where freezing does not reach.
  if (value instanceof Date)
    for (const name of DATE_SETTERS) Object.defineProperty(value, name, { value: refuseChange });
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}

function refuseChange(): never {
  throw new TypeError('this date is frozen');
}
