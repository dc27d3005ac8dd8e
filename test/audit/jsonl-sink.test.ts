/** The audit file: what each event says, and that no line is lost, mixed or silently missing, whatever the disk and other processes do. */
import { appendFile, chmod, mkdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { openJsonlSink } from '../../src/audit/jsonl-sink.ts';
import { isGatewayError, type GatewayError } from '../../src/core/errors.ts';
import { parseObjectName } from '../../src/core/object.ts';
import type { AuditEvent, AuditSink, SessionIdentity } from '../../src/ports/audit-sink.ts';
import { run, tempDir } from '../support/lab.ts';
import { bundleProgram } from '../support/module-process.ts';
import { must, withFreezable, withTmpfs } from '../support/mounts.ts';

const HEX = 'ab'.repeat(32);
const name = parseObjectName(HEX);
if (name === undefined) throw new Error('not a name');

const IDENTITY: SessionIdentity = {
  session: '01JD9Z0QW6',
  principal: { client: 'appsrv', via: 'ssh' },
  access: 'append-only',
  repository: { store: 'archive', prefix: 'customers/appsrv' },
};
const START: AuditEvent = { kind: 'session-start' };

/** The file's lines; each must have an end, and be JSON. */
async function linesOf(file: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(file, 'utf8');
  if (text !== '' && !text.endsWith('\n')) throw new Error(`the last line has no end: ${text.slice(-100)}`);
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The lines that are whole, and what stands between them. */
async function sortedLinesOf(
  file: string,
): Promise<{ readonly whole: Record<string, unknown>[]; readonly torn: string[] }> {
  const whole: Record<string, unknown>[] = [];
  const torn: string[] = [];
  for (const line of (await readFile(file, 'utf8')).split('\n'))
    try {
      if (line !== '') whole.push(JSON.parse(line) as Record<string, unknown>);
    } catch {
      torn.push(line);
    }
  return { whole, torn };
}

const inSession = (session: string): SessionIdentity => ({ ...IDENTITY, session });

async function expectUnavailable(promise: Promise<unknown>): Promise<GatewayError> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (!isGatewayError(error, 'audit-unavailable')) throw error;
  return error as GatewayError;
}

/** Opens a sink for a file in a new directory, and closes it after the work. */
async function withSink<T>(work: (sink: AuditSink, file: string) => Promise<T>): Promise<T> {
  const file = path.join(tempDir(), 'audit.jsonl');
  const sink = await openJsonlSink({ file });
  try {
    return await work(sink, file);
  } finally {
    await sink.close();
  }
}

describe('what a line says', () => {
  const COMMON = '"session":"01JD9Z0QW6","client":"appsrv","via":"ssh"';
  const REPOSITORY = '"access":"append-only","store":"archive","prefix":"customers/appsrv"';

  test.each<readonly [AuditEvent, string]>([
    [{ kind: 'session-start' }, ''],
    [
      {
        kind: 'session-end',
        reason: 'client-ended',
        bytesIn: 1,
        bytesOut: 2,
        objectsCreated: 3,
        objectsRemoved: 4,
        denied: 5,
        durationMs: 6,
      },
      ',"reason":"client-ended","bytesIn":1,"bytesOut":2,"objectsCreated":3,"objectsRemoved":4,"denied":5,"durationMs":6',
    ],
    [
      { kind: 'session-refused', reason: 'expired', detail: 'this key expired on 2026-01-01' },
      ',"reason":"expired","detail":"this key expired on 2026-01-01"',
    ],
    [
      { kind: 'create', ref: { type: 'data', name }, size: 17, sha256: HEX },
      `,"object":"data/${HEX}","size":17,"sha256":"${HEX}"`,
    ],
    [
      { kind: 'create', ref: { type: 'config' }, size: 155, sha256: HEX },
      `,"object":"config","size":155,"sha256":"${HEX}"`,
    ],
    [
      { kind: 'create-failed', ref: { type: 'index', name }, reason: 'exists' },
      `,"object":"index/${HEX}","reason":"exists"`,
    ],
    [{ kind: 'remove', ref: { type: 'locks', name } }, `,"object":"locks/${HEX}"`],
    [
      { kind: 'remove-failed', ref: { type: 'locks', name }, reason: 'absent' },
      `,"object":"locks/${HEX}","reason":"absent"`,
    ],
    [
      { kind: 'failed', operation: 'list', reason: 'store-timeout', detail: 'the file system has not answered' },
      ',"operation":"list","reason":"store-timeout","detail":"the file system has not answered"',
    ],
    [
      {
        kind: 'failed',
        operation: 'load',
        ref: { type: 'snapshots', name },
        reason: 'store-failed',
        detail: 'a\nb',
      },
      `,"object":"snapshots/${HEX}","operation":"load","reason":"store-failed","detail":"a\\nb"`,
    ],
    [
      { kind: 'denied', operation: 'remove', ref: { type: 'keys', name }, reason: 'append-only' },
      `,"object":"keys/${HEX}","operation":"remove","reason":"append-only"`,
    ],
    [
      { kind: 'denied', operation: 'request', reason: 'invalid-request' },
      ',"operation":"request","reason":"invalid-request"',
    ],
  ])('%j', (event, rest) =>
    withSink(async (sink, file) => {
      const before = Date.now();
      await sink.append(IDENTITY, event);
      const text = await readFile(file, 'utf8');
      const time = /^\{"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)",/.exec(text)?.[1] ?? 'none';
      expect(Date.parse(time)).toBeGreaterThanOrEqual(before);
      expect(Date.parse(time)).toBeLessThanOrEqual(Date.now());
      expect(text).toBe(`{"time":"${time}","v":1,"prev":[],"event":"${event.kind}",${COMMON},${REPOSITORY}${rest}}\n`);
    }),
  );

  test('all that a server may know of the peer', () =>
    withSink(async (sink, file) => {
      const principal = {
        client: 'appsrv',
        via: 'stdio',
        key: 'SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU',
        from: '192.0.2.1 50022',
        user: 'backup',
        command: 'serve restic --stdio --b2-hard-delete x',
      } as const;
      await sink.append({ ...IDENTITY, principal, repository: { store: 'local', prefix: '' } }, START);
      expect((await readFile(file, 'utf8')).replace(/^\{"time":"[^"]+"/, '{')).toBe(
        '{,"v":1,"prev":[],"event":"session-start","session":"01JD9Z0QW6","client":"appsrv","via":"stdio",' +
          '"key":"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU","from":"192.0.2.1 50022","user":"backup",' +
          '"command":"serve restic --stdio --b2-hard-delete x","access":"append-only","store":"local","prefix":""}\n',
      );
    }));

  test.each<readonly [string, string]>([
    ['line breaks', 'a\nb\r\nc\u2028d\u2029e\u0085f'],
    ['a forged line', 'x"}\n{"time":"2020-01-01T00:00:00.000Z","v":1,"event":"session-start"}'],
    ['control sequences of terminals', '\u001b[2J\u009b31m\u007f\u0000\u0007'],
    ['changes of direction', '\u202eevil\u2066\u200f\u061c'],
    ['characters that nobody sees', '\u200b\ufeff\u{e0041}'],
    ['broken surrogates', '\ud800 \udc00'],
    ['any other script', 'Grüße 東京 🦔'],
  ])('%s in what the peer sent stay in one line of plain text, and come back', (_, text) =>
    withSink(async (sink, file) => {
      await sink.append({ ...IDENTITY, principal: { ...IDENTITY.principal, user: text, command: text } }, START);
      const raw = await readFile(file, 'utf8');
      // Control and format characters, line and paragraph separators, and what a broken surrogate becomes in UTF-8
      expect(raw.slice(0, -1)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]/u);
      const [line, ...more] = await linesOf(file);
      expect(more).toEqual([]);
      expect({ user: line?.['user'], command: line?.['command'] }).toEqual({ user: text, command: text });
    }),
  );

  test.each([
    ['plain', 'c'],
    ['that JSON escapes', '"'],
    ['that take six bytes each', '\u0000'],
    ['of three bytes', '東'],
    ['that take twelve bytes each', '\u{e0041}'],
    ['broken', '\ud800'],
  ])('what the peer sent is cut by what it takes as it is written, and says so: characters %s', (_, character) =>
    withSink(async (sink, file) => {
      const long = character.repeat(2000);
      const principal = { ...IDENTITY.principal, user: long, command: `x${long}` };
      await sink.append({ ...IDENTITY, principal }, { kind: 'session-refused', reason: 'expired', detail: long });
      const [line] = await linesOf(file);
      const raw = await readFile(file, 'utf8');
      const said = `… (cut from ${long.length} characters)`;
      const kept = (name: string): string => String(line?.[name]).split('…')[0] ?? '';
      expect(line?.['user']).toBe(`${kept('user')}${said}`);
      expect(long.startsWith(kept('user'))).toBe(true);
      for (const [name, most] of Object.entries({ user: 256, command: 256, detail: 512 })) {
        const written = new RegExp(`"${name}":"((?:[^"\\\\]|\\\\.)*)"`, 'u').exec(raw)?.[1] ?? '';
        expect(Buffer.byteLength(written)).toBeLessThanOrEqual(most);
        expect(Buffer.byteLength(written)).toBeGreaterThan(most / 2);
      }
    }),
  );

  test('who logged in and what was asked for stands in the first line of a session alone', () =>
    withSink(async (sink, file) => {
      const principal = { ...IDENTITY.principal, user: 'u'.repeat(256), command: 'c'.repeat(256) };
      await sink.append({ ...IDENTITY, principal }, START);
      await sink.append(
        { ...IDENTITY, principal },
        { kind: 'denied', operation: 'request', reason: 'invalid-request' },
      );
      const [first, second] = await linesOf(file);
      expect([first?.['user'], first?.['command']]).toEqual([principal.user, principal.command]);
      expect([second?.['user'], second?.['command']]).toEqual([undefined, undefined]);
    }));
});

describe('the file', () => {
  test('is made for its owner alone, its directory too; what is there is kept', async () => {
    const file = path.join(tempDir(), 'new', 'audit.jsonl');
    const first = await openJsonlSink({ file });
    await first.append(inSession('1'), START);
    await first.close();
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file))).mode & 0o777).toBe(0o700);
    await chmod(file, 0o640);
    const second = await openJsonlSink({ file });
    await second.append(inSession('2'), START);
    await second.close();
    expect((await linesOf(file)).map((line) => line['session'])).toEqual(['1', '2']);
    expect((await stat(file)).mode & 0o777).toBe(0o640);
  });

  test('1,000 events at once are written in their order', () =>
    withSink(async (sink, file) => {
      const sessions = Array.from({ length: 1000 }, (_, i) => `s${i}`);
      await Promise.all(sessions.map((session) => sink.append(inSession(session), START)));
      expect((await linesOf(file)).map((line) => line['session'])).toEqual(sessions);
    }));

  test('closing waits for what is on its way; after it nothing is taken', async () => {
    const file = path.join(tempDir(), 'audit.jsonl');
    const sink = await openJsonlSink({ file });
    const appended = Array.from({ length: 50 }, (_, i) => sink.append(inSession(`s${i}`), START));
    await sink.close();
    expect(await linesOf(file)).toHaveLength(50);
    await Promise.all(appended);
    await expectUnavailable(sink.append(IDENTITY, START));
  });

  test.each<readonly [string, (file: string) => Promise<unknown>]>([
    ['a directory', (file) => mkdir(file)],
    ['a FIFO', (file) => must('mkfifo', [file])],
    ['a device', (file) => symlink('/dev/null', file)],
  ])('%s in its place is refused', async (_, plant) => {
    const file = path.join(tempDir(), 'audit.jsonl');
    await plant(file);
    const error = await expectUnavailable(openJsonlSink({ file }));
    expect(error.message).toContain(`the audit ${file} cannot be written: `);
  });

  test('a directory whose own directory is missing is not made: the path may be mistyped', async () => {
    const directory = path.join(tempDir(), 'new');
    const error = await expectUnavailable(openJsonlSink({ file: path.join(directory, 'deeper', 'audit.jsonl') }));
    expect(error.message).toContain(`there is no directory ${directory}; make it first`);
    expect(await stat(directory).catch(() => undefined)).toBeUndefined();
  });

  test('a directory that is a file is refused', async () => {
    const file = path.join(tempDir(), 'not-a-directory');
    await writeFile(file, '');
    await expectUnavailable(openJsonlSink({ file: path.join(file, 'audit.jsonl') }));
  });

  test('8 processes with 500 events each lose and mix none', async () => {
    const file = path.join(tempDir(), 'audit.jsonl');
    const program = await bundleProgram(`
      import { openJsonlSink } from './src/audit/jsonl-sink.ts';
      const [file, me] = process.argv.slice(2);
      const sink = await openJsonlSink({ file });
      const repository = { store: 'archive', prefix: 'p' };
      const append = (i) =>
        sink.append(
          // Lines of uneven lengths, up to several pages of memory.
          { session: me + '-' + i, principal: { client: 'c'.repeat(1 + ((i * 997) % 9000)), via: 'ssh' }, access: 'full', repository },
          { kind: 'session-start' },
        );
      // Some by one, some in bursts.
      for (let i = 0; i < 500; )
        if (i % 3 === 0) await append(i++);
        else await Promise.all(Array.from({ length: Math.min(7, 500 - i) }, () => append(i++)));
      await sink.close();
    `);
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, me) => run(process.execPath, [program, file, String(me)])),
    );
    expect(outcomes).toEqual(Array.from({ length: 8 }, () => ({ code: 0, stdout: '', stderr: '' })));
    const { whole: lines, torn } = await sortedLinesOf(file);
    expect(torn).toEqual([]);
    const wanted = Array.from({ length: 4000 }, (_, n) => `${Math.floor(n / 500)}-${n % 500}`);
    expect(lines.map((line) => line['session']).sort()).toEqual(wanted.sort());
    for (const { session, client } of lines)
      expect(String(client)).toHaveLength(1 + ((Number(String(session).split('-')[1]) * 997) % 9000));
  });
});

