/**
 * The small grammars of the config's values: each function reads one text strictly, or throws `invalid-config` with what to write
 * instead. Messages repeat a value only where it has been understood (an address), so that nothing secret can be in them.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { isAbsolute, join, normalize } from 'node:path';
import type { Revocation } from '../core/ssh-certificate.ts';
import { invalid } from './problems.ts';

/** Where syslog messages go. */
export interface SyslogAddress {
  /** As it stands in the file. */
  readonly address: string;
  readonly to:
    | { readonly transport: 'udp' | 'tcp' | 'tls'; readonly host: string; readonly port: number }
    /** Absolute path of the socket of this machine's syslog or journal. */
    | { readonly transport: 'unix'; readonly path: string };
}

/** Where to listen. */
interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Every IPv4 address of the machine, and every IPv6 address. */
const ANY_HOST = { v4: '0.0.0.0', v6: '::' } as const;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** The name of a client or a store. It appears in lines of authorized_keys and in logs: no character needs quoting anywhere. */
export function parseName(text: string): string {
  if (!NAME.test(text))
    throw invalid('a name is 1 to 64 letters, digits, ".", "_" or "-", and begins with a letter or digit');
  return text;
}

// One word of a line of sshd's principals, and nothing that could be an option or a comment there.
const PRINCIPAL = /^[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}$/;

/** A principal of certificates, exactly as the CA writes it. */
export function parsePrincipal(text: string): string {
  if (!PRINCIPAL.test(text))
    throw invalid(
      'a principal is 1 to 128 letters, digits, ".", "_", "@", ":", "+", "/" or "-", and begins with a letter or digit',
    );
  return text;
}

const SERIALS = /^serial:([1-9]\d{0,19})(?:-([1-9]\d{0,19}))?(?: (SHA256:[A-Za-z0-9+/]{43}))?$/;
const MOST_SERIAL = 2n ** 64n - 1n;

/** Which certificates are revoked: `id:` and a key id, `serial:` and a number or two, or the fingerprint of a key or a CA. */
export function parseRevocation(text: string): Revocation {
  if (text.startsWith('id:') && text.length > 3) return { by: 'keyId', keyId: text.slice(3) };
  if (/^SHA256:[A-Za-z0-9+/]{43}$/.test(text)) return { by: 'key', key: text };
  if (/^serial:0+(?:$|[- ])/.test(text))
    throw invalid('0 is the serial of all certificates that are made without ssh-keygen -z; revoke by id: or SHA256:');
  const [, first = '', last = first, ca] = SERIALS.exec(text) ?? [];
  const [from, to] = [BigInt(first), BigInt(last)];
  if (first === '' || to < from || to > MOST_SERIAL)
    throw invalid('must be id:KEY_ID, serial:NUMBER, serial:NUMBER-NUMBER or the SHA256: fingerprint of a key or a CA');
  return { by: 'serial', from, to, ...(ca !== undefined && { ca }) };
}

/** A user of this machine, by name or number. Whether there is one is looked at when it matters. */
export function parseUser(text: string): string {
  // As useradd(8) takes them, and as directory services have them.
  if (!/^(?:\d{1,10}|[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?)$/.test(text))
    throw invalid('must be a user of this machine, by its name or number, such as restic-gateway');
  return text;
}

/** A whole number between two bounds, both included, in plain decimal digits. */
export function parseWhole(text: string, least: number, most: number): number {
  const value = /^(?:0|[1-9]\d{0,14})$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) throw invalid(`must be a whole number from ${least} to ${most}`);
  return value;
}

/** `auto`, or a whole number of at least 1. */
export function parseWorkers(text: string, most: number): number | 'auto' {
  if (text === 'auto') return text;
  try {
    return parseWhole(text, 1, most);
  } catch (error) {
    throw invalid(`${(error as Error).message}, or auto for one on each core`);
  }
}

const SIZE = /^(0|[1-9]\d{0,14})(?:\.(\d{1,3}))? ?([KMGTP]?i?B)$/;
const PREFIXES = ['', 'K', 'M', 'G', 'T', 'P'];

