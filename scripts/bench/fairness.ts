/**
 * How long one client's HEAD takes while another floods the same `serve`: prints the 95 % in quiet and under each flood.
 * `npm run build && node --import ./scripts/bench/typescript.mjs scripts/bench/fairness.ts [SECONDS] [FLOOD]...`
 * PROFILE=DIRECTORY has the gateway write a CPU profile there.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2 from 'ssh2';
import { END_HEADERS, END_STREAM, FRAME, frame, requestHeaders } from '../../test/support/raw-http2.ts';

const SESSIONS = 10;
const ROUND = 200;
const here = import.meta.filename;

/** Floods: what a session sends in a round, as request lines; garbage is what no HTTP/2 is. */
const FLOODS = {
  missing: () => ['HEAD', `/data/${'0'.repeat(64)}`],
  small: (there: string) => ['GET', `/data/${there}`],
  unparsable: () => ['GET', '/nothing/at/all'],
  mixed: (there: string, at: number) => (at % 2 === 0 ? ['HEAD', `/data/${there}`] : ['GET', `/data/${there}`]),
} as const satisfies Record<string, (there: string, at: number) => readonly [string, string] | string[]>;
type Flood = keyof typeof FLOODS | 'frames';

async function channel(port: number, privateKey: string): Promise<Duplex> {
  const client = new ssh2.Client();
  client.on('error', () => undefined);
  client.connect({ host: '127.0.0.1', port, username: 'x', privateKey });
  await once(client, 'ready');
  return new Promise((resolve, reject) => {
    client.exec('serve restic --stdio', (error, opened) => {
      if (error) reject(error);
      else resolve(opened);
    });
  });
}

/** HTTP/2 by hand: calls `ended` for each answer that is whole. */
function http2On(stream: Duplex, ended: () => void): { send(requests: readonly (readonly string[])[]): void } {
  let rest: Buffer = Buffer.alloc(0);
  let next = 1;
  const open = new Set<number>();
  stream.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      const [type, flags] = [rest.readUInt8(3), rest.readUInt8(4)];
      const answered = type === FRAME.reset || ((type === FRAME.headers || type === FRAME.data) && flags & END_STREAM);
      if (type === FRAME.settings && (flags & 1) === 0) stream.write(frame(FRAME.settings, 1, 0));
      if (type === FRAME.data && length > 0) {
        const more = Buffer.alloc(4);
        more.writeUInt32BE(length);
        stream.write(frame(FRAME.window, 0, 0, more));
      }
      const id = rest.readUInt32BE(5);
      rest = rest.subarray(9 + length);
      if (answered && open.delete(id)) ended();
    }
  });
  stream.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(FRAME.settings, 0, 0)]));
  return {
    send: (requests) => {
      const frames = requests.map(([method = '', where = '']) => {
        const one = frame(FRAME.headers, END_HEADERS | END_STREAM, next, requestHeaders(method, where));
        open.add(next);
        next += 2;
        return one;
      });
      stream.write(Buffer.concat(frames));
    },
  };
}

async function flood(port: number, key: string, there: string, kind: Flood): Promise<void> {
  let done = 0;
  let openNow = 0;
  for (let index = 0; index < SESSIONS; index++) {
    const stream = await channel(port, key);
    openNow += 1;
    stream.once('close', () => (openNow -= 1));
    (stream as unknown as { stderr: Duplex }).stderr.on('data', (line) => process.stderr.write(`  told: ${line}`));
    let left = 0;
    const more = (): void => {
      if (kind === 'frames') return;
      left = ROUND;
      http2.send(Array.from({ length: ROUND }, (_, at) => FLOODS[kind](there, at)));
    };
    const http2 = http2On(stream, () => {
      done += 1;
      left -= 1;
      if (left === 0) more();
    });
    // Frames of an unknown type are to be ignored (RFC 9113, 4.1): as fast as the window lets them through.
    const fill = (): void => {
      while (stream.write(frame(0xee, 0, 0, Buffer.alloc(64)))) if (stream.destroyed) return;
    };
    if (kind === 'frames') {
      stream.on('drain', fill);
      fill();
    } else more();
  }
  process.stdout.write('flooding\n');
  setInterval(() => {
    process.stderr.write(`  flood: ${done} answers/s, ${openNow} sessions\n`);
    done = 0;
  }, 1000);
}

