/**
 * The headers that keep an object from being removed before its time.
 *
 * Source: the S3 API reference, "PutObject" and "Object Lock": a PUT with a retention needs Content-MD5 or a checksum beside it, for which
 * the signed hash of the payload does not count. Object names are SHA-256 hashes, so that this checksum costs nothing here.
 */
import type { S3StoreConfig } from '../../config/types.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

/** The checksum of the content. @param sha256 - 64 hex digits */
export function checksumHeaders(sha256: string): Record<string, string> {
  return {
    'x-amz-sdk-checksum-algorithm': 'SHA256',
    'x-amz-checksum-sha256': Buffer.from(sha256, 'hex').toString('base64'),
  };
}

/** The retention of an object that is stored now. */
export function retentionHeaders(
  { mode, days }: NonNullable<S3StoreConfig['objectLock']>,
  now: Date,
): Record<string, string> {
  return {
    'x-amz-object-lock-mode': mode.toUpperCase(),
    'x-amz-object-lock-retain-until-date': new Date(now.getTime() + days * DAY_MS).toISOString(),
  };
}
