/**
 * Whoever has the gateway's user puts anything in the place of what the gateway keeps: nothing that reads it hangs, takes memory by the
 * file's size, follows a link, throws what no person understands, or takes from it what the gateway would not have written.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readCopyState, writeCopyState } from '../../src/audit/copy-state.ts';
import { hashLine } from '../../src/audit/chain.ts';
import { forwardAudit } from '../../src/audit/forwarding.ts';
import { headsFile, openHeadNotes, readHeads } from '../../src/audit/heads.ts';
import { auditFiles } from '../../src/audit/read.ts';
import { selectEvents } from '../../src/audit/select.ts';
import { verifyAudit } from '../../src/audit/verify.ts';
import type { GatewayConfig, S3StoreConfig } from '../../src/config/types.ts';
import { parseSyslogAddress } from '../../src/config/values.ts';
import { createLedgerSums } from '../../src/limits/ledger-sums.ts';
import { openLedger } from '../../src/limits/ledger.ts';
import { readCheckpoint, writeCheckpoint } from '../../src/monitor/checkpoint.ts';
import { addLine } from '../../src/monitor/reduce.ts';
import { emptyModel } from '../../src/monitor/model.ts';
import type { Storage } from '../../src/ports/repository-store.ts';
import { StoreCheck } from '../../src/safeguard/store-check.ts';
import { enterLiveSessions, readLiveSessions } from '../../src/state/live-sessions.ts';
import { openLockHolds, sessionsToEnd } from '../../src/state/lock-holds.ts';
import { openSharedTime } from '../../src/state/shared-time.ts';
import { openSharedTally } from '../../src/state/shared-tally.ts';
import { readUploader, writeUploader } from '../../src/stores/directory/uploaders.ts';
import type { Steps } from '../../src/stores/directory/bounded.ts';
import { scrubState } from '../../src/maintenance/scrub-state.ts';
import { DAY, MONDAY, sessionLines } from '../support/audit-history.ts';
import { receiveUdp } from '../support/syslog-receiver.ts';

let place: string;
let secret: string;
const at = (...names: string[]): string => path.join(place, ...names);
beforeEach(() => {
  place = mkdtempSync(path.join(tmpdir(), 'restic-gateway-junk-'));
  secret = path.join(mkdtempSync(path.join(tmpdir(), 'restic-gateway-secret-')), 'root-only');
  writeFileSync(secret, 'root:secret', { mode: 0o600 });
});
afterEach(() => {
  rmSync(place, { recursive: true, force: true, maxRetries: 20 });
  rmSync(path.dirname(secret), { recursive: true, force: true, maxRetries: 20 });
});

const REPOSITORY = { store: 'main', prefix: 'appsrv' };
const NAME = 'ab'.repeat(32);
const SESSION = '20261126T195959Z-0123456789';
const FINDING = { key: `data/ab/${NAME}`, problem: 'damaged', detail: 'its 7 bytes hash to others' } as const;
const TIMES = { started: '2026-11-26T20:00:00.000Z', finished: '2026-11-26T21:00:00.000Z' };
const AUDIT = '/var/log/audit.jsonl';
const PLACE = {
  ...{ first: '20261125T161500123Z-0123456789abcdef', offset: 4000, lines: 12 },
  last: { length: 300, hash: 'a'.repeat(22), time: '2026-11-26T20:00:00.123Z' },
};
const STEPS: Steps = {
  io: (operation) => operation(),
  cleanUp: (operation) => operation(),
  client: (promise) => promise,
  committed: () => undefined,
};
/** Reads and writes at its own time. */
const CONFIG = { name: 'main', type: 's3' } as unknown as S3StoreConfig;
const good = { neverOverwrites: true, keepsVersions: false, keepsPacks: true };

/** A file that the gateway's processes leave for each other. */
interface Kept {
  /** Has the gateway write it. @returns its path */
  readonly write: () => Promise<string>;
  /** Reads it as the gateway does. Undefined, an empty list and 0 are nothing. */
  readonly read: () => unknown;
  /** Members that may hold any text, or any that is of the right kind: nothing is made of them but a line that is made printable. */
  readonly free: RegExp;
}

const scrubs = () => scrubState(place, REPOSITORY);
const only = (directory: string): string => path.join(directory, readdirSync(directory)[0] ?? '');
let trials = 0;
const proof = () =>
  new StoreCheck(
    CONFIG,
    {
      check: () => {
        trials += 1;
        return Promise.resolve({ ...good, checks: [] });
      },
    } as unknown as Storage,
    place,
  );

