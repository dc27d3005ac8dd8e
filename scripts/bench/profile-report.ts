/**
 * Makes shares of CPU time out of V8's profiles.
 *
 * Source: the Chrome DevTools Protocol, Profiler.Profile: `samples` holds the node on top at each tick, `timeDeltas` the microseconds
 * before it.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from './lab.ts';

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  /** From 0. */
  readonly lineNumber: number;
}

/** As in a .cpuprofile file. */
interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Where time is spent; the first that matches the module's path takes it. */
const PARTS: readonly (readonly [part: string, module: RegExp])[] = [
  ['SSH cipher', /^node_modules\/ssh2\/lib\/protocol\/crypto\.js/],
  ['ssh2', /^node_modules\/ssh2\//],
  ['HTTP/2', /^node:internal\/(http2|js_stream_socket)|^node:http2|^node_modules\/http2-wrapper\//],
  ['streams and sockets', /^node:(internal\/)?(streams?|net|stream_base_commons)\b/],
  ['hash of the content, signature', /^node:(internal\/)?crypto/],
  ['HTTP/1.1 to the storage', /^node:(internal\/)?_?https?/],
  ['files', /^node:(internal\/)?fs/],
  ['gateway and what is bundled with it', /^(src|dist)\//],
  ['other packages', /^node_modules\//],
  ['rest of Node', /^node:/],
];

/** Native functions that are calls of the system, for the greater part. */
const SOCKET_WRITES = /^(writev|writeBuffer|write(Latin1|Utf8|Ascii)String)$/;

/** V8's own names for what is no function, in words. */
const NO_FUNCTIONS: ReadonlyMap<string, string> = new Map([
  ['(idle)', 'idle'],
  ['(program)', 'native code and system calls outside of functions'],
  ['(garbage collector)', 'garbage collection'],
  ['(root)', 'native code and system calls outside of functions'],
]);

/** Reads every profile of a directory: one a process and thread. */
export function readProfiles(directory: string): Profile[] {
  return readdirSync(directory).map((name) => JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as Profile);
}

/**
 * The shares by part and by function, of all time that was not idle.
 * @param top - how many functions to name
 * @param cpuSeconds - what the processes used in all, other threads included
 */
export function digest(profiles: readonly Profile[], top: number, cpuSeconds: number): string {
  const [parts, functions] = [new Map<string, number>(), new Map<string, number>()];
  /** For each function of Node's, who in the gateway or a package had it called. */
  const causes = new Map<string, Map<string, number>>();
  const add = (to: Map<string, number>, name: string, time: number): void => {
    to.set(name, (to.get(name) ?? 0) + time);
  };
  let total = 0;
  let idle = 0;
  for (const { nodes, samples, timeDeltas } of profiles) {
    const frames = new Map(nodes.map(({ id, callFrame }) => [id, describe(callFrame)]));
    const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
    const causeOf = (id: number): string | undefined => {
      for (let above = parents.get(id); above !== undefined; above = parents.get(above)) {
        const name = frames.get(above)?.name;
        if (name !== undefined && / {2}(src|dist|node_modules)\//.test(name)) return name;
      }
      return undefined;
    };
    for (const [index, id] of samples.entries()) {
      const time = timeDeltas[index] ?? 0;
      const frame = frames.get(id);
      if (frame === undefined) continue;
      total += time;
      if (frame.part === 'idle') idle += time;
      else {
        add(parts, frame.part, time);
        add(functions, frame.name, time);
        const cause = / (node:\S+|native)$/.test(frame.name) ? causeOf(id) : undefined;
        if (cause !== undefined) add(entry(causes, frame.name), cause, time);
      }
    }
  }
  const busy = total - idle;
  const lines = (of: ReadonlyMap<string, number>, count: number): string =>
    sorted(of)
      .slice(0, count)
      .map(([name, time]) => {
        const [cause, part = 0] = sorted(causes.get(name) ?? new Map())[0] ?? [];
        const why =
          cause === undefined || part < time / 2
            ? ''
            : `\n            ${((100 * part) / time).toFixed(0)} % of it for ${cause}`;
        return `${((100 * time) / busy).toFixed(1).padStart(6)} %  ${name}${why}`;
      })
      .join('\n');
  return [
    `${profiles.length} profile(s), idle ${((100 * idle) / total).toFixed(0)} % of the time. For the rest, all threads together had ` +
      `${((cpuSeconds * 1e8) / busy).toFixed(0)} % of a CPU (less than 100: others had it; more: other threads worked too).`,
    `\nby part:\n${lines(parts, Infinity)}`,
    `\nby function, itself alone:\n${lines(functions, top)}`,
  ].join('\n');
}

function sorted(times: ReadonlyMap<string, number>): (readonly [string, number])[] {
  return [...times].toSorted(([, a], [, b]) => b - a);
}

function entry<Value>(of: Map<string, Map<string, Value>>, key: string): Map<string, Value> {
  const found = of.get(key) ?? new Map<string, Value>();
  of.set(key, found);
  return found;
}

function describe({ functionName, url, lineNumber }: CallFrame): { readonly part: string; readonly name: string } {
  const special = NO_FUNCTIONS.get(functionName);
  if (special !== undefined) return { part: special, name: special };
  const native = SOCKET_WRITES.test(functionName) ? 'socket writes, by the system' : 'native calls';
  if (url === '') return { part: native, name: `${functionName}  native` };
  const module = moduleOf(url, lineNumber);
  const part = PARTS.find(([, pattern]) => pattern.test(module))?.[0] ?? 'elsewhere';
  return { part, name: `${functionName === '' ? '(anonymous)' : functionName}  ${module}` };
}

const bundles = new Map<string, readonly string[]>();

/** The module and line of a function, as a path from the project; in a bundle, the one that the bundler's comment above it names. */
function moduleOf(url: string, line: number): string {
  if (!url.startsWith('file:')) return `${url}:${line + 1}`;
  const file = fileURLToPath(url);
  const packages = file.lastIndexOf('node_modules/');
  if (packages >= 0) return `${file.slice(packages)}:${line + 1}`;
  let lines = bundles.get(file);
  if (lines === undefined) {
    lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
    bundles.set(file, lines);
  }
  for (let above = line; above >= 0; above--) {
    const module = /^\/\/ (?:\.\.\/\S*)?((?:src|node_modules)\/\S+)$/.exec(lines[above] ?? '')?.[1];
    // Without a line: that of the bundle says nothing.
    if (module !== undefined) return module;
  }
  return `${path.relative(ROOT, file)}:${line + 1}`;
}