describe('a torn line stays alone', () => {
  test.each<readonly [string, string]>([
    ['half a line', '{"time":"2026-01-01T00:00:00.000Z","v":1,"eve'],
    ['a whole line without its end', '{"time":"2026-01-01T00:00:00.000Z","v":1}'],
  ])('%s that was there at the start', async (_, torn) => {
    const file = path.join(tempDir(), 'audit.jsonl');
    await writeFile(file, torn);
    const sink = await openJsonlSink({ file });
    await sink.append(inSession('1'), START);
    await sink.append(inSession('2'), START);
    await sink.close();
    const [first, ...lines] = (await readFile(file, 'utf8')).split('\n');
    expect(first).toBe(torn);
    expect(lines.slice(0, 2).map((line) => (JSON.parse(line) as { session: string }).session)).toEqual(['1', '2']);
    expect(lines.slice(2)).toEqual(['']);
  });

  test('one that another process left while this one has the file open', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('1'), START);
      await appendFile(file, '{"torn":');
      await sink.append(inSession('2'), START);
      const { whole, torn } = await sortedLinesOf(file);
      expect(whole.map((line) => line['session'])).toEqual(['1', '2']);
      expect(torn).toEqual(['{"torn":']);
    }));
});

describe('a full disk', () => {
  test('refuses, by a short write or none, and works again once there is room; every line is told truly', () =>
    withTmpfs('size=64k', async (directory) => {
      const file = path.join(directory, 'audit.jsonl');
      const ballast = path.join(directory, 'ballast');
      await writeFile(ballast, Buffer.alloc(32 * 1024));
      const sink = await openJsonlSink({ file });
      const written: string[] = [];
      const refused: string[] = [];
      const append = async (session: string): Promise<void> => {
        try {
          await sink.append(inSession(session), START);
          written.push(session);
        } catch (error) {
          if (!isGatewayError(error, 'audit-unavailable')) throw error;
          refused.push(session);
        }
      };
      for (let i = 0; refused.length < 3; i += 1) await append(`full-${i}`);
      // A burst too, of which one write may hold some whole lines.
      await Promise.all(Array.from({ length: 20 }, (_, i) => append(`burst-${i}`)));
      expect(refused).toHaveLength(23);
      const before = await sortedLinesOf(file);
      expect(before.whole.map((line) => line['session'])).toEqual(written);
      expect(before.torn).toHaveLength(1);

      await rm(ballast);
      await append('again-1');
      await append('again-2');
      expect(written.slice(-2)).toEqual(['again-1', 'again-2']);
      const after = await sortedLinesOf(file);
      expect(after.whole.map((line) => line['session'])).toEqual(written);
      expect(after.torn).toEqual(before.torn);
      await sink.close();
    }));

  test('of a burst that fits in part, the lines that fitted count as written and the others do not', () =>
    withTmpfs('size=64k', async (directory) => {
      const file = path.join(directory, 'audit.jsonl');
      const sink = await openJsonlSink({ file });
      // One page and some lines' room is all there is.
      await writeFile(path.join(directory, 'ballast'), Buffer.alloc(60 * 1024));
      const results = await Promise.allSettled(
        Array.from({ length: 100 }, (_, i) => sink.append(inSession(`s${i}`), START)),
      );
      const fitted = results.flatMap((result, i) => (result.status === 'fulfilled' ? [`s${i}`] : []));
      const { whole, torn } = await sortedLinesOf(file);
      expect(whole.map((line) => line['session'])).toEqual(fitted);
      expect(fitted.length).toBeGreaterThan(2);
      expect(fitted.length).toBeLessThan(100);
      expect(torn).toHaveLength(1);
      await sink.close();
    }));
});

