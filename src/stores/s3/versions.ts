/**
 * The versions that a bucket keeps, asked for and read without the SDK, in the order in which the storage gives them: which is what tells
 * when each was removed.
 *
 * Source: the S3 API reference, "ListObjectVersions" and "GetBucketVersioning"; the user guide, "Deleting object versions": a removal puts
 * a delete marker over what is there. Keys come in their order, and the versions of each from the newest to the oldest.
 */
import type { S3Client } from './s3-client.ts';
import { isNameOf, textOf } from './list.ts';
import { BadAnswer } from './transport.ts';

/** A version, or a delete marker. */
export interface KeyVersion {
  readonly key: string;
  readonly version: string;
  readonly isMarker: boolean;
  /** Whether it is what the key has now. */
  readonly isLatest: boolean;
  /** Length in bytes; 0 of a marker. */
  readonly size: number;
  readonly modified: Date;
}

/** Where a list of versions goes on. */
interface VersionMarker {
  readonly key: string;
  readonly version: string;
}

const WHOLE_LIST = /^\s*(?:<\?xml[^>]*>\s*)?<ListVersionsResult(?:\s[^>]*)?>([^]*)<\/ListVersionsResult>\s*$/;
const ENTRY = /<(Version|DeleteMarker)>([^]*?)<\/\1>/g;
const BROKEN_LIST = 'its list of versions is cut off or malformed';

/**
 * The versions of the keys under a prefix, page after page.
 * @param most - the most versions of a page; by default as many as the storage gives
 * @throws BadAnswer when a page is not whole, and what `S3Client.send` throws
 */
export async function* versionPages(
  client: S3Client,
  prefix: string,
  signal: AbortSignal,
  most?: number,
): AsyncGenerator<readonly KeyVersion[]> {
  let from: VersionMarker | undefined;
  do {
    const query = {
      ...{ versions: '', prefix },
      ...(from !== undefined && { 'key-marker': from.key, 'version-id-marker': from.version }),
      ...(most !== undefined && { 'max-keys': String(most) }),
    };
    const { text } = await client.send({ method: 'GET', query, accept: [200] }, signal);
    const { versions, next } = readVersions(text, client.bucket, prefix);
    if (next !== undefined && next.key === from?.key && next.version === from.version)
      throw new BadAnswer('its list of versions does not go on');
    yield versions;
    from = next;
  } while (from !== undefined);
}

function readVersions(
  xml: string,
  bucket: string,
  prefix: string,
): { readonly versions: readonly KeyVersion[]; readonly next: VersionMarker | undefined } {
  const inner = WHOLE_LIST.exec(xml)?.[1];
  if (inner === undefined || inner.includes('<!')) throw new BadAnswer(BROKEN_LIST);
  const versions: KeyVersion[] = [];
  const rest = inner.replace(ENTRY, (_, kind: string, contents: string) => {
    const isMarker = kind === 'DeleteMarker';
    const [key, version, latest] = ['Key', 'VersionId', 'IsLatest'].map((name) => textOf(contents, name));
    const size = isMarker ? 0 : Number(textOf(contents, 'Size') ?? Number.NaN);
    const modified = new Date(textOf(contents, 'LastModified') ?? Number.NaN);
    if (key?.startsWith(prefix) !== true || version === undefined || version === '')
      throw new BadAnswer('its list of versions has one without an id or from elsewhere');
    if (!Number.isSafeInteger(size) || Number.isNaN(modified.getTime()) || (latest !== 'true' && latest !== 'false'))
      throw new BadAnswer('its list of versions has one without a size or a time');
    versions.push({ key, version, isMarker, isLatest: latest === 'true', size, modified });
    return '';
  });
  const truncated = textOf(rest, 'IsTruncated');
  if (/<\/?(?:Version|DeleteMarker)[\s/>]/.test(rest) || (truncated !== 'true' && truncated !== 'false'))
    throw new BadAnswer(BROKEN_LIST);
  const name = textOf(rest, 'Name');
  if ((textOf(rest, 'Prefix') ?? '') !== prefix || (name !== undefined && !isNameOf(name, bucket)))
    throw new BadAnswer('it gives another list of versions than was asked for');
  if (truncated === 'false') return { versions, next: undefined };
  const next = { key: textOf(rest, 'NextKeyMarker') ?? '', version: textOf(rest, 'NextVersionIdMarker') ?? '' };
  if (next.key === '') throw new BadAnswer('its list of versions does not go on');
  return { versions, next };
}

/** Whether the bucket has ever kept versions. @throws BadAnswer, and what `S3Client.send` throws, where it may not be asked */
export async function keepsVersions(client: S3Client, signal: AbortSignal): Promise<boolean> {
  const { text } = await client.send({ method: 'GET', query: { versioning: '' }, accept: [200] }, signal);
  if (!/<VersioningConfiguration[\s/>]/.test(text)) throw new BadAnswer('it does not say whether it keeps versions');
  const status = textOf(text, 'Status') ?? '';
  return status === 'Enabled' || status === 'Suspended';
}
