/** The grammars of the config's values: what is read, into which one form, and how all else is refused. */
import { BlockList, isIPv6 } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  parseAccessKeyId,
  parseAddressRange,
  parseBalancers,
  parseBoolean,
  parseBucket,
  parseEndpoint,
  parseExpiry,
  parseListen,
  parseName,
  parsePath,
  parsePrefix,
  parseRate,
  parseRegion,
  parseSecretReference,
  parseWhole,
  parseBandwidth,
  parseDatabaseUrl,
  parseDuration,
  parseShare,
  parseSize,
  parseTimes,
  parseWorkers,
} from '../../src/config/values.ts';
import { GatewayError } from '../../src/core/errors.ts';

/** What a parser makes of a text: its value, or the message it refuses it with. */
function outcome<T>(parse: (text: string) => T, text: string): { value: T } | { refused: string } {
  try {
    return { value: parse(text) };
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    expect((error as GatewayError).code).toBe('invalid-config');
    return { refused: (error as GatewayError).message };
  }
}

const listenForm = 'must be HOST:PORT, "[IPV6]:PORT", :PORT or PORT';
const listenPort = 'the port must be a whole number from 0 to 65535';
const listenHost = 'the host is neither an address nor a host name';
const listenBrackets = 'what stands in brackets is not an IPv6 address';
const listenBare = 'an IPv6 address goes in brackets: "[::]:2222"';

describe('listen', () => {
  test.each([
    ['2222', '0.0.0.0', 2222],
    [':2222', '0.0.0.0', 2222],
    ['0', '0.0.0.0', 0],
    ['127.0.0.1:0', '127.0.0.1', 0],
    ['0.0.0.0:65535', '0.0.0.0', 65535],
    ['localhost:22', 'localhost', 22],
    ['Backup.Example.COM:22', 'backup.example.com', 22],
    ['[::]:2222', '::', 2222],
    ['[::1]:2222', '::1', 2222],
    ['[2001:DB8:0:0:0:0:0:1]:22', '2001:db8::1', 22],
  ])('%s', (text, host, port) => {
    expect(outcome(parseListen, text)).toEqual({ value: { host, port } });
  });

  test.each([
    ['', listenForm],
    ['localhost', listenForm],
    ['localhost:', listenForm],
    ['ssh://localhost:22', listenForm],
    ['localhost:ssh', listenForm],
    ['localhost:22/', listenForm],
    ['::1', listenBare],
    ['::1:2222', listenBare],
    ['65536', listenPort],
    ['localhost:022', listenPort],
    ['localhost:999999999999', listenPort],
    ['-1', listenForm],
    ['localhost:-1', listenForm],
    ['*:2222', listenHost],
    ['256.0.0.1:22', listenHost],
    ['10.0.0:22', listenHost],
    ['a..b:22', listenHost],
    ['-a:22', listenHost],
    ['a b:22', listenHost],
    ['a\n:22', listenHost],
    [`${'a'.repeat(64)}:22`, listenHost],
    ['[]:22', listenBrackets],
    ['[10.0.0.1]:22', listenBrackets],
    ['[fe80::1%eth0]:22', listenBrackets],
    ['[::1]22', listenForm],
    ['[[::1]]:22', listenForm],
    ['２２２２', listenForm],
  ])('refuses %j', (text, message) => {
    expect(outcome(parseListen, text)).toEqual({ refused: message });
  });
});