async function honest(port: number, key: string, there: string): Promise<void> {
  const stream = await channel(port, key);
  let answered: () => void = () => undefined;
  const http2 = http2On(stream, () => {
    answered();
  });
  process.stdout.write('ready\n');
  for await (const chunk of process.stdin) {
    const times: number[] = [];
    const end = performance.now() + Number(chunk) * 1000;
    while (performance.now() < end) {
      const began = performance.now();
      const answer = new Promise<void>((resolve) => (answered = resolve));
      http2.send([['HEAD', `/data/${there}`]]);
      await answer;
      times.push(performance.now() - began);
      await sleep(5);
    }
    times.sort((a, b) => a - b);
    const at = (part: number): number => Number((times[Math.floor(times.length * part)] ?? NaN).toFixed(1));
    process.stdout.write(
      `${JSON.stringify({ n: times.length, half: at(0.5), most: at(0.95), longest: at(0.9999) })}\n`,
    );
  }
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.once('error', () => {
      resolve(false);
    });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

async function main(): Promise<void> {
  const [seconds = '5', ...named] = process.argv.slice(2);
  const floods = named.length > 0 ? named : Object.keys(FLOODS);
  const directory = mkdtempSync(path.join(tmpdir(), 'fairness-'));
  const children = new Set<ChildProcess>();
  const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess => {
    const child = spawn(process.execPath, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    children.add(child);
    return child;
  };
  const said = async (child: ChildProcess): Promise<string> =>
    String((await once(child.stdout as Readable, 'data'))[0]);
  try {
    const keys = ['host', 'hostile', 'honest'].map((name) => {
      const pair = ssh2.utils.generateKeyPairSync('ed25519');
      writeFileSync(path.join(directory, name), pair.private, { mode: 0o600 });
      return { name, ...pair };
    });
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const { port } = free.address() as AddressInfo;
    free.close();
    const body = randomBytes(2000);
    const there = createHash('sha256').update(body).digest('hex');
    const clients = keys.slice(1).map(({ name, public: line }) => {
      const data = path.join(directory, 'store', name, 'data', there.slice(0, 2));
      mkdirSync(data, { recursive: true });
      writeFileSync(path.join(data, there), body);
      return `  ${name}: { keys: ['${line}'], repository: { store: store, prefix: ${name} } }`;
    });
    const config = path.join(directory, 'gateway.yaml');
    writeFileSync(
      config,
      [
        `listen: 127.0.0.1:${port}`,
        `hostKeys: [${path.join(directory, 'host')}]`,
        `stores: { store: { type: directory, path: ${path.join(directory, 'store')} } }`,
        `clients:\n${clients.join('\n')}`,
        `state: ${path.join(directory, 'state')}`,
        `audit: { file: ${path.join(directory, 'audit.jsonl')} }`,
        '',
      ].join('\n'),
      { mode: 0o600 },
    );
    const profile = process.env['PROFILE'];
    const flags = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
    const main = path.resolve(path.dirname(here), '../../bin/restic-gateway');
    const gateway = start([...flags, main, 'serve', '-c', config]);
    while (!(await listens(port))) await sleep(50);
    const role = (name: string, key: string, ...more: readonly string[]): ChildProcess => {
      const loader = path.resolve(path.dirname(here), 'typescript.mjs');
      return start(['--import', loader, here, name, String(port), path.join(directory, key), there, ...more]);
    };
    const client = role('honest', 'honest');
    await said(client);
    const measure = async (what: string): Promise<void> => {
      client.stdin?.write(`${seconds}\n`);
      process.stdout.write(`${what}: ${await said(client)}`);
    };
    await measure('quiet');
    await measure('quiet');
    for (const kind of floods) {
      const hostile = role('flood', 'hostile', kind);
      await said(hostile);
      await measure(kind);
      hostile.kill();
      await sleep(1500);
    }
    gateway.kill();
    await once(gateway, 'exit');
  } finally {
    for (const child of children) child.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

const [, , role = '', port = '', file = '', there = '', kind = ''] = process.argv;
if (role === 'flood') await flood(Number(port), readFileSync(file, 'utf8'), there, kind as Flood);
else if (role === 'honest') await honest(Number(port), readFileSync(file, 'utf8'), there);
else await main();
