/** Rotation by size: many writers rotate at once, and some of them die; no line is lost, and the chain holds. */
import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, chown, mkdir, readdir, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openJsonlSink } from '../../src/audit/jsonl-sink.ts';
import { parseLine } from '../../src/audit/lines.ts';
import { auditFiles, readLines } from '../../src/audit/read.ts';
import { verifyAudit } from '../../src/audit/verify.ts';
import { openFollower } from '../../src/audit/follow.ts';
import type { SessionIdentity } from '../../src/ports/audit-sink.ts';
import { run, tempDir, type Outcome } from '../support/lab.ts';
import { bundleProgram } from '../support/module-process.ts';

const MAX_SIZE = 16 * 1024;

let program: string;
beforeAll(async () => {
  program = await bundleProgram(`
    import { openJsonlSink } from './src/audit/jsonl-sink.ts';
    const [file, me, count, shift = '0', uid = '0'] = process.argv.slice(2);
    if (uid !== '0') {
      process.umask(0o077);
      process.setgid(Number(uid));
      process.setuid(Number(uid));
    }
    const Clock = Date;
    globalThis.Date = class extends Clock {
      constructor(...args) {
        super(...(args.length === 0 ? [Clock.now() + Number(shift)] : args));
      }
    };
    const warn = (error) => console.error('warned: ' + error.code);
    const sink = await openJsonlSink({ file, heads: file + '-heads', rotation: { maxSize: ${MAX_SIZE} }, warn });
    const append = async (i) => {
      const session = me + '-' + i;
      await sink.append(
        { session, principal: { client: 'c', via: 'ssh' }, access: 'full', repository: { store: 's', prefix: 'p' } },
        { kind: 'session-start' },
      );
      console.log(session);
    };
    // Some by one, some in bursts.
    for (let i = 0; i < Number(count); )
      if (i % 3 === 0) await append(i++);
      else await Promise.all(Array.from({ length: Math.min(1 + (i % 13), count - i) }, () => append(i++)));
    await sink.close();
  `);
});

let file: string;
beforeEach(() => {
  file = path.join(tempDir(), 'audit.jsonl');
});

const write = (...args: (string | number)[]): Promise<Outcome> =>
  run(process.execPath, [program, file, ...args.map(String)]);

/** The sessions of all whole lines, file by file. */
async function sessionsOf(files: readonly string[]): Promise<string[][]> {
  const all: string[][] = [];
  for (const one of files) {
    const sessions: string[] = [];
    for await (const lines of readLines(one))
      for (const { bytes } of lines) {
        const session = parseLine(bytes)?.['session'];
        if (typeof session === 'string') sessions.push(session);
      }
    all.push(sessions);
  }
  return all;
}

const identity = (session: string): SessionIdentity => ({
  session,
  principal: { client: 'appsrv', via: 'ssh' },
  access: 'append-only',
  repository: { store: 'archive', prefix: 'p' },
});

describe('8 processes that rotate at 16 KiB', () => {
  test('lose no line, keep the chain, and are followed while they do', async () => {
    const taken: string[] = [];
    const follower = openFollower({
      ...{ file, from: undefined, pauseMs: 0 },
      take: (line) => {
        taken.push(String(line['session']));
      },
    });
    const writing = { on: true };
    const following = (async () => {
      while (writing.on) {
        expect(await follower.catchUp()).toBe(true);
        await sleep(5);
      }
    })();
    const outcomes = await Promise.all(Array.from({ length: 8 }, (_, me) => write(me, 200)));
    writing.on = false;
    await following;
    for (let looks = 0; looks < 2; looks++) expect(await follower.catchUp()).toBe(true);
    await follower.close();
    for (const { code, stderr } of outcomes) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });

    const wanted = Array.from({ length: 1600 }, (_, n) => `${Math.floor(n / 200)}-${n % 200}`).sort();
    const files = await auditFiles(file);
    expect(files.length).toBeGreaterThan(10);
    expect((await sessionsOf(files)).flat().sort()).toEqual(wanted);
    const report = await verifyAudit(files);
    expect({ problems: report.problems, torn: report.torn }).toEqual({ problems: [], torn: [] });
    // Nothing twice. Only a line that its writer put into a file that had been moved away twice since may be in the files alone.
    expect(new Set(taken).size).toBe(taken.length);
    expect(wanted.length - taken.length).toBeLessThan(10);
  });

  test('leave nothing broken when some of them are killed at any moment', async () => {
    const reported: string[] = [];
    const start = (me: number): Promise<void> & { child?: ChildProcess } => {
      const child = spawn(process.execPath, [program, file, `${me}`, '400'], { stdio: ['ignore', 'pipe', 'inherit'] });
      createInterface({ input: child.stdout }).on('line', (line) => reported.push(line));
      return Object.assign(new Promise<void>((resolve) => child.once('close', resolve)), { child });
    };
    const runs = Array.from({ length: 6 }, (_, me) => start(me));
    for (const [index, { child }] of runs.slice(0, 4).entries()) {
      while (reported.length < 60 * (index + 1)) await sleep(1);
      child?.kill('SIGKILL');
    }
    await Promise.all(runs);
    const half = async (): Promise<string[]> =>
      (await readdir(path.dirname(file))).filter((name) => name.includes('.new-'));
    // One that was killed may have left the file that it was making; it goes once it is old.
    await writeFile(`${file}.new-0123456789ab`, '');
    const old = new Date(Date.now() - 120_000);
    for (const name of await half()) await utimes(path.join(path.dirname(file), name), old, old);
    // Another one goes on from what they have left.
    expect((await write(9, 400)).code).toBe(0);
    const files = await auditFiles(file);
    const report = await verifyAudit(files);
    expect(report.problems).toEqual([]);
    const there = new Set((await sessionsOf(files)).flat());
    expect(reported.filter((session) => !there.has(session))).toEqual([]);
    expect(await half()).toEqual([]);
  });
});