describe('addresses', () => {
  test.each([
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['10.1.2.3', '10.1.2.3/32'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['128.0.0.0/1', '128.0.0.0/1'],
    ['192.168.4.0/22', '192.168.4.0/22'],
    ['::1', '::1/128'],
    ['::/0', '::/0'],
    ['2001:0DB8:0000::/32', '2001:db8::/32'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1/128'],
    ['fe80::/10', 'fe80::/10'],
    ['::ffff:10.1.2.3', '10.1.2.3/32'],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['::ffff:a01:203/128', '10.1.2.3/32'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221/128'],
  ])('%s', (text, range) => {
    expect(outcome(parseAddressRange, text)).toEqual({ value: range });
  });

  const form = 'must be an IP address or a range such as 10.0.0.0/8 or 2001:db8::/32';
  test.each([
    ['', form],
    ['/8', form],
    ['10.0.0.0/', form],
    ['10.0.0.0/08', form],
    ['10.0.0.0/-1', form],
    ['10.0.0.0/255.0.0.0', form],
    ['10.0.0.0/8/8', form],
    ['10.0.0', form],
    ['010.0.0.0', form],
    ['10.0.0.256', form],
    ['10.0.0.0-10.0.0.9', form],
    ['10.*', form],
    ['backup.example.com', form],
    ['[::1]', form],
    ['fe80::1%eth0', form],
    ['any', form],
    [' 10.0.0.1', form],
    ['10.0.0.0/33', 'the part after "/" must be from 0 to 32'],
    ['::/129', 'the part after "/" must be from 0 to 128'],
    ['10.0.0.5/8', 'write 10.0.0.0/8 for the whole range, or 10.0.0.5 for the one address'],
    ['255.255.255.255/31', 'write 255.255.255.254/31 for the whole range, or 255.255.255.255 for the one address'],
    ['2001:db8::1/32', 'write 2001:db8::/32 for the whole range, or 2001:db8::1 for the one address'],
    ['::ffff:0:0/90', 'write ::ffc0:0:0/90 for the whole range, or ::ffff:0:0 for the one address'],
    ['::ffff:10.0.0.5/104', 'write 10.0.0.0/8 for the whole range, or 10.0.0.5 for the one address'],
  ])('refuses %j', (text, message) => {
    expect(outcome(parseAddressRange, text)).toEqual({ refused: message });
  });
});

describe('parseBalancers', () => {
  test.each([
    ['192.0.2.10', '192.0.2.10/32'],
    ['10.1.0.0/16', '10.1.0.0/16'],
    ['2001:db8:1::/48', '2001:db8:1::/48'],
  ])('%s', (text, range) => {
    expect(outcome(parseBalancers, text)).toEqual({ value: range });
  });

  test.each(['0.0.0.0/0', '10.0.0.0/8', '::/0', '2001:db8::/32', '::ffff:0:0/96', '::ffff:10.0.0.0/104'])(
    '%s is too wide',
    (text) => {
      expect(outcome(parseBalancers, text)).toEqual({
        refused: expect.stringContaining('may claim any other; name the balancers'),
      });
    },
  );
});

describe('the day or moment of expiry', () => {
  test.each([
    ['2027-12-31', '2027-12-31T23:59:59.999Z'],
    ['2028-02-29', '2028-02-29T23:59:59.999Z'],
    ['2027-12-31T18:00:00Z', '2027-12-31T18:00:00.000Z'],
    ['2027-12-31T18:00Z', '2027-12-31T18:00:00.000Z'],
    ['2027-12-31T18:00:00.5+01:00', '2027-12-31T17:00:00.500Z'],
    ['2027-12-31T23:59:59-14:00', '2028-01-01T13:59:59.000Z'],
  ])('%s', (text, sharedTime) => {
    expect(outcome(parseExpiry, text)).toEqual({ value: new Date(sharedTime) });
  });

  const form = 'must be a day such as 2027-12-31, or a time such as 2027-12-31T18:00:00Z';
  const noDay = 'there is no such day';
  test.each([
    ['', form],
    ['never', form],
    ['31.12.2027', form],
    ['2027-12', form],
    ['2027-1-1', form],
    ['20271231', form],
    ['2027-12-31 18:00', form],
    ['2027-12-31T24:00:00Z', form],
    ['2027-12-31T18:60Z', form],
    ['2027-12-31T18:00:00+15:00', form],
    ['2027-12-31T18:00:00 Z', form],
    ['2027-12-31\n', form],
    ['2027-02-29', noDay],
    ['2027-02-30T00:00:00Z', noDay],
    ['2027-13-01', noDay],
    ['2027-00-01', noDay],
    ['2027-04-31', noDay],
    ['2027-12-31T18:00:00', 'a time needs its zone: end it with Z for UTC, or with one such as +01:00'],
  ])('refuses %j', (text, message) => {
    expect(outcome(parseExpiry, text)).toEqual({ refused: message });
  });
});

describe('prefixes', () => {
  test.each([
    ...['', 'appsrv', 'fleet/eu/appsrv', 'a.b_c=d@e-f', '...', '.hidden', 'restic-gateway', '-'],
    // What restic and rclone have named a repository, as it stays where it is.
    ...['a b', 'My Documents/Büro (alt)', 'a+b', 'a:b', 'ä', 'a%2e', "it's", '100 % & more', '備份', 'a\u0308'],
  ])('%j', (text) => {
    expect(outcome(parsePrefix, text)).toEqual({ value: text });
  });

  const parts = 'must not hold empty, "." or ".." parts';
  const ends = 'must not begin or end with "/"';
  const seen =
    'may hold letters, digits, signs and, within a part, spaces; no "\\", nothing invisible, no space at the end of a part';
  const kept = '".restic-gateway" is kept for the gateway itself; take another name';
  test.each([
    ['/', ends],
    ['/a', ends],
    ['a/', ends],
    ['a//b', parts],
    ['.', parts],
    ['..', parts],
    ['a/../b', parts],
    ['a/./b', parts],
    ['.restic-gateway', kept],
    ['a/.restic-gateway/b', kept],
    [' a', seen],
    ['a /b', seen],
    ['a\\b', seen],
    ['a\n', seen],
    ['a\0', seen],
    ['a\u00a0b', seen],
    ['a\u202eb', seen],
    ['a\u200bb', seen],
    ['a'.repeat(256), 'its parts may have up to 255 bytes each'],
    ['ä'.repeat(128), 'its parts may have up to 255 bytes each'],
    [Array.from({ length: 257 }, () => 'a').join('/'), 'must not be longer than 512 characters'],
  ])('refuses %j', (text, message) => {
    expect(outcome(parsePrefix, text)).toEqual({ refused: message });
  });
});

describe('S3', () => {
  test.each(['abc', 'my-bucket', 'a.b.c', '0123456789', 'a'.repeat(63), 'Old_Bucket', 'a'.repeat(255)])(
    'bucket %s',
    (text) => {
      expect(outcome(parseBucket, text)).toEqual({ value: text });
    },
  );
  test.each(['', 'ab', 'a'.repeat(256), 'a b', '-ab', 'ab-', '.ab', 'ab.', 'a..b', '192.168.0.1', 'a/b', 'abc\n'])(
    'refuses bucket %j',
    (text) => {
      const refused =
        'a bucket name is 3 to 63 lower-case letters, digits, "." and "-" (old ones: up to 255, capitals and "_" too), and is not an IP address';
      expect(outcome(parseBucket, text)).toEqual({ refused });
    },
  );

  test.each([
    ['https://s3.example.com', 'https://s3.example.com'],
    ['https://s3.example.com/', 'https://s3.example.com'],
    ['https://s3.example.com:443', 'https://s3.example.com'],
    ['HTTPS://S3.Example.COM', 'https://s3.example.com'],
    ['http://127.0.0.1:9000', 'http://127.0.0.1:9000'],
    ['http://[::1]:9000', 'http://[::1]:9000'],
    ['http://minio_1:9000', 'http://minio_1:9000'],
    ['https://s3.example.com//', 'https://s3.example.com'],
    ['https://project.example.com/storage/v1/s3/', 'https://project.example.com/storage/v1/s3'],
  ])('endpoint %s', (text, uploader) => {
    expect(outcome(parseEndpoint, text)).toEqual({ value: uploader });
  });
  const example = 'write it as https://s3.example.com or http://127.0.0.1:9000';
  const authorityOnly = `must be a scheme, a host and perhaps a port and a path; ${example}`;
  const plainPath = 'its path may hold letters, digits, ".", "_", "~" and "-"; a query belongs to no endpoint';
  const schemeFirst = `must begin with https:// or http://; ${example}`;
  test.each([
    ['', schemeFirst],
    ['s3.example.com', schemeFirst],
    ['s3://bucket', schemeFirst],
    ['https:s3.example.com', schemeFirst],
    ['file:///etc/passwd', schemeFirst],
    [' https://s3.example.com', schemeFirst],
    ['https://', authorityOnly],
    ['https://s3.example.com?x=1', authorityOnly],
    ['https://s3.example.com#x', authorityOnly],
    ['https://s3.example.com/a/../b', plainPath],
    ['https://s3.example.com/a//b', plainPath],
    ['https://s3.example.com/a?x=1', plainPath],
    ['https://s3.example.com/a%2fb', plainPath],
    ['https://s3.example.com\\x', authorityOnly],
    ['https://s3 .example.com', authorityOnly],
    ['https://s3.example.com:99999', authorityOnly],
    ['https://s3.exämple.com', authorityOnly],
    ['https://key:secret@s3.example.com', 'must hold no credentials; they go into accessKeyId and secretAccessKeyFile'],
  ])('refuses endpoint %j', (text, message) => {
    expect(outcome(parseEndpoint, text)).toEqual({ refused: message });
  });

  test.each(['us-east-1', 'default', 'RegionOne', 'eu_1'])('region %s', (text) => {
    expect(outcome(parseRegion, text)).toEqual({ value: text });
  });
  test.each(['', 'eu central', 'eu/central', 'eu\n', 'a'.repeat(65)])('refuses region %j', (text) => {
    expect(outcome(parseRegion, text)).toEqual({ refused: 'a region is a name such as eu-central-1' });
  });

  test.each(['AKIAIOSFODNN7EXAMPLE', 'minio', 'tenant+user=1', 'a'.repeat(128)])('access key id %s', (text) => {
    expect(outcome(parseAccessKeyId, text)).toEqual({ value: text });
  });
  // A "/", "," or blank would end it in the header of a signature.
  test.each(['', 'a/b', 'a,b', 'a b', 'a\n', 'a'.repeat(129)])('refuses access key id %j', (text) => {
    expect(outcome(parseAccessKeyId, text)).toEqual({ refused: 'is not an access key id' });
  });

  test('a reference to a secret is one variable and nothing else', () => {
    expect(outcome(parseSecretReference, '${S3_SECRET}')).toEqual({ value: 'S3_SECRET' });
  });
  test.each(['', 'wJalrXUtnFEMI', '${A}${B}', 'x${A}', '${A}\n', '$A', '${}', '${A', '${1A}', '${A-x}'])(
    'refuses %j as a reference to a secret, and does not repeat it',
    (text) => {
      expect(outcome(parseSecretReference, text)).toEqual({
        refused:
          'a secret must not stand in this file: put it into a file of its own and name that with secretAccessKeyFile, or write ${NAME} to take it from the environment',
      });
    },
  );
});

describe('names, numbers, words and paths', () => {
  test.each(['a', '0', 'App.srv_1-x', 'a'.repeat(64)])('name %s', (text) => {
    expect(outcome(parseName, text)).toEqual({ value: text });
  });
  test.each(['', '.a', '-a', '_a', '__proto__', 'a b', 'a/b', 'a"b', 'a$b', 'ä', 'a\n', 'a'.repeat(65)])(
    'refuses name %j',
    (text) => {
      const refused = 'a name is 1 to 64 letters, digits, ".", "_" or "-", and begins with a letter or digit';
      expect(outcome(parseName, text)).toEqual({ refused });
    },
  );

  test.each([
    ['auto', { value: 'auto' }],
    ['1', { value: 1 }],
    ['4', { value: 4 }],
    ['0', { refused: 'must be a whole number from 1 to 4, or auto for one on each core' }],
    ['5', { refused: 'must be a whole number from 1 to 4, or auto for one on each core' }],
    ['Auto', { refused: 'must be a whole number from 1 to 4, or auto for one on each core' }],
  ])('workers %s', (text, result) => {
    expect(outcome((written) => parseWorkers(written, 4), text)).toEqual(result);
  });

  const upToTen = (text: string): number => parseWhole(text, 1, 10);
  test.each([
    ['1', 1],
    ['10', 10],
  ])('number %s', (text, value) => {
    expect(outcome(upToTen, text)).toEqual({ value });
  });
  test.each([
    '',
    '0',
    '11',
    '-1',
    '+1',
    '01',
    '1.0',
    '1e1',
    '0x1',
    ' 1',
    '1\n',
    '١',
    'NaN',
    'Infinity',
    '1'.repeat(400),
  ])('refuses number %j', (text) => {
    expect(outcome(upToTen, text)).toEqual({ refused: 'must be a whole number from 1 to 10' });
  });

  test('true and false', () => {
    expect([parseBoolean('true'), parseBoolean('false')]).toEqual([true, false]);
  });
  test.each(['', 'yes', 'no', 'on', 'True', 'TRUE', '1', 'true\n'])('refuses %j as true or false', (text) => {
    expect(outcome(parseBoolean, text)).toEqual({ refused: 'must be true or false' });
  });

  test.each([
    ['/a/b', '/a/b'],
    ['/a//b/../c', '/a/c'],
    ['key', '/etc/gateway/key'],
    ['./key', '/etc/gateway/key'],
    ['../key', '/etc/key'],
  ])('path %s', (text, path) => {
    expect(parsePath(text, '/etc/gateway')).toBe(path);
  });
  test.each(['~', '~/key', '~root/key'])('refuses path %s', (text) => {
    expect(outcome((path) => parsePath(path, '/'), text)).toEqual({
      refused: '"~" means nothing here; write the whole path',
    });
  });
});

describe('whatever the text', () => {
  /** Texts near to what a grammar takes: made of its own pieces, and of what is foreign to it. */
  const near = (...pieces: readonly string[]): fc.Arbitrary<string> =>
    fc.oneof(
      fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((parts) => parts.join('')),
      fc
        .array(fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: 'binary', maxLength: 3 })), { maxLength: 6 })
        .map((parts) => parts.join('')),
    );

  /** Runs the property and says how many texts were accepted, so that it is not held by refusing all. */
  function accepted<T>(
    texts: fc.Arbitrary<string>,
    parse: (text: string) => T,
    holds: (value: T, text: string) => void,
  ) {
    let count = 0;
    fc.assert(
      fc.property(texts, (text) => {
        const result = outcome(parse, text);
        if (!('value' in result)) return;
        count++;
        holds(result.value, text);
      }),
      { numRuns: 3000 },
    );
    return count;
  }

  test('listen: written out again, it is read as the same', () => {
    const texts = fc
      .tuple(
        near('[', ']', '::', ':', '1', '[::1]', '127.0.0.1', 'localhost', 'a', '.', '-', '%'),
        near(':', '0', '2222', '65535'),
      )
      .map((parts) => parts.join(''));
    const count = accepted(texts, parseListen, ({ host, port }, text) => {
      const written = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
      expect(parseListen(written)).toEqual({ host, port });
      expect(port).toBe(Number(/\d+$/.exec(text)?.[0]));
      if (!/^:?\d+$/.test(text) && !text.startsWith('[')) expect(written).toBe(text.toLowerCase());
    });
    expect(count).toBeGreaterThan(0);
  });

  test('addresses: the canonical range is read as itself, and holds the address', () => {
    const texts = fc.oneof(
      near('10', '.', '0', '255', '/', '8', '32', ':', '::', 'ffff', 'db8', '%'),
      fc.tuple(fc.ipV4(), fc.nat({ max: 40 })).map(([address, bits]) => `${address}/${bits}`),
      fc.tuple(fc.ipV6(), fc.nat({ max: 130 })).map(([address, bits]) => `${address}/${bits}`),
      fc.ipV4(),
      fc.ipV6(),
      fc.nat({ max: 32 }).map((bits) => `128.0.0.0/${bits}`),
      fc.nat({ max: 128 }).map((bits) => `8000::/${bits}`),
    );
    const count = accepted(texts, parseAddressRange, (range, text) => {
      expect(parseAddressRange(range)).toBe(range);
      const [network = '', bits = ''] = range.split('/');
      const [address = ''] = text.split('/');
      const list = new BlockList();
      list.addSubnet(network, Number(bits), isIPv6(network) ? 'ipv6' : 'ipv4');
      expect(list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')).toBe(true);
    });
    expect(count).toBeGreaterThan(0);
  });

  test('addresses: what is suggested in place of an unclear range is accepted', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.tuple(fc.ipV4(), fc.nat({ max: 32 })), fc.tuple(fc.ipV6(), fc.nat({ max: 128 }))),
        (pair) => {
          const result = outcome(parseAddressRange, pair.join('/'));
          if ('value' in result) return;
          const [, range = '', address = ''] =
            /^write (\S+) for the whole range, or (\S+) for/.exec(result.refused) ?? [];
          expect(parseAddressRange(range)).toBe(range);
          expect(parseAddressRange(address)).toMatch(/\/(?:32|128)$/);
        },
      ),
    );
  });

  test('prefixes: what is accepted is unchanged, and no path can leave its place by it', () => {
    const count = accepted(
      near('a', 'B9', '/', '.', '..', '_=@-', '.restic-gateway', '\\', '%2f', ' '),
      parsePrefix,
      (prefix, text) => {
        expect(prefix).toBe(text);
        expect(parsePath(`./${prefix}`, '/srv/store')).toBe(prefix === '' ? '/srv/store/' : `/srv/store/${prefix}`);
      },
    );
    expect(count).toBeGreaterThan(0);
  });

  test('endpoints: the origin is read as itself, and is the host that was written', () => {
    const texts = fc
      .tuple(
        fc.constantFrom('https://', 'http://', 'HTTP://', 'https:'),
        near('s3', '.', 'example', ':', '443', '9000', '/', '@', '?', '#', '[::1]', '\\', '%'),
      )
      .map((parts) => parts.join(''));
    const count = accepted(texts, parseEndpoint, (uploader, text) => {
      expect(parseEndpoint(uploader)).toBe(uploader);
      expect(new URL(uploader).host).toBe(new URL(text).host);
    });
    expect(count).toBeGreaterThan(0);
  });

  test('expiry: the moment is in the day that was written, give or take the zone', () => {
    const texts = fc.oneof(
      near('2027', '-', '02', '12', '31', 'T', '18', ':', '00', 'Z', '+01:00', '.5'),
      fc
        .tuple(fc.integer({ min: 0, max: 9999 }), fc.nat({ max: 14 }), fc.nat({ max: 33 }))
        .map(([year, month, day]) =>
          [String(year).padStart(4, '0'), String(month).padStart(2, '0'), String(day).padStart(2, '0')].join('-'),
        ),
    );
    const count = accepted(texts, parseExpiry, (sharedTime, text) => {
      const day = Date.parse(`${text.slice(0, 10)}T00:00:00Z`);
      const hours = (sharedTime.getTime() - day) / 3_600_000;
      expect(hours).toBeGreaterThanOrEqual(-14);
      expect(hours).toBeLessThan(24 + 14);
      if (text.length === 10) expect(sharedTime.toISOString()).toBe(`${text}T23:59:59.999Z`);
    });
    expect(count).toBeGreaterThan(0);
  });

  test.each([
    ['name', parseName],
    ['bucket', parseBucket],
    ['region', parseRegion],
    ['access key id', parseAccessKeyId],
  ])('%s: what is accepted is unchanged', (_name, parse) => {
    const count = accepted(near('abc', 'bcd', 'b-c', '01', '.', '_', 'A', '/', ' ', '$'), parse, (value, text) => {
      expect(value).toBe(text);
      expect(value).toMatch(/^[!-~]+$/);
    });
    expect(count).toBeGreaterThan(0);
  });
});

