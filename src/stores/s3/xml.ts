/**
 * The two XML answers of S3 that matter here, a refusal and a page of a list. Both are flat and fixed, and what is not exactly of their
 * form is not understood: a list that was cut off or belongs to something else is never taken for a short one.
 *
 * Source: the S3 API reference, "Error responses" and ListObjectsV2.
 */

/** What S3 says when it refuses. */
export interface ErrorDocument {
  /** Like `NoSuchKey`; empty when the answer is not S3's. */
  readonly code: string;
  readonly message: string;
  /** The region the bucket is in, where S3 tells. */
  readonly region: string | undefined;
}

/** One page of ListObjectsV2. */
export interface ListPage {
  readonly objects: readonly { readonly key: string; readonly size: number }[];
  /** Asks for the next page; undefined on the last. */
  readonly next: string | undefined;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescape(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(amp|lt|gt|quot|apos));/gi, (whole, hex, decimal, name) => {
    if (typeof name === 'string') return ENTITIES[name.toLowerCase()] ?? whole;
    const point = typeof hex === 'string' ? Number.parseInt(hex, 16) : Number(decimal);
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}

/** The text of the first element of that name, or undefined. */
function element(xml: string, name: string): string | undefined {
  const open = xml.indexOf(`<${name}>`);
  if (open < 0) return undefined;
  const from = open + name.length + 2;
  const close = xml.indexOf(`</${name}>`, from);
  return close < 0 ? undefined : unescape(xml.slice(from, close));
}

/** What an answer's body says of an error. Whatever it is, this does not throw. */
export function parseError(xml: string): ErrorDocument {
  if (!/<Error[\s>]/.test(xml)) return { code: '', message: '', region: undefined };
  return {
    code: element(xml, 'Code') ?? '',
    message: element(xml, 'Message') ?? '',
    region: element(xml, 'Region'),
  };
}

const ROOT = /^\s*(?:<\?xml[^>]*\?>)?\s*<ListBucketResult[\s>]([\s\S]*)<\/ListBucketResult>\s*$/;

/** A page of a list, or undefined when the answer is not a whole and well-formed one. */
export function parseListPage(xml: string): ListPage | undefined {
  const body = ROOT.exec(xml)?.[1];
  if (body === undefined) return undefined;
  const [head = '', ...entries] = body.split('<Contents>');
  const objects: { key: string; size: number }[] = [];
  let rest = head;
  for (const entry of entries) {
    const end = entry.indexOf('</Contents>');
    if (end < 0) return undefined;
    const inner = entry.slice(0, end);
    rest += entry.slice(end + '</Contents>'.length);
    const key = element(inner, 'Key');
    const size = element(inner, 'Size') ?? '';
    if (key === undefined || !/^\d{1,15}$/.test(size)) return undefined;
    objects.push({ key, size: Number(size) });
  }
  // Whatever stands around the objects, with none of it lost: `rest` has the page's own fields, wherever the server puts them.
  if (rest.includes('</Contents>')) return undefined;
  const truncated = element(rest, 'IsTruncated');
  const next = element(rest, 'NextContinuationToken');
  const count = element(rest, 'KeyCount');
  if (count !== undefined && Number(count) !== objects.length) return undefined;
  if (truncated === 'false') return { objects, next: undefined };
  return truncated === 'true' && next !== undefined && next !== '' ? { objects, next } : undefined;
}