const KEPT: Readonly<Record<string, Kept>> = {
  'the result of a scrub': {
    write: async () => {
      const result = {
        v: 1,
        ...REPOSITORY,
        ...TIMES,
        quick: false,
        objects: 3,
        bytes: 9,
        findings: [FINDING],
        foreign: 1,
        foreignKeys: ['lost+found/'],
      } as const;
      await scrubs().finish(result);
      return only(at('scrub'));
    },
    read: () => scrubs().readResult(),
    free: /^(?:store|prefix|key|detail|foreignKeys\[\])$/,
  },
  'the progress of a scrub': {
    write: async () => {
      const parts = {
        'data/ab/': { objects: 3, bytes: 9, findings: [FINDING] },
        config: { objects: 1, bytes: 1, findings: [] },
      };
      await scrubs().writeProgress({ v: 1, started: TIMES.started, quick: true, parts });
      return only(at('scrub'));
    },
    read: () => scrubs().readProgress(),
    free: /^(?:key|detail)$/,
  },
  'what a trial of a store has shown': {
    write: async () => {
      await proof().shown();
      return only(at('store-checks'));
    },
    // Nothing is taken from it when the store is tried.
    read: async () => {
      trials = 0;
      await proof().shown();
      return trials === 0;
    },
    free: /^(?:store|keepsVersions)$/,
  },
  'how the copy of the audit stands': {
    write: async () => {
      const failing = { since: TIMES.started, why: 'the storage is away', late: false };
      await writeCopyState(place, { copy: 'far:audit', complete: TIMES.finished, failing });
      return at('audit-copy.json');
    },
    read: () => readCopyState(place),
    free: /^(?:copy|why)$/,
  },
  'the newest lines of the audit': {
    write: async () => {
      const notes = openHeadNotes(headsFile(place));
      notes.note({ hash: 'a'.repeat(22), time: TIMES.started });
      await notes.close();
      // What comes before the slot of this process is a hole.
      const text = readFileSync(headsFile(place), 'latin1').replaceAll('\0', '').trim();
      writeFileSync(headsFile(place), text);
      return headsFile(place);
    },
    read: () => readHeads(headsFile(place)),
    free: /^$/,
  },
  'what the audit adds up to': {
    write: async () => {
      const model = emptyModel();
      const story = { client: 'appsrv', from: '203.0.113.9', key: 'SHA256:x', packs: 2, snapshots: 1, read: 5 };
      for (const line of [0, 1, 2].flatMap((day) => sessionLines(MONDAY + day * DAY, { ...story, init: day === 0 })))
        addLine(model, line);
      for (const line of sessionLines(MONDAY + 3 * DAY, { ...story, from: '198.51.100.7', killed: true }))
        addLine(model, line);
      const denied = {
        client: 'appsrv',
        session: SESSION,
        event: 'denied',
        operation: 'delete',
        reason: 'append-only',
      };
      addLine(model, { ...denied, time: new Date(MONDAY + 3 * DAY).toISOString(), object: `data/${NAME}` });
      await writeCheckpoint(place, AUDIT, { model, position: PLACE });
      return at('monitor', 'checkpoint.json');
    },
    read: () => readCheckpoint(place, AUDIT),
    // Told of, and compared, and nothing else.
    free: /^(?:time|session|counted|via|by|object|reason|operation|outcome|value|from|key|id|reportedLate\[\]|facts|client|repository)$/,
  },
  'a live session': {
    write: async () => {
      const principal = { client: 'appsrv', via: 'ssh', from: '203.0.113.9', fromPort: 4, key: 'SHA256:abc' } as const;
      await enterLiveSessions(place, { id: SESSION, principal }, { client: 9, all: 9 });
      return only(at('sessions'));
    },
    read: () => readLiveSessions(place),
    free: /^(?:fromPort)$/,
  },
  'a hold of locks': {
    write: () => {
      openLockHolds(place, 'main').hold().set('closed', [SESSION]);
      return Promise.resolve(only(only(at('holds'))));
    },
    read: () => openLockHolds(place, 'main').held() ?? [...sessionsToEnd(place)],
    free: /^$/,
  },
  'who brought an object': {
    write: async () => {
      await writeUploader(
        STEPS,
        at('side'),
        { client: 'appsrv', via: 'ssh', session: SESSION },
        { modifiedNs: 5n, sha256: NAME },
        { file: 0o600, directory: 0o700 },
      );
      return at('side');
    },
    read: () => readUploader(STEPS, at('side'), 5n),
    // A time that is none is not known, and so are the others; the object's origin is.
    free: /^(?:client|session|time|boot|bootMs|sha256)$/,
  },
};