/** A size such as 500GiB or 1.5 TB, in whole bytes: KB, MB… are powers of 1000, KiB, MiB… of 1024. */
export function parseSize(text: string): number {
  const [, whole = '', fraction = '', unit = ''] = SIZE.exec(text) ?? [];
  const power = PREFIXES.indexOf(unit.replace(/i?B$/, ''));
  const factor = (unit.includes('i') ? 1024 : 1000) ** power;
  const bytes = unit === 'iB' ? NaN : Math.floor(Number(`${whole}.${fraction}`) * factor);
  if (whole === '' || !(bytes >= 1 && Number.isSafeInteger(bytes)))
    throw invalid('must be a size with its unit, such as 500GiB, 750 MB or 1.5TiB');
  return bytes;
}

/** Below this, in bytes, there would be more files than lines are worth. */
const LEAST_AUDIT_SIZE = 64 * 1024;

/** At which size the audit is rotated, in bytes, or `none`. */
export function parseAuditSize(text: string): number | 'none' {
  if (text === 'none') return text;
  const size = /B$/.test(text) ? parseSize(text) : NaN;
  if (!(size >= LEAST_AUDIT_SIZE)) throw invalid('must be a size of 64KiB or more, such as 100MiB, or none');
  return size;
}

/** What a text is as a number; NaN for what is none, which whoever asks says in its own words. */
function orNaN(parse: () => number): number {
  try {
    return parse();
  } catch {
    return NaN;
  }
}

/** A size of at least `least` bytes. @param words - how that is written @param example - a size that is good */
export function parseSizeFrom(text: string, least: number, words: string, example: string): number {
  const bytes = orNaN(() => parseSize(text));
  if (!(bytes >= least)) throw invalid(`must be a size of ${words} or more, such as ${example}`);
  return bytes;
}

const SYSLOG = /^(udp|tcp|tls):\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?):([1-9]\d{0,4})$/;

/** Where syslog messages go: `udp://HOST:PORT`, `tcp://…`, `tls://…`, or `unix:///dev/log`. */
export function parseSyslogAddress(text: string): SyslogAddress {
  const [, path] = /^unix:\/\/(\/[^\0]+)$/.exec(text) ?? [];
  if (path !== undefined) return { address: text, to: { transport: 'unix', path } };
  const [, transport, host = '', port] = SYSLOG.exec(text) ?? [];
  if ((transport !== 'udp' && transport !== 'tcp' && transport !== 'tls') || Number(port) > 65_535)
    throw invalid('must be udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///dev/log');
  return { address: text, to: { transport, host: host.replace(/^\[|\]$/g, ''), port: Number(port) } };
}

const DURATION = /^(0|[1-9]\d{0,8}) ?([a-z]{1,7})$/;
/** As people and systemd write them (systemd.time(7)); m are minutes. */
const UNITS: readonly (readonly [ms: number, spellings: readonly string[]])[] = [
  [1000, ['s', 'sec', 'secs', 'second', 'seconds']],
  [60_000, ['m', 'min', 'mins', 'minute', 'minutes']],
  [3_600_000, ['h', 'hr', 'hrs', 'hour', 'hours']],
  [86_400_000, ['d', 'day', 'days']],
  [604_800_000, ['w', 'week', 'weeks']],
];
const UNIT_MS: ReadonlyMap<string, number> = new Map(
  UNITS.flatMap(([ms, spellings]) => spellings.map((unit) => [unit, ms] as const)),
);

/** A length of time such as 26h or 8d, in ms; NaN for what is none. */
export function readDuration(text: string): number {
  const [, number, unit = ''] = DURATION.exec(text) ?? [];
  return Number(number) * (UNIT_MS.get(unit) ?? NaN);
}

/** A length of time of at most a year, in ms. */
export function parseDuration(text: string): number {
  const ms = readDuration(text);
  if (!(ms > 0 && ms <= 366 * 86_400_000))
    throw invalid('must be a length of time with its unit, up to a year, such as 90s, 30m, 26h, 8d or 2w');
  return ms;
}

/** A length of time, or `none` for what is turned off. */
export function parseDurationOrNone(text: string): number | 'none' {
  if (text === 'none') return text;
  try {
    return parseDuration(text);
  } catch {
    throw invalid('must be a length of time with its unit, up to a year, such as 14d, or none');
  }
}

