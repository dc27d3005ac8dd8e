/** What the links between the audit's lines show: nothing when many processes wrote it, and every change that was made afterwards. */
import { spawn } from 'node:child_process';
import { appendFile, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readHeads } from '../../src/audit/heads.ts';
import { openJsonlSink } from '../../src/audit/jsonl-sink.ts';
import { auditFiles } from '../../src/audit/read.ts';
import { verifyAudit } from '../../src/audit/verify.ts';
import { CONFIG_REF } from '../../src/core/object.ts';
import type { SessionIdentity } from '../../src/ports/audit-sink.ts';
import { run, tempDir } from '../support/lab.ts';
import { bundleProgram } from '../support/module-process.ts';

const identity = (session: string): SessionIdentity => ({
  session,
  principal: { client: 'appsrv', via: 'ssh' },
  access: 'append-only',
  repository: { store: 'archive', prefix: 'p' },
});

/** Writes `count` lines from one process, one after the other. */
async function write(file: string, count: number, heads?: string): Promise<void> {
  const sink = await openJsonlSink({ file, ...(heads !== undefined && { heads }) });
  for (let i = 0; i < count; i += 1) await sink.append(identity(`s${i}`), { kind: 'session-start' });
  await sink.close();
}

let program: string;
beforeAll(async () => {
  program = await bundleProgram(`
    import { openJsonlSink } from './src/audit/jsonl-sink.ts';
    const [file, heads, me, count] = process.argv.slice(2);
    const sink = await openJsonlSink({ file, heads });
    const append = (i) =>
      sink.append(
        { session: me + '-' + i, principal: { client: 'c', via: 'ssh' }, access: 'full', repository: { store: 's', prefix: 'p' } },
        { kind: 'session-start' },
      );
    // Some by one, some in bursts.
    for (let i = 0; i < Number(count); )
      if (i % 3 === 0) await append(i++);
      else await Promise.all(Array.from({ length: Math.min(1 + (i % 13), count - i) }, () => append(i++)));
    await sink.close();
  `);
});

async function writeTogether(file: string, processes: number, count: number): Promise<void> {
  const outcomes = await Promise.all(
    Array.from({ length: processes }, (_, me) =>
      run(process.execPath, [program, file, `${file}-heads`, String(me), String(count)]),
    ),
  );
  for (const { code, stderr } of outcomes) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
}

describe('10,000 lines of 8 processes', () => {
  let text: string;
  let heads: string;
  beforeAll(async () => {
    const file = path.join(tempDir(), 'audit');
    await writeTogether(file, 8, 1250);
    text = await readFile(file, 'utf8');
    heads = `${file}-heads`;
  });

  const verify = async (changed: string): ReturnType<typeof verifyAudit> => {
    const file = path.join(tempDir(), 'audit');
    await writeFile(file, changed);
    return verifyAudit([file], await readHeads(heads));
  };
  const lines = (): string[] => text.split('\n').filter((line) => line !== '');
  /** Any line but the last few, of which nobody can say more than the notes do; and the first few, which know nothing of each other. */
  const anyLine = fc.integer({ min: 100, max: 9_900 });

  test('are found as they were written', async () => {
    const report = await verify(text);
    expect(report).toMatchObject({ lines: 10_000, problems: [], tornCount: 0, unlinked: 0, continues: false });
    expect(text).toContain('"joined":true');
  });

  test.each<readonly [string, (all: string[], at: number) => void]>([
    ['edited', (all, at) => (all[at] = all[at]?.replace('"client":"c"', '"client":"d"') ?? '')],
    ['turned into what looks torn', (all, at) => (all[at] = all[at]?.slice(0, 100) ?? '')],
    ['removed', (all, at) => all.splice(at, 1)],
    ['removed with 50 after it', (all, at) => all.splice(at, 51)],
    ['moved to the front', (all, at) => all.unshift(...all.splice(at + 1, 1))],
    ['copied', (all, at) => all.splice(at + 3, 0, all[at] ?? '')],
    ['put behind 60 later ones', (all, at) => all.splice(at + 60, 0, ...all.splice(at, 1))],
    ['inserted with links', (all, at) => all.splice(at, 0, all[at]?.replace('"client":"c"', '"client":"d"') ?? '')],
    ['inserted without links', (all, at) => all.splice(at, 0, '{"time":"2026-01-01T00:00:00.000Z","v":1}')],
    ['the first of many that are cut off', (all, at) => all.splice(at)],
  ])('one that was %s shows', async (_, change) => {
    await fc.assert(
      fc.asyncProperty(anyLine, async (at) => {
        const all = lines();
        change(all, at);
        const report = await verify(`${all.join('\n')}\n`);
        expect(report.problemCount).toBeGreaterThan(0);
      }),
      { numRuns: 6, examples: [[100], [9_900]] },
    );
  });

  test('all of them removed: that shows, too', async () => {
    const { problems, problemCount } = await verify('');
    expect({ problems, problemCount }).toEqual({
      problems: [{ file: expect.any(String), line: 1, message: expect.stringContaining('all of it was removed') }],
      problemCount: 1,
    });
    expect((await verifyAudit([], await readHeads(heads))).problemCount).toBe(1);
  });

  test('the first bad line is named', async () => {
    const file = path.join(tempDir(), 'audit');
    await write(file, 10);
    const all = (await readFile(file, 'utf8')).split('\n');
    all[4] = all[4]?.replace('appsrv', 'evil') ?? '';
    await writeFile(file, all.join('\n'));
    expect((await verifyAudit([file])).problems).toEqual([
      { file, line: 5, message: 'no later line refers to it: it was changed, moved or inserted' },
      { file, line: 6, message: 'a line that it refers to is not there: it was changed, removed or moved' },
    ]);
  });
});

