/** What a gateway calls itself among those that share a database. */
import { hostname } from 'node:os';
import { printable } from '../core/printable.ts';
import type { DatabaseConfig } from './connection.ts';

/** The gateway's name among the others. */
export function gatewayName({ gateway }: DatabaseConfig): string {
  return gateway ?? printable(hostname()).slice(0, 64);
}
