/** Words for the person who runs the gateway; what clients did belongs to the audit instead. */

/** A logger by level; `fields` are structured and hold no secrets. pino fits as it is. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}