describe('size', () => {
  test.each([
    ['1B', 1],
    ['0.5KB', 500],
    ['500GiB', 500 * 1024 ** 3],
    ['750 MB', 750e6],
    ['1.5TiB', 1.5 * 1024 ** 4],
    ['1.001KiB', 1025],
    ['2PB', 2e15],
  ])('%s', (text, value) => {
    expect(outcome(parseSize, text)).toEqual({ value });
  });
  test.each([
    '',
    '500',
    '500G',
    '500Gi',
    '500iB',
    '0GiB',
    '0.1B',
    '-1GiB',
    '+1GiB',
    '01GiB',
    '1.GiB',
    '.5GiB',
    '1.2345GiB',
    '1,5GiB',
    '1e3B',
    '1  GiB',
    ' 1GiB',
    '1GiB\n',
    '500gib',
    '1EiB',
    '9PiB',
    '999999999999999TiB',
    '١GiB',
  ])('refuses %j', (text) => {
    expect(outcome(parseSize, text)).toEqual({
      refused: 'must be a size with its unit, such as 500GiB, 750 MB or 1.5TiB',
    });
  });
});

describe('bandwidth', () => {
  test.each([
    ['64KiB/s', 65_536],
    ['50MiB/s', 50 * 1024 ** 2],
    ['2.5 MB/s', 2_500_000],
  ])('%s', (text, value) => {
    expect(outcome(parseBandwidth, text)).toEqual({ value });
  });
  test.each(['', '/s', '50MiB', '50MiB/h', '50MiB/s/s', '50/s', '0MiB/s', '50MiB /s', '50mib/s', 'unlimited'])(
    'refuses %j',
    (text) => {
      expect(outcome(parseBandwidth, text)).toEqual({
        refused: 'must be a size a second, such as 50MiB/s or 2.5 MB/s',
      });
    },
  );
  test('of the command line may be any', () => {
    expect([outcome(parseRate, '2.5MB/s'), outcome(parseRate, '100 B/s')]).toEqual([
      { value: 2_500_000 },
      { value: 100 },
    ]);
  });
  test('refuses what is as good as nothing', () => {
    expect(outcome(parseBandwidth, '63KiB/s')).toEqual({
      refused: 'must be at least 64KiB/s; to shut a client out, write disabled: true',
    });
  });
});

