/** A `clients:` block that is given to be applied: YAML or JSON, each entry checked by itself. */
import { isUtf8 } from 'node:buffer';
import { checkClientFile, clientChecker, entriesOf, type PathProblem } from './check.ts';
import { lineAndColumn, readDocument, type ConfigDocument, type YamlValue } from './document.ts';
import { ConfigError, formatPath, invalid } from './problems.ts';
import { readSimpleDocument } from './simple-document.ts';
import { sourceOf } from './sources.ts';
import { isSection } from './words.ts';

/** An entry as it stands in a file, `${…}` as written. */
export type RawEntry = Readonly<Record<string, YamlValue>>;

/** As `client export --json` has it, so that it can be given back as it is. */
const KIND = 'clients';

/**
 * Reads the entries.
 * @param name - what the text is called in messages
 * @param base - directory that relative paths start from: the config's
 * @throws ConfigError with each mistake in its place; GatewayError `invalid-config`
 */
export function readGivenClients(
  bytes: Buffer,
  name: string,
  base: string,
  env: NodeJS.ProcessEnv = process.env,
): ReadonlyMap<string, RawEntry> {
  const text = bytes.toString('utf8');
  if (!isUtf8(bytes)) throw invalid(`${name}: this is not UTF-8 text; save it as UTF-8`);
  const { raw, replaced, unset, document } = read(text, name, env);
  const problems: PathProblem[] = [...unset];
  if (raw !== undefined && document().problems.length === 0) {
    problems.push(...checkClientFile(replaced));
    const check = clientChecker(base);
    for (const [client, entry] of entriesOf(replaced, 'clients')) {
      const { checked } = check(client, entry);
      if ('problems' in checked) problems.push(...checked.problems);
    }
  }
  if (problems.length > 0 || raw === undefined || document().problems.length > 0) {
    const known = readDocument(text, (value) => value);
    const placed = [
      ...known.problems,
      ...problems.map(({ path, part, message }) => ({ path, message, offset: known.offsetOf(path, part) })),
    ];
    placed.sort((a, b) => a.offset - b.offset);
    throw new ConfigError(
      name,
      placed.map(({ path, offset, message }) => ({ path: formatPath(path), ...lineAndColumn(text, offset), message })),
    );
  }
  const entries = entriesOf(raw, 'clients');
  return new Map(entries.flatMap(([client, entry]) => (isSection(entry) ? [[client, entry as RawEntry]] : [])));
}

interface Given {
  /** `${…}` as written. */
  readonly raw: YamlValue | undefined;
  readonly replaced: YamlValue | undefined;
  readonly unset: readonly PathProblem[];
  /** What is wrong with the text itself. */
  readonly document: () => Pick<ConfigDocument, 'problems'>;
}

function read(text: string, name: string, env: NodeJS.ProcessEnv): Given {
  const plain = readPlainJson(text);
  if (plain !== undefined) {
    const raw = withoutMarks(plain);
    return { raw, replaced: raw, unset: [], document: () => ({ problems: [] }) };
  }
  const { raw: replaced, unset, isWrong, document } = sourceOf(name, text, env);
  const simple = readSimpleDocument(text, (value) => value);
  const raw = simple ?? readDocument(text, (value) => value).value;
  return {
    ...{ raw: withoutMarks(raw), replaced: withoutMarks(replaced), unset },
    // Where the short way was taken nothing is wrong.
    document: isWrong || raw === undefined ? document : () => ({ problems: [] }),
  };
}

function withoutMarks(raw: YamlValue | undefined): YamlValue | undefined {
  if (!isSection(raw) || raw['kind'] !== KIND || raw['v'] !== '1') return raw;
  const entries = Object.entries(raw).filter(([key]) => key !== 'v' && key !== 'kind');
  return Object.assign(Object.create(null) as Record<string, YamlValue>, Object.fromEntries(entries));
}

/**
 * JSON by the engine's own reader, which is fast. It lets a name stand twice and takes the last one, and tells no place: whatever it would
 * not write again as it stands is left to the YAML library, which reads JSON too.
 */
function readPlainJson(text: string): YamlValue | undefined {
  if (!/^\s*\{/.test(text) || text.includes('${')) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const packed = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
    return JSON.stringify(value) === packed ? asYaml(value) : undefined;
  } catch {
    return undefined;
  }
}

/** As YAML's failsafe schema has it: each scalar is the text that stands there. @throws Error for a name that cannot be used */
function asYaml(value: unknown): YamlValue {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(asYaml);
  if (typeof value === 'string') return value;
  if (typeof value !== 'object') return JSON.stringify(value);
  const section = Object.create(null) as Record<string, YamlValue>;
  for (const [name, one] of Object.entries(value)) {
    if (name === '' || name === 'prototype' || name in Object.prototype) throw new Error('left to the library');
    section[name] = asYaml(one);
  }
  return section;
}
