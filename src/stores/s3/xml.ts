/**
 * The XML of answers to requests that were sent without the SDK: refusals, flat and fixed; whatever is not of their form has no code.
 *
 * Source: the S3 API reference, "Error responses".
 */

/** What S3 says when it refuses. */
interface ErrorDocument {
  /** Like `NoSuchKey`; empty when the answer is not S3's. */
  readonly code: string;
  readonly message: string;
  /** The region the bucket is in, where S3 tells. */
  readonly region: string | undefined;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** Text as it stands in XML, with its entities (XML 1.0, 4.1 and 4.6) replaced; what is none stays. */
export function unescape(text: string): string {
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