/** Below this, in bytes a second, what is left for one of several uploads is so little that storage takes it for a dead one. */
const LEAST_BANDWIDTH = 64 * 1024;

/** A size a second such as 50MiB/s, in bytes a second. */
export function parseRate(text: string): number {
  const bytes = text.endsWith('/s') ? orNaN(() => parseSize(text.slice(0, -2))) : NaN;
  if (!(bytes > 0)) throw invalid('must be a size a second, such as 50MiB/s or 2.5 MB/s');
  return bytes;
}

/** What a client's bandwidth may be. */
export function parseBandwidth(text: string): number {
  const bytes = parseRate(text);
  if (bytes < LEAST_BANDWIDTH) throw invalid('must be at least 64KiB/s; to shut a client out, write disabled: true');
  return bytes;
}

const MOST_TIMES = 1_000_000;

/** How often something may happen, such as 1000/s. @param least - the lowest rate that makes sense */
export function parseTimes(text: string, unit: 's' | 'h', least: number): number {
  const times = text.endsWith(`/${unit}`) ? orNaN(() => parseWhole(text.slice(0, -2), least, MOST_TIMES)) : NaN;
  if (Number.isNaN(times)) throw invalid(`must be a rate from ${least}/${unit} to ${MOST_TIMES}/${unit}`);
  return times;
}

/** A share such as 33%, as a part of 1, or `none`. @param least - the smallest that makes sense, in percent */
export function parseShare(text: string, least: number): number | 'none' {
  if (text === 'none') return text;
  const percent = /^[1-9]\d{0,2}%$/.test(text) ? Number(text.slice(0, -1)) : NaN;
  if (percent >= least && percent <= 100) return percent / 100;
  throw invalid(`must be a share from ${least}% to 100%, or none`);
}

/** `true` or `false`. */
export function parseBoolean(text: string): boolean {
  if (text !== 'true' && text !== 'false') throw invalid('must be true or false');
  return text === 'true';
}

const LISTEN = /^(?:(?:\[([^[\]]*)\]|([^:[\]]*)):)?([0-9]+)$/;
/** Whether only this machine can reach what listens there. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

const HOST_NAME =
  /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/**
 * Where to listen: `host:port`, `[ipv6]:port`, `:port` or `port`. Port 0 lets the system choose one.
 * @param unnamed - the host where only a port is given
 */
export function parseListen(text: string, unnamed: string = ANY_HOST.v4): Endpoint {
  const match = LISTEN.exec(text);
  if (!match)
    throw invalid(
      /^[0-9a-f]*:[0-9a-f:]*:[0-9a-f.:]*$/i.test(text)
        ? 'an IPv6 address goes in brackets: "[::]:2222"'
        : 'must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT',
    );
  const [, v6, host = '', portText = ''] = match;
  const port = /^(?:0|[1-9]\d{0,4})$/.test(portText) ? Number(portText) : NaN;
  if (!(port <= 65535)) throw invalid('the port must be a whole number from 0 to 65535');
  if (v6 !== undefined) {
    if (!isIPv6(v6) || v6.includes('%')) throw invalid('what stands in brackets is not an IPv6 address');
    return { host: canonicalIPv6(v6), port };
  }
  if (host === '') return { host: unnamed, port };
  if (!isIPv4(host) && !HOST_NAME.test(host)) throw invalid('the host is neither an address nor a host name');
  return { host: host.toLowerCase(), port };
}

/** As `parseListen`; a port alone is that port of every address, of IPv4 and of IPv6. */
export function parseListenAll(text: string): readonly Endpoint[] {
  const given = parseListen(text, '');
  if (given.host !== '') return [given];
  return [ANY_HOST.v4, ANY_HOST.v6].map((host) => ({ host, port: given.port }));
}

/**
 * An address or a range of addresses, as a range in CIDR notation in its one canonical form. IPv4 in IPv6 (`::ffff:10.0.0.1`) becomes
 * IPv4, which is how such a peer is looked up.
 */