const isNothing = (value: unknown): boolean =>
  value === undefined || value === false || (Array.isArray(value) && value.length === 0);

/** Stands in the file's place, whatever it holds. */
const PLANTS: Readonly<Record<string, (file: string) => void>> = {
  'an empty file': (file) => {
    writeFileSync(file, '');
  },
  'half of it': (file) => {
    const text = readFileSync(file);
    writeFileSync(file, text.subarray(0, text.length / 2));
  },
  null: (file) => {
    writeFileSync(file, 'null\n');
  },
  'a list': (file) => {
    writeFileSync(file, '["x",1]');
  },
  'a hundred thousand brackets': (file) => {
    writeFileSync(file, '['.repeat(100_000));
  },
  'ten gigabytes': (file) => {
    truncateSync(file, 10 * 1024 ** 3);
  },
  'a FIFO': (file) => {
    rmSync(file);
    execFileSync('mkfifo', [file]);
  },
  'a link to what only root may read': (file) => {
    rmSync(file);
    symlinkSync(secret, file);
  },
  'a directory': (file) => {
    rmSync(file);
    mkdirSync(file);
  },
};

/** What no member is, but for those that may hold any text. */
const JUNK = [
  'null',
  '[]',
  '{}',
  'true',
  '-1',
  '0.5',
  '1e400',
  '1e300',
  '""',
  '"x\\u001b]0;y\\u0007"',
  '"\\u009b2J\\u202e"',
  '"../../x"',
  '{"__proto__":1}',
  '[["a"]]',
];

/** All that a JSON text becomes when one member is another value, or when there is one more. */
function changes(text: string, free: RegExp): readonly { readonly what: string; readonly text: string }[] {
  const MARK = '\ufffemark';
  const found: { what: string; text: string }[] = [];
  const value: unknown = JSON.parse(text);
  const walk = (holder: Record<string, unknown> | unknown[], name: string): void => {
    for (const key of Object.keys(holder)) {
      const members = holder as Record<string, unknown>;
      const kept = members[key];
      const own = Array.isArray(holder) ? `${name}[]` : key;
      if (!free.test(own)) {
        members[key] = MARK;
        const marked = JSON.stringify(value);
        for (const junk of JUNK)
          if (!isAlike(own, kept, junk))
            found.push({ what: `${own}: ${junk}`, text: marked.replace(JSON.stringify(MARK), junk) });
      }
      members[key] = kept;
      if (typeof kept === 'object' && kept !== null) walk(kept as Record<string, unknown>, own);
    }
  };
  walk(value as Record<string, unknown>, '');
  expect(found.length).toBeGreaterThan(10);
  return found;
}

/** Whether a value may as well be that: another list or switch, a sum that is below nothing. */
function isAlike(own: string, kept: unknown, junk: string): boolean {
  if (Array.isArray(kept)) return junk === '[]' && !/^(?:gaps|clients\[\]|repositories\[\])$/.test(own);
  if (typeof kept === 'object')
    return junk === '{}' && Object.keys(kept ?? {}).every((name) => !/^[a-z]+$/i.test(name) || name === 'config');
  return (typeof kept === 'boolean' && junk === 'true') || (typeof kept === 'number' && junk === '-1');
}

describe.each(Object.entries(KEPT))('%s', (_name, { write, read, free }) => {
  test('is read as it was written', async () => {
    await write();
    expect(isNothing(await read())).toBe(false);
  });

  test.each(Object.entries(PLANTS))('is not known where there is %s', async (_plant, plant) => {
    plant(await write());
    const before = process.memoryUsage().rss;
    // A person is told what to do, or nothing is known and it is made anew.
    const found = await Promise.resolve()
      .then(read)
      .catch((error: unknown) => (error as Error).message);
    if (typeof found === 'string') expect(found).toMatch(/move it away|put the file itself there|ELOOP|EISDIR/);
    else expect([found, isNothing(found)]).toEqual([found, true]);
    expect(JSON.stringify(found ?? '')).not.toContain('root:secret');
    expect(process.memoryUsage().rss - before).toBeLessThan(512 * 1024 ** 2);
  });

  test('is not taken when any of it is what the gateway would not have written', async () => {
    const file = await write();
    const text = readFileSync(file, 'utf8').trim();
    // Each line of a checkpoint stands behind its hash.
    const isSigned = !text.startsWith('{');
    const lines = isSigned ? text.split('\n').map((line) => line.slice(line.indexOf(' ') + 1)) : [text];
    for (const [index, line] of lines.entries())
      for (const { what, text: changed } of changes(line, free)) {
        const all = lines.with(index, changed);
        writeFileSync(file, isSigned ? all.map(signed).join('') : changed);
        const found = await read();
        expect([what, isNothing(found)]).toEqual([what, true]);
      }
    writeFileSync(file, text.replace('{', '{"__proto__":{"v":1},'));
    await read();
    expect(Object.hasOwn(Object.prototype, 'v')).toBe(false);
  });
});

