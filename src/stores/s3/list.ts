/**
 * Pages of a list, asked for and read without the SDK: every run of restic begins with some, the SDK takes longer to load than all else
 * that a session's start does, and its XML reader is what lists of many packs would wait for.
 *
 * Source: the S3 API reference, "ListObjectsV2".
 */
import type { S3Client } from './s3-client.ts';
import { BadAnswer } from './transport.ts';
import { unescape } from './xml.ts';

/** One page of a list. */
export interface ListPage {
  readonly objects: readonly { readonly key: string; readonly size: number; readonly modified: Date | undefined }[];
  /** Where the list was asked to stop at a delimiter, the keys' beginnings up to it, with it. */
  readonly folders: readonly string[];
  /** Asks for the next page; undefined on the last. */
  readonly next: string | undefined;
}

const WHOLE_LIST = /^\s*(?:<\?xml[^>]*>\s*)?<ListBucketResult(?:\s[^>]*)?>([^]*)<\/ListBucketResult>\s*$/;
const CONTENTS = /<Contents>([^]*?)<\/Contents>/g;
const FOLDERS = /<CommonPrefixes>([^]*?)<\/CommonPrefixes>/g;
const BROKEN_LIST = 'its list is cut off or malformed';
const ANOTHER_LIST = 'it gives another list than was asked for';

/**
 * One page of the keys under a prefix.
 * @param options.most - the most keys of a page; by default as many as the storage gives
 * @param options.delimiter - stops at the first of these after the prefix
 * @throws BadAnswer when the page is not whole, and what `S3Client.send` throws
 */
export async function listPage(
  client: S3Client,
  prefix: string,
  token: string | undefined,
  signal: AbortSignal,
  { most, delimiter }: { readonly most?: number; readonly delimiter?: string | undefined } = {},
): Promise<ListPage> {
  const query = {
    'list-type': '2',
    prefix,
    ...(token !== undefined && { 'continuation-token': token }),
    ...(most !== undefined && { 'max-keys': String(most) }),
    ...(delimiter !== undefined && { delimiter }),
  };
  const { text } = await client.send({ method: 'GET', query, accept: [200] }, signal);
  return readListPage(text, client.bucket, prefix, delimiter);
}

/**
 * Reads a page.
 * @throws BadAnswer when it is not whole, does not hold what it says of itself, or is of another bucket or prefix than was asked for
 */
function readListPage(xml: string, bucket: string, prefix: string, delimiter: string | undefined): ListPage {
  const inner = WHOLE_LIST.exec(xml)?.[1];
  // No server writes what an XML reader would have to be asked for: comments, CDATA, declarations.
  if (inner === undefined || inner.includes('<!')) throw new BadAnswer(BROKEN_LIST);
  const objects: { key: string; size: number; modified: Date | undefined }[] = [];
  // What stands in an element holds no "<" that is not markup, so that nothing in a key looks like an element.
  const folders: string[] = [];
  const beside =
    delimiter === undefined
      ? inner
      : inner.replace(FOLDERS, (_, contents: string) => {
          const folder = textOf(contents, 'Prefix');
          if (
            folder === undefined ||
            !folder.startsWith(prefix) ||
            folder.indexOf(delimiter, prefix.length) !== folder.length - 1
          )
            throw new BadAnswer(ANOTHER_LIST);
          folders.push(folder);
          return '';
        });
  const rest = beside.replace(CONTENTS, (_, contents: string) => {
    const key = textOf(contents, 'Key');
    const size = Number(textOf(contents, 'Size') ?? Number.NaN);
    if (key === undefined || !Number.isSafeInteger(size))
      throw new BadAnswer('its list has an object without a name or a size');
    if (!key.startsWith(prefix)) throw new BadAnswer(ANOTHER_LIST);
    const modified = textOf(contents, 'LastModified');
    objects.push({ key, size, modified: modified === undefined ? undefined : new Date(modified) });
    return '';
  });
  const truncated = textOf(rest, 'IsTruncated');
  const count = textOf(rest, 'KeyCount');
  const next = textOf(rest, 'NextContinuationToken') ?? '';
  if (
    /<\/?(?:Contents|CommonPrefixes)[\s/>]/.test(rest) ||
    (truncated !== 'true' && truncated !== 'false') ||
    (count !== undefined && Number(count) !== objects.length + folders.length) ||
    (truncated === 'true' && next === '')
  )
    throw new BadAnswer(BROKEN_LIST);
  const name = textOf(rest, 'Name');
  if ((textOf(rest, 'Prefix') ?? '') !== prefix || (name !== undefined && !isNameOf(name, bucket)))
    throw new BadAnswer(ANOTHER_LIST);
  return { objects, folders, next: truncated === 'true' ? next : undefined };
}

/** Whether a list's name is that of the bucket: a tenant may stand before either, and an access point's alias stands for another name. */
export function isNameOf(name: string, bucket: string): boolean {
  const bare = (text: string): string => text.slice(text.lastIndexOf(':') + 1);
  return bare(name) === bare(bucket) || bucket.endsWith('-s3alias') || bucket.startsWith('arn:');
}

/** The text of the first element of that name; undefined when there is none, or none that is whole. */
export function textOf(xml: string, name: string): string | undefined {
  const open = xml.indexOf(`<${name}>`);
  if (open < 0) return undefined;
  const from = open + name.length + 2;
  const end = xml.indexOf('<', from);
  return end >= 0 && xml.startsWith(`</${name}>`, end) ? unescape(xml.slice(from, end)) : undefined;
}