test('short sessions side by side: each writer finds what nothing refers to yet, however little of the file it reads', async () => {
  const file = path.join(tempDir(), 'audit.jsonl');
  await write(file, 3000);
  const session = async (name: string): Promise<void> => {
    const sink = await openJsonlSink({ file });
    await sink.append(identity(name), { kind: 'session-start' });
    await Promise.all([1, 2].map(() => sink.append(identity(name), { kind: 'remove', ref: CONFIG_REF })));
    await sink.append(identity(name), { kind: 'remove', ref: CONFIG_REF });
    await sink.close();
  };
  for (let round = 0; round < 50; round += 1)
    await Promise.all(Array.from({ length: 1 + (round % 12) }, (_, one) => session(`${round}-${one}`)));
  await write(file, 1);
  expect(await verifyAudit([file])).toMatchObject({ problems: [], loose: 0 });
});

test('a writer that is killed at any moment leaves an audit that is whole but for a torn line', async () => {
  const file = path.join(tempDir(), 'audit');
  for (let round = 0; round < 5; round += 1) {
    const child = spawn(process.execPath, [program, file, `${file}-heads`, `killed-${round}`, '1000000']);
    const size = async (): Promise<number> => (await readFile(file).catch(() => Buffer.alloc(0))).length;
    const before = await size();
    while ((await size()) < before + 20_000) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    // As a full disk or a power cut would leave it
    await appendFile(file, '{"time":"2026-01-01T00:00:00.000Z","v":1,"prev":["AAAA');
    await writeTogether(file, 2, 20);
  }
  const report = await verifyAudit([file], await readHeads(`${file}-heads`));
  expect(report.problems).toEqual([]);
  expect(report.tornCount).toBeGreaterThanOrEqual(5);
});

describe('rotation', () => {
  test('by another program under the writers: the files stay one chain, packed or not', async () => {
    const directory = tempDir();
    const file = path.join(directory, 'audit.jsonl');
    let [turn, lines] = [0, 0];
    // On a busy machine all may be written before the file is looked at once more.
    while (turn < 2) {
      const state = { over: false };
      const writers = writeTogether(file, 4, 1500).finally(() => (state.over = true));
      lines += 6000;
      while (!state.over) {
        const size = (await readFile(file).catch(() => Buffer.alloc(0))).length;
        if (size > 150_000 && turn < 6) {
          turn += 1;
          await rename(file, `${file}.${turn}`);
          if (turn % 2 === 0) await writeFile(file, '', { flag: 'wx' }).catch(() => undefined);
        } else await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await writers;
    }
    const packed = `${file}.1`;
    await writeFile(`${packed}.gz`, gzipSync(await readFile(packed)));
    await rename(packed, path.join(directory, 'elsewhere'));
    const files = (await auditFiles(file)).filter((name) => !name.endsWith('-heads'));
    // The last one to be moved away may be the last one that was written to.
    const current = await readFile(file, 'utf8').catch(() => '');
    expect(files).toHaveLength(turn + (current === '' ? 0 : 1));
    expect(files[0]).toBe(`${packed}.gz`);
    const heads = await readHeads(`${file}-heads`);
    expect(await verifyAudit(files, heads)).toMatchObject({ lines, problems: [], continues: false });

    // One in the middle that is gone shows, and so does a line that is gone from its end; the oldest may be gone.
    expect(
      (
        await verifyAudit(
          files.filter((_, index) => index !== 1),
          heads,
        )
      ).problemCount,
    ).toBeGreaterThan(0);
    expect(await verifyAudit(files.slice(1), heads)).toMatchObject({ problems: [], continues: true });
    const text = await readFile(`${file}.2`, 'utf8');
    await writeFile(`${file}.2`, text.split('\n').slice(0, -30).join('\n'));
    expect((await verifyAudit(files, heads)).problemCount).toBeGreaterThan(0);
  });

  test('between processes that each serve one session: the first line of a new file names the old one', async () => {
    const file = path.join(tempDir(), 'audit.jsonl');
    await write(file, 3, `${file}-notes`);
    await rename(file, `${file}.1`);
    await write(file, 3, `${file}-notes`);
    const files = await auditFiles(file);
    expect(files).toEqual([`${file}.1`, file]);
    expect(await verifyAudit(files, await readHeads(`${file}-notes`))).toMatchObject({ lines: 6, problems: [] });
    expect((await readFile(file, 'utf8')).split('\n')[0]).toMatch(/"prev":\[\],"prior":\["[\w-]{22}"\]/);
  });
});

test('lines from before there were links are counted, and the last of them is held', async () => {
  const file = path.join(tempDir(), 'audit.jsonl');
  const old = (session: string): string =>
    `{"time":"2026-01-01T00:00:00.000Z","v":1,"event":"x","session":"${session}"}\n`;
  await writeFile(file, old('a') + old('b'));
  await write(file, 4);
  expect(await verifyAudit([file])).toMatchObject({ lines: 6, unlinked: 2, problems: [] });
  await writeFile(file, (await readFile(file, 'utf8')).replace('"session":"b"', '"session":"c"'));
  expect((await verifyAudit([file])).problems.map(({ line }) => line)).toEqual([2, 3]);
});