/** A line of a checkpoint. */
function signed(text: string): string {
  return `${hashLine(Buffer.from(text))} ${text}\n`;
}

describe('the ledger of a repository', () => {
  const ledger = () => openLedger(at('ledger'), () => Promise.resolve(40));
  const KEY = `data/ab/${NAME}`;
  const start = async (): Promise<string> => {
    const one = ledger();
    await one.settle((await one.reserve(10, 100, KEY)) ?? '', 'stored');
    await one.close();
    return at('ledger', '1');
  };

  test.each(Object.entries(PLANTS).filter(([name]) => /FIFO|link|directory|ten gigabytes/.test(name)))(
    'with %s in its place: uploads are refused with what to do, and status does not know it',
    async (_plant, plant) => {
      plant(await start());
      const one = ledger();
      await expect(one.reserve(10, 100, KEY)).rejects.toMatchObject({
        code: 'state-unavailable',
        message: expect.stringMatching(
          /(?:move it away|is no ledger, it is too long); without the directory, the store is counted anew$/,
        ),
      });
      await one.close();
      expect(await createLedgerSums().used(at('ledger'))).toBeUndefined();
    },
  );

  test.each([
    '["base",1e400,0,0]',
    '["base",-1e300,0,0]',
    '["+",1e400,null,"t","k"]',
    '["+",-70,null,"t","k"]',
    '["+",0.5,null,"t","k"]',
    '["+",9007199254740991,null,"t","k"]',
    '["-",1e300,"t"]',
    '["-",-60,"t"]',
    '["fix",1e400,1,0,"t"]',
    '["claim",1e400,"t"]',
    '["__proto__"]',
    '{"0":"seal"}',
    'null',
    '[["seal"]]',
    '"seal"',
    '['.repeat(100_000),
    'x'.repeat(300_000),
  ])('%p in it counts for nothing', async (junk) => {
    appendFileSync(await start(), `${junk}\n`);
    const one = ledger();
    expect(await one.reserve(51, 100, KEY)).toBeUndefined();
    expect(await one.reserve(50, 100, KEY)).toBeDefined();
    await one.close();
    expect(await createLedgerSums().used(at('ledger'))).toBe(100);
  });

  test('a seal with the highest number does not have uploads go round for ever', async () => {
    await start();
    writeFileSync(at('ledger', '9'.repeat(15)), '["seal"]\n');
    const one = ledger();
    await expect(one.reserve(1, 100, KEY)).rejects.toMatchObject({ code: 'state-unavailable' });
    await one.close();
  });
});

describe('what is only counted', () => {
  const tally = () => openSharedTally(at('counted', 'appsrv'));
  test.each(Object.entries(PLANTS))('goes on where there is %s', async (_plant, plant) => {
    expect(tally().add(new Map([['denied', 3]]))).toBe(true);
    plant(at('counted', 'appsrv', 'now'));
    // Into a FIFO or through a link nothing is written, and nobody waits for it.
    tally().add(new Map([['failed', 1]]));
    expect(readFileSync(secret, 'utf8')).toBe('root:secret');
    const { counts, settled: reported } = await tally().take();
    await reported();
    for (const [, many] of counts) expect(many).toBeLessThan(5);
    expect(tally().add(new Map([['denied', 2]]))).toBe(true);
    expect([...(await tally().take()).counts]).toEqual([['denied', 2]]);
  });

  test('a count of four hundred digits is none', async () => {
    tally().add(new Map([['denied', 3]]));
    appendFileSync(at('counted', 'appsrv', 'now'), `\ndenied ${'9'.repeat(400)}\ndenied -4\ndenied 1e400\n`);
    expect([...(await tally().take()).counts]).toEqual([['denied', 3]]);
  });
});