test('a line that lacks nothing but its end counts as not written', () =>
  withTmpfs('size=8k', async (directory) => {
    const file = path.join(directory, 'audit.jsonl');
    const sink = await openJsonlSink({ file });
    await sink.append(IDENTITY, START);
    const { size } = await stat(file);
    // Room for the break after the torn line, and for a line without its end
    await writeFile(file, 't'.repeat(4096 - size));
    await writeFile(path.join(directory, 'ballast'), Buffer.alloc(4096));
    await expectUnavailable(sink.append(IDENTITY, START));
    expect((await stat(file)).size).toBe(4096);
    await sink.close();
  }));

describe('rotation', () => {
  /** Appends until a line reaches the file, which takes as long as the sink may wait before it looks at the path again. */
  async function appendUntilIn(sink: AuditSink, file: string): Promise<string[]> {
    const sessions: string[] = [];
    const deadline = Date.now() + 120_000;
    for (let i = 0; Date.now() < deadline && !(await stat(file).catch(() => undefined))?.size; i += 1) {
      sessions.push(`later-${i}`);
      await sink.append(inSession(`later-${i}`), START);
    }
    return sessions;
  }

  test('a file that was renamed is followed by a new one; no line is lost', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('first'), START);
      await rename(file, `${file}.1`);
      const later = await appendUntilIn(sink, file);
      await sink.append(inSession('last'), START);
      const both = [...(await linesOf(`${file}.1`)), ...(await linesOf(file))];
      expect(both.map((line) => line['session'])).toEqual(['first', ...later, 'last']);
      expect((await stat(file)).mode & 0o777).toBe(0o600);
    }));

  test('a file that was renamed and made anew by the rotating program is followed', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('first'), START);
      await rename(file, `${file}.1`);
      await writeFile(file, '');
      const later = await appendUntilIn(sink, file);
      const both = [...(await linesOf(`${file}.1`)), ...(await linesOf(file))];
      expect(both.map((line) => line['session'])).toEqual(['first', ...later]);
    }));

  test('after a file was removed the very next line is in a new one', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('first'), START);
      await rm(file);
      await sink.append(inSession('second'), START);
      expect((await linesOf(file)).map((line) => line['session'])).toEqual(['second']);
    }));

  test('a file that was emptied in place goes on at its start', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('first'), START);
      await truncate(file);
      await sink.append(inSession('second'), START);
      expect((await linesOf(file)).map((line) => line['session'])).toEqual(['second']);
    }));

  test('without its directory nothing is written anywhere, and it says so', () =>
    withSink(async (sink, file) => {
      await sink.append(inSession('first'), START);
      await rm(path.dirname(file), { recursive: true });
      await expectUnavailable(sink.append(inSession('second'), START));
      await mkdir(path.dirname(file));
      await sink.append(inSession('third'), START);
      expect((await linesOf(file)).map((line) => line['session'])).toEqual(['third']);
    }));
});

test('a disk that hangs is an audit that cannot be written, and works again when it answers', () =>
  withFreezable(async (disk) => {
    const file = path.join(disk.path, 'audit.jsonl');
    const sink = await openJsonlSink({ file, limitMs: 500 });
    await sink.append(inSession('before'), START);
    await disk.freeze();
    const error = await expectUnavailable(sink.append(inSession('frozen-1'), START));
    expect(error.message).toBe(`the audit ${file} cannot be written: its disk does not respond`);
    await expectUnavailable(Promise.all([1, 2].map((i) => sink.append(inSession(`queued-${i}`), START))));
    await disk.thaw();
    await sink.append(inSession('after'), START);
    const sessions = (await linesOf(file)).map((line) => line['session']);
    expect(sessions.filter((session) => session !== 'frozen-1')).toEqual(['before', 'after']);
    await sink.close();
  }));