test('a torn line at the end of a file that is rotated stays there', async () => {
  await writeFile(file, `${'{"v":1}\n'.repeat(3000)}{"time":"2026-`);
  const sink = await openJsonlSink({ file, rotation: { maxSize: MAX_SIZE, keep: undefined } });
  await sink.append(identity('after'), { kind: 'session-start' });
  await sink.close();
  const files = (await readdir(path.dirname(file))).sort();
  expect(files).toHaveLength(2);
  expect(await readFile(path.join(path.dirname(file), files[1] ?? ''), 'utf8')).toMatch(/\{"time":"2026-$/);
  expect(await sessionsOf([file])).toEqual([['after']]);
});

test('only as many stay as are to be kept, and what others rotated stays', async () => {
  await writeFile(`${file}.1`, '{"time":"2020-01-01T00:00:00.000Z","v":1,"event":"session-start"}\n');
  const sink = await openJsonlSink({ file, rotation: { maxSize: 4096, keep: 2 } });
  const rotated = async (): Promise<string[]> =>
    (await readdir(path.dirname(file))).filter((name) => /^audit\.jsonl\.\d{8}T/.test(name)).sort();
  const seen = new Set<string>();
  for (let i = 0; seen.size < 5; i++) {
    await sink.append(identity(`s${i}`), { kind: 'session-start' });
    for (const name of await rotated()) seen.add(name);
  }
  while ((await rotated()).length > 2) await sleep(5);
  expect(await rotated()).toEqual([...seen].sort().slice(-2));
  expect((await readdir(path.dirname(file))).includes('audit.jsonl.1')).toBe(true);
  await sink.close();
  const report = await verifyAudit((await auditFiles(file)).filter((one) => !one.endsWith('.1')));
  expect({ problems: report.problems, continues: report.continues }).toEqual({ problems: [], continues: true });
});

// As in docs/audit.md: a directory with the set-group bit, a file that the group may write.
test('processes of several users in one group rotate for each other', async () => {
  const directory = path.dirname(file);
  await chown(directory, 0, 61_000);
  await chmod(directory, 0o2770);
  await writeFile(file, '', { mode: 0o660 });
  await chown(file, 0, 61_000);
  await chmod(file, 0o660);
  const both = await Promise.all([write('root', 200), write('other', 200, 0, 61_000)]);
  for (const { code, stderr } of both) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const files = await auditFiles(file);
  expect(files.length).toBeGreaterThan(3);
  for (const one of files) expect(await stat(one)).toMatchObject({ gid: 61_000, mode: 0o100660 });
  expect((await verifyAudit(files)).problems).toEqual([]);
});

test('who may not rename in the directory writes on, and warns once', async () => {
  await chmod(path.dirname(file), 0o755);
  await writeFile(file, '');
  await chmod(file, 0o666);
  expect(await write('me', 300, 0, 61_000)).toMatchObject({ code: 0, stderr: 'warned: EACCES\n' });
  expect((await sessionsOf([file])).flat()).toHaveLength(300);
  expect((await readdir(path.dirname(file))).filter((name) => name.startsWith('audit.jsonl.'))).toEqual([]);
});

describe('a clock that is set back', () => {
  const HOUR = 3_600_000;

  test('leaves files in the order in which they were written, and is told', async () => {
    await write('ahead', 80, 3 * HOUR);
    await write('back', 200, 0);
    const files = await auditFiles(file);
    expect(files.length).toBeGreaterThan(3);
    const sessions = (await sessionsOf(files)).flat();
    expect(sessions.findLastIndex((one) => one.startsWith('ahead'))).toBeLessThan(sessions.indexOf('back-0'));
    const report = await verifyAudit(files);
    expect(report.problems).toEqual([]);
    expect(report.setBack).toHaveLength(1);
    expect(report.setBack[0]?.ms).toBeGreaterThan(2.9 * HOUR);
  });

  test('does not bring in notes of lines from before as if they were new', async () => {
    await write('ahead', 3, 3 * HOUR);
    const directory = path.join(path.dirname(file), 'old');
    await mkdir(directory);
    await rename(file, path.join(directory, 'audit.jsonl'));
    await write('back', 3, 0);
    // The file from before is gone, as when it was rotated away long since.
    expect((await verifyAudit(await auditFiles(file))).continues).toBe(false);
  });
});

test('a process that comes just after a rotation, and finds no notes of others, continues the file before all the same', async () => {
  for (const name of ['one', 'two']) {
    const sink = await openJsonlSink({ file });
    for (let i = 0; i < 3; i++) await sink.append(identity(`${name}-${i}`), { kind: 'session-start' });
    await sink.close();
    if (name === 'one') await rename(file, `${file}.1`);
  }
  const files = await auditFiles(file);
  expect(files).toHaveLength(2);
  expect((await verifyAudit(files)).problems).toEqual([]);
});