test('a moment that all share is moved in no file that a link leads to', () => {
  symlinkSync(secret, at('moment'));
  const before = statSync(secret).mtimeMs;
  openSharedTime(at('moment')).move(5000);
  expect(statSync(secret).mtimeMs).toBe(before);
  symlinkSync(`${secret}-new`, at('dangling'));
  openSharedTime(at('dangling')).move(5000);
  expect(existsSync(`${secret}-new`)).toBe(false);
});

test('a session in the name of a process that there cannot be takes nobody’s place', async () => {
  mkdirSync(at('sessions'));
  for (const pid of ['0', '4294967295', '9'.repeat(30)])
    writeFileSync(at('sessions', `${SESSION}.ssh.${pid}.0.appsrv.json`), '{}');
  const principal = { client: 'appsrv', via: 'ssh' } as const;
  const entry = await enterLiveSessions(place, { id: SESSION, principal }, { client: 1, all: 1 });
  expect(entry.entered).toBe(true);
});

describe('the audit', () => {
  const file = () => at('audit.jsonl');
  const line = { time: TIMES.started, v: 1, prev: [], event: 'denied', client: 'appsrv', session: SESSION };
  const selection = { client: undefined, session: undefined, since: undefined, until: undefined, kind: undefined };

  test.each(['a FIFO', 'a directory'])('%s among its files is told of, and holds nobody', async (plant) => {
    writeFileSync(file(), `${JSON.stringify(line)}\n`);
    writeFileSync(`${file()}.1`, '');
    PLANTS[plant]?.(`${file()}.1`);
    await expect(auditFiles(file())).rejects.toMatchObject({
      code: 'audit-unavailable',
      message: expect.stringContaining(`${file()}.1 is not a regular file; move it away`),
    });
  });

  test('lines that no gateway wrote are neither events nor the end of who reads them', async () => {
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
    const junk = [
      'null',
      '[]',
      '7',
      '"x"',
      '{"time":7}',
      `{"time":"${TIMES.started}","event":{"x":${deep}}}`,
      '[',
      `{"event":"denied","detail":"${'x'.repeat(1_000_000)}"}`,
      '{"__proto__":{"event":"denied"}}',
      deep,
    ];
    writeFileSync(file(), [JSON.stringify(line), ...junk, ''].join('\n'));
    const events = await selectEvents([file()], selection, 1000);
    expect(events[0]).toEqual(line);
    // What is an object is shown, as it may be a later version's; none of it is so deep that it cannot be.
    expect(JSON.stringify(events).length).toBeLessThan(1000);
    const model = emptyModel();
    for (const event of events) addLine(model, event);
    expect([...model.clients.keys()]).toEqual(['appsrv']);
    const { problemCount } = await verifyAudit([file()]);
    expect(problemCount).toBeGreaterThan(0);
  });

  test.each<[string, string | undefined]>([
    ['a place beyond all files', JSON.stringify({ ...PLACE, offset: 1e15, last: { ...PLACE.last, length: 1e15 } })],
    ['a place that is none', '{"first":{},"offset":-1,"last":null}'],
    ['a FIFO', undefined],
  ])('is sent to syslog, whatever is kept of how far it was: %s', async (_what, kept) => {
    const receiver = await receiveUdp();
    const address = `udp://127.0.0.1:${receiver.port}`;
    writeFileSync(file(), `${JSON.stringify(line)}\n`);
    if (kept === undefined) execFileSync('mkfifo', [at('audit-syslog.json')]);
    else
      writeFileSync(
        at('audit-syslog.json'),
        JSON.stringify({ address, audit: file(), place: 0 }).replace('0}', `${kept}}`),
      );
    const syslog = { ...parseSyslogAddress(address), facility: 10 };
    const config = { audit: { file: file(), syslog }, state: place } as unknown as GatewayConfig;
    const said: string[] = [];
    const say = (_fields: unknown, words: string): void => void said.push(words);
    const forwarding = forwardAudit(config, { info: say, warn: say, error: say });
    for (let tries = 0; receiver.messages.length === 0 && tries < 4000; tries++) {
      appendFileSync(file(), `${JSON.stringify({ ...line, tries })}\n`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    await forwarding.close();
    await receiver.close();
    expect(receiver.messages.length).toBeGreaterThan(0);
    expect(said).toEqual([]);
  });
});