export function parseAddressRange(text: string): string {
  const [, address = '', bitsText] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const written = toBytes(address);
  if (written === undefined) throw invalid('must be an IP address or a range such as 10.0.0.0/8 or 2001:db8::/32');
  const writtenBits = bitsText === undefined ? written.length * 8 : Number(bitsText);
  if (writtenBits > written.length * 8) throw invalid(`the part after "/" must be from 0 to ${written.length * 8}`);
  const mapped = written.length === 16 && isMapped(written) && writtenBits >= 96;
  const bytes = mapped ? written.slice(12) : written;
  const bits = mapped ? writtenBits - 96 : writtenBits;
  const network = bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - index * 8))) & 0xff);
  // One of the two was meant, and the wider one must not be guessed.
  if (network.some((byte, index) => byte !== bytes[index]))
    throw invalid(
      `write ${formatAddress(network)}/${bits} for the whole range, or ${formatAddress(bytes)} for the one address`,
    );
  return `${formatAddress(network)}/${bits}`;
}

/** The widest range of balancers, in bits: who is in it may say any address. */
const WIDEST = { v4: 16, v6: 48 };

/** As `parseAddressRange`, but for ranges in which there are not balancers alone. */
export function parseBalancers(text: string): string {
  const range = parseAddressRange(text);
  const bits = Number(range.slice(range.indexOf('/') + 1));
  if (bits < (range.includes(':') ? WIDEST.v6 : WIDEST.v4))
    throw invalid(
      `is too wide (at most /${WIDEST.v4}, of IPv6 /${WIDEST.v6}): whoever has an address in it may claim any other; name the balancers`,
    );
  return range;
}

function isMapped(bytes: readonly number[]): boolean {
  return bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function toBytes(address: string): number[] | undefined {
  if (isIPv4(address)) return address.split('.').map(Number);
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const [head = '', tail] = canonicalIPv6(address).split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const after = tail === undefined ? [] : groups(tail);
  const before = groups(head);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...zeros, ...after].flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function formatAddress(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0)).toString(16),
  );
  return canonicalIPv6(groups.join(':'));
}

// The WHATWG URL parser writes the form of RFC 5952, an embedded IPv4 part in hex.
function canonicalIPv6(address: string): string {
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}

const DAY = /^(\d{4}-\d\d-\d\d)$/;
const MOMENT = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,3})?)?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)?$/;

/** The last moment at which a key works: a day (its end, UTC) or a moment with its time zone (RFC 3339). */
export function parseExpiry(text: string): Date {
  const [, day, , zone] = MOMENT.exec(text) ?? DAY.exec(text) ?? [];
  if (day === undefined) throw invalid('must be a day such as 2027-12-31, or a time such as 2027-12-31T18:00:00Z');
  const end = new Date(`${day}T23:59:59.999Z`);
  // The 30th of February would become the 2nd of March.
  if (Number.isNaN(end.getTime()) || end.toISOString().slice(0, 10) !== day) throw invalid('there is no such day');
  if (text === day) return end;
  if (zone === undefined) throw invalid('a time needs its zone: end it with Z for UTC, or with one such as +01:00');
  return new Date(text);
}

// What can be seen, and spaces within: no control character, nothing invisible, and no "\\", which some tools take for "/".
const SEGMENT = /^(?! )(?:(?![\\/])[\p{L}\p{M}\p{N}\p{P}\p{S}]| )+(?<! )$/u;

/** The directory in a store that the gateway keeps for itself. */
const RESERVED = '.restic-gateway';

/** A repository's place in its store: segments joined by single slashes, or nothing for the store's root. */
export function parsePrefix(text: string): string {
  if (text === '') return text;
  if (text.startsWith('/') || text.endsWith('/')) throw invalid('must not begin or end with "/"');
  if (text.includes('${')) throw invalid('must not hold "${", which stands for a variable everywhere');
  if (text.length > 512) throw invalid('must not be longer than 512 characters');
  for (const segment of text.split('/')) {
    if (segment === '' || segment === '.' || segment === '..') throw invalid('must not hold empty, "." or ".." parts');
    if (segment === RESERVED) throw invalid(`"${RESERVED}" is kept for the gateway itself; take another name`);
    if (!SEGMENT.test(segment))
      throw invalid(
        'may hold letters, digits, signs and, within a part, spaces; no "\\", nothing invisible, no space at the end of a part',
      );
    if (Buffer.byteLength(segment) > 255) throw invalid('its parts may have up to 255 bytes each');
  }
  return text;
}

