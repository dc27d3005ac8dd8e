/**
 * Where a bucket is reached: which host and port to connect to, which `Host` to name, and what stands before each key.
 *
 * Source: AWS, "Virtual hosting of buckets"; AWS service endpoints of S3 (the partition in China has a domain of its own).
 */
import type { S3StoreConfig } from '../../config/types.ts';
import { GatewayError } from '../../core/errors.ts';
import { encodePart } from './signature.ts';
import type { HttpOrigin } from './transport.ts';

/** A bucket's address. */
export interface BucketAddress {
  readonly origin: HttpOrigin;
  /** The value of the `Host` header. */
  readonly host: string;
  /** Encoded as on the wire, without a slash at its end. */
  readonly basePath: string;
  /** Whether the bucket is in the path, else in the host. */
  readonly bucketInPath: boolean;
  /** URL of the host that is connected to. */
  readonly url: string;
  /** URL of the endpoint without the bucket and without a slash at its end. */
  readonly endpoint: string;
}

/** @throws GatewayError `store-misconfigured` when the endpoint is not an http(s) URL */
export function addressOf({ name, bucket, region, endpoint, forcePathStyle }: S3StoreConfig): BucketAddress {
  const text = endpoint ?? `https://s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new GatewayError('store-misconfigured', {
      detail: `store ${name}: ${text} is not an http or https URL; correct endpoint`,
    });
  const secure = url.protocol === 'https:';
  const base = url.pathname.replace(/\/+$/, '');
  // A name with dots has no place in a wildcard certificate, and one of before 2018 none in a host name.
  const inPath = forcePathStyle || (secure && bucket.includes('.')) || !/^[a-z0-9.-]{3,63}$/.test(bucket);
  const prefix = inPath ? '' : `${bucket}.`;
  return {
    origin: {
      secure,
      // To connect, an IPv6 address stands without its brackets.
      hostname: prefix + url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    },
    host: prefix + url.host,
    basePath: inPath ? `${base}/${encodePart(bucket)}` : base,
    bucketInPath: inPath,
    url: `${url.protocol}//${prefix}${url.host}`,
    endpoint: url.origin + base,
  };
}