describe('times', () => {
  test.each([
    ['10/s', 10],
    ['1000000/s', 1_000_000],
  ])('%s', (text, value) => {
    expect(outcome((each) => parseTimes(each, 's', 10), text)).toEqual({ value });
  });
  test.each(['', '/s', '1000', '1000/h', '9/s', '1000001/s', '1e3/s', '10.5/s', '010/s', '-10/s', ' 10/s', '10 /s'])(
    'refuses %j',
    (text) => {
      expect(outcome((each) => parseTimes(each, 's', 10), text)).toEqual({
        refused: 'must be a rate from 10/s to 1000000/s',
      });
    },
  );
});

describe('a share', () => {
  test.each([
    ['5%', 0.05],
    ['33%', 0.33],
    ['100%', 1],
    ['none', 'none'],
  ])('%s', (text, value) => {
    expect(outcome((each) => parseShare(each, 5), text)).toEqual({ value });
  });
  test.each(['', '33', '0.33', '4%', '101%', '033%', '33 %', '1e1%', '-33%', '33.3%', 'None'])('refuses %j', (text) => {
    expect(outcome((each) => parseShare(each, 5), text)).toEqual({
      refused: 'must be a share from 5% to 100%, or none',
    });
  });
});

describe('a length of time', () => {
  test.each([
    ['90s', 90_000],
    ['30m', 1_800_000],
    ['1min', 60_000],
    ['90 min', 5_400_000],
    ['26h', 93_600_000],
    ['26 hours', 93_600_000],
    ['2hrs', 7_200_000],
    ['1 day', 86_400_000],
    ['2 weeks', 1_209_600_000],
    ['45 sec', 45_000],
    ['8d', 691_200_000],
    ['52w', 31_449_600_000],
    ['366d', 31_622_400_000],
  ])('%s', (text, value) => {
    expect(outcome(parseDuration, text)).toEqual({ value });
  });
  test.each([
    '',
    '26',
    'h',
    '0h',
    '-1h',
    '1.5h',
    '26 fortnights',
    '26 month',
    '26H',
    '1toString',
    '367d',
    '99999w',
    ' 1h',
    '1h\n',
    '1h 30min',
    '1  h',
  ])('not %j', (text) => {
    expect(outcome(parseDuration, text)).toEqual({
      refused: 'must be a length of time with its unit, up to a year, such as 90s, 30m, 26h, 8d or 2w',
    });
  });
});