const BUCKET = /^(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$/;

/** The name of a bucket (Amazon S3 User Guide, "General purpose bucket naming rules", also as they were in us-east-1 before March 2018). */
export function parseBucket(text: string): string {
  if (!BUCKET.test(text))
    throw invalid(
      'a bucket name is 3 to 63 lower-case letters, digits, "." and "-" (old ones: up to 255, capitals and "_" too), and is not an IP address',
    );
  return text;
}

/** The URL of a proxy, or `none`. Its credentials may stand in it. */
export function parseProxy(text: string): string {
  if (text === 'none') return text;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.pathname !== '/' ||
    url.search !== '' ||
    url.hash !== ''
  )
    throw invalid('must be the URL of an HTTP proxy, as http://proxy.example.com:3128, or "none"');
  return url.href;
}

/** Where PostgreSQL is. */
interface DatabaseAddress {
  /** Its name or address, or the directory of its Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
}

/** `postgresql://USER@HOST:PORT/DATABASE`, or with `?host=/run/postgresql` for a socket of this machine. */
export function parseDatabaseUrl(text: string): DatabaseAddress {
  const example = 'write it as postgresql://restic_gateway@db.example.com/restic_gateway';
  const [, user, password, host = '', port = '5432', database, socket] =
    /^postgres(?:ql)?:\/\/([\w.-]{1,63})(:[^@]*)?@([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?\/([\w.-]{1,63})(?:\?host=(\/[\w./-]{1,90}))?$/.exec(
      text,
    ) ?? [];
  if (password !== undefined) throw invalid('must hold no password; it goes into passwordFile');
  if (user === undefined || database === undefined || (host === '') === (socket === undefined))
    throw invalid(`must be the address of a PostgreSQL database; ${example}`);
  if (Number(port) < 1 || Number(port) > 65_535) throw invalid(`must have a port from 1 to 65535; ${example}`);
  return { host: socket ?? host.replace(/^\[|\]$/g, ''), port: Number(port), user, database };
}

/** A region of AWS or of what speaks its protocol. */
export function parseRegion(text: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(text)) throw invalid('a region is a name such as eu-central-1');
  return text;
}

/** Where an S3 server is: scheme, host, port and perhaps a path, in the URL's canonical form without a slash at its end. */
export function parseEndpoint(text: string): string {
  const example = 'write it as https://s3.example.com or http://127.0.0.1:9000';
  if (!/^https?:\/\//i.test(text)) throw invalid(`must begin with https:// or http://; ${example}`);
  const [authority = '', ...path] = text
    .replace(/^https?:\/\//i, '')
    .replace(/\/+$/, '')
    .split('/');
  if (authority.includes('@'))
    throw invalid('must hold no credentials; they go into accessKeyId and secretAccessKeyFile');
  if (!/^[A-Za-z0-9.:[\]_-]+$/.test(authority) || !URL.canParse(text))
    throw invalid(`must be a scheme, a host and perhaps a port and a path; ${example}`);
  if (!path.every((part) => /^(?!\.{1,2}$)[A-Za-z0-9._~-]+$/.test(part)))
    throw invalid('its path may hold letters, digits, ".", "_", "~" and "-"; a query belongs to no endpoint');
  return [new URL(text).origin, ...path].join('/');
}

/** An access key id: what stands in the signature's header, so nothing that would end it. */
export function parseAccessKeyId(text: string): string {
  if (!/^[A-Za-z0-9._~+=@-]{1,128}$/.test(text)) throw invalid('is not an access key id');
  return text;
}

/** A path of this machine. @param base - the directory that a relative one starts from */
export function parsePath(text: string, base: string): string {
  if (text.startsWith('~')) throw invalid('"~" means nothing here; write the whole path');
  return isAbsolute(text) ? normalize(text) : join(base, text);
}

const REFERENCE = /^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$/;

/**
 * The name of the variable when the text is one `${NAME}` and nothing else.
 * @param fileKey - the key that names a file instead
 */
export function parseSecretReference(text: string, fileKey = 'secretAccessKeyFile'): string {
  const name = REFERENCE.exec(text)?.[1];
  if (name === undefined)
    throw invalid(
      `a secret must not stand in this file: put it into a file of its own and name that with ${fileKey}, or write \${NAME} to take it from the environment`,
    );
  return name;
}