test.each([
  ['postgresql://me@db.example.com/gateways', { host: 'db.example.com', port: 5432, user: 'me', database: 'gateways' }],
  ['postgres://me@[2001:db8::1]:6543/g', { host: '2001:db8::1', port: 6543, user: 'me', database: 'g' }],
  ['postgresql://me@/g?host=/run/postgresql', { host: '/run/postgresql', port: 5432, user: 'me', database: 'g' }],
  ['postgresql://me@192.0.2.1/g', { host: '192.0.2.1', port: 5432, user: 'me', database: 'g' }],
])('the database %s', (text, address) => {
  expect(parseDatabaseUrl(text)).toEqual(address);
});

test.each([
  ['postgresql://me:secret@db/g', /no password/],
  ['postgresql://me@db/g?sslmode=disable', /address of a PostgreSQL/],
  ['postgresql://me@db/g?host=/run', /address of a PostgreSQL/],
  ['postgresql://me@/g', /address of a PostgreSQL/],
  ['postgresql://db/g', /address of a PostgreSQL/],
  ['postgresql://me@db:0/g', /port from 1/],
  ['postgresql://me@db:65536/g', /port from 1/],
  ['mysql://me@db/g', /address of a PostgreSQL/],
  ['postgresql://me@db', /address of a PostgreSQL/],
])('no database: %s', (text, why) => {
  expect(() => parseDatabaseUrl(text)).toThrow(why);
  // The password is in no error.
  expect(() => parseDatabaseUrl(text)).not.toThrow(/secret/);
});
