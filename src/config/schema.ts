/**
 * What may stand in a config file: every key, its form and its default, and the one place that knows them.
 *
 * Shapes and single values are checked here, entry by entry; `cross-checks.ts` compares entries with one another.
 */
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { GatewayError } from '../core/errors.ts';
import { ACCESS_LEVELS } from '../core/principal.ts';
import { didYouMean, hasControls, type Path } from './problems.ts';
import { parsePublicKey } from './public-key.ts';
import type { ClientConfig, GatewayConfig, PublicKey, S3StoreConfig, StoreConfig, SyslogConfig } from './types.ts';
import {
  isLoopback,
  parseAccessKeyId,
  parseAddressRange,
  parseAuditSize,
  parseBandwidth,
  parseBoolean,
  parseBucket,
  parseDuration,
  parseEndpoint,
  parseExpiry,
  parseListen,
  parseName,
  parsePath,
  parsePrefix,
  parseRegion,
  parseSecretReference,
  parseSize,
  parseSizeFrom,
  parseSyslogAddress,
  parseTimes,
  parseUser,
  parseWhole,
  parseWorkers,
} from './values.ts';

/** Something wrong at a path: with the key itself, or with its value. */
export interface PathProblem {
  readonly path: Path;
  readonly part: 'key' | 'value';
  readonly message: string;
}

/** A part of the config that is right, or what is wrong with it. */
type Checked<T> = { readonly value: T } | { readonly problems: readonly PathProblem[] };

/** What one client lays claim to, to be compared with what others do. */
export interface Claim {
  readonly client: string;
  /** With the place of each in the client's list. */
  readonly keys: readonly { readonly index: number; readonly key: PublicKey }[];
  /** Undefined when it cannot be told. */
  readonly repository: ClientConfig['repository'] | undefined;
  /** Whether others may have the same repository, or one that lies in it or around it. */
  readonly shared: boolean;
}

const DEFAULT_LISTEN: GatewayConfig['listen'] = { host: '0.0.0.0', port: 2222 };
/** Where metrics are served when only a port is given. */
const LOOPBACK = '127.0.0.1';
const DEFAULT_AUDIT_FILE = '/var/log/restic-gateway/audit.jsonl';
/** Evidence is not removed unasked: all rotated files stay. */
const DEFAULT_AUDIT_SIZE = 100 * 2 ** 20;
const MOST_KEPT = 100_000;
/** A minute of the audit is the most that an intruder on the gateway host could change unseen. */
const DEFAULT_COPY_MS = 60_000;
const DEFAULT_MAX_SESSIONS = 10;
/** A run of restic has one, or two for the moment in which it refreshes it. */
const DEFAULT_MAX_LOCKS = 200;
/** Below these, an ordinary run of restic would be hindered. */
const LEAST_REQUESTS = 10;
const LEAST_SESSIONS = 60;
const LEAST_SMALL_OBJECTS = 60;
/** Half a minute below the 90 s after which systemd and most others kill what they have told to stop. */
const DEFAULT_DRAIN_SECONDS = 60;
const MOST_WORKERS = 256;
/** Below these, in bytes, one run of restic could not move at its full speed. */
const LEAST_MEMORY_PER_CLIENT = 20 * 2 ** 20;
const LEAST_MEMORY = 4 * LEAST_MEMORY_PER_CLIENT;
/** Two clients in each process. */
const LEAST_MEMORY_OF_WORKER = 2 * LEAST_MEMORY_PER_CLIENT;
const DEFAULT_MEMORY = 512 * 2 ** 20;
/** Sessions of all clients: with a pack under way in each, what a machine of 16 GiB bears. */
const DEFAULT_ALL_SESSIONS = 1000;
const MOST_SESSIONS = 100_000;
/** A hundred years, the most that AWS takes. */
const MOST_LOCK_DAYS = 36_500;
/** A day. */
const MOST_DRAIN_SECONDS = 86_400;
/** An S3 server outside AWS often has no regions, but a signature names one, and by custom it is this. */
const DEFAULT_REGION = 'us-east-1';

// The words that the schema is written in.

const EMPTY = 'is empty; give it a value or remove the line';

const anyText = v.string((issue) => (issue.input === null ? EMPTY : 'must be a single value'));
const filledText = v.pipe(anyText, v.nonEmpty(EMPTY));
const lineText = v.pipe(
  filledText,
  v.check((text) => !hasControls(text), 'holds a line break or a control character'),
);

/** A text as `parse` reads it; what `parse` throws is told. */
function parsed<T>(parse: (text: string) => T, base: v.GenericSchema<string> = lineText) {
  return v.pipe(
    base,
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

function oneOf<const T extends readonly string[]>(words: T) {
  const known = words.map((word) => `"${word}"`).join(' or ');
  return v.picklist(words, (issue) => {
    if (issue.input === null) return EMPTY;
    return `must be ${known}${typeof issue.input === 'string' ? didYouMean(issue.input, words) : ''}`;
  });
}

/** A list that holds nothing twice. @param identity - what makes two items the same */
function listOf<T>(item: v.GenericSchema<unknown, T>, identity: (item: T) => unknown = (same) => same) {
  return v.pipe(
    v.array(item, (issue) => (issue.input === null ? EMPTY : 'must be a list: [one, another]')),
    v.rawCheck(({ dataset, addIssue }) => {
      const items: unknown = dataset.value;
      if (!Array.isArray(items)) return;
      const wrong = new Set(dataset.issues?.map((issue) => issue.path?.[0]?.key));
      const seen = new Set<unknown>();
      for (const [key, value] of items.entries()) {
        if (wrong.has(key)) continue;
        const same = identity(value as T);
        if (seen.has(same))
          addIssue({
            message: 'stands in this list twice',
            path: [{ type: 'array', origin: 'value', input: items, key, value }],
          });
        seen.add(same);
      }
    }),
  );
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Exactly these keys, for what is a section already. */
function keysOf<const T extends v.ObjectEntries>(entries: T) {
  const known = Object.keys(entries);
  return v.pipe(
    v.looseObject(entries, 'is missing'),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown>;
      for (const key of Object.keys(input))
        if (!Object.hasOwn(entries, key))
          addIssue({
            message: `unknown key${didYouMean(key, known)}`,
            path: [{ type: 'object', origin: 'key', input, key, value: input[key] }],
          });
    }),
  );
}

/** A section, of whatever keys. */
function anySection(known: string) {
  return v.custom<Record<string, unknown>>(isSection, (issue) =>
    issue.input === null ? EMPTY : `must be a section with ${known}`,
  );
}

/** A section with exactly these keys. */
function section<const T extends v.ObjectEntries>(entries: T) {
  return v.pipe(anySection(Object.keys(entries).join(', ')), keysOf(entries));
}

const boolean = parsed(parseBoolean);
const prefix = parsed(parsePrefix, anyText);
const limit = parsed((text) => parseWhole(text, 1, 100_000));
const bandwidth = parsed(parseBandwidth);
const publicKeys = listOf(parsed(parsePublicKey, filledText), (key) => key.blob);
const repository = section({ store: lineText, prefix: v.exactOptional(prefix) });

// The schema.

const CLIENT = section({
  keys: publicKeys,
  repository,
  access: v.exactOptional(oneOf(ACCESS_LEVELS)),
  addKeys: v.exactOptional(boolean),
  maxSessions: v.exactOptional(parsed((text) => parseWhole(text, 1, 10_000))),
  quota: v.exactOptional(parsed(parseSize)),
  maxLocks: v.exactOptional(parsed((text) => parseWhole(text, 1, 100_000))),
  bandwidth: v.exactOptional(
    v.pipe(
      section({ upload: v.exactOptional(bandwidth), download: v.exactOptional(bandwidth) }),
      v.check((rates) => Object.keys(rates).length > 0, 'must have upload, download or both'),
    ),
  ),
  requests: v.exactOptional(parsed((text) => parseTimes(text, 's', LEAST_REQUESTS))),
  sessions: v.exactOptional(parsed((text) => parseTimes(text, 'h', LEAST_SESSIONS))),
  smallObjects: v.exactOptional(parsed((text) => parseTimes(text, 'h', LEAST_SMALL_OBJECTS))),
  from: v.exactOptional(listOf(parsed(parseAddressRange))),
  expires: v.exactOptional(parsed(parseExpiry)),
  disabled: v.exactOptional(boolean),
  expectEvery: v.exactOptional(parsed(parseDuration)),
  shared: v.exactOptional(boolean),
});

function storeSchema(base: string) {
  const path = parsed((text) => parsePath(text, base));
  const s3 = v.pipe(
    keysOf({
      type: v.literal('s3'),
      bucket: parsed(parseBucket),
      region: v.exactOptional(parsed(parseRegion)),
      endpoint: v.exactOptional(parsed(parseEndpoint)),
      forcePathStyle: v.exactOptional(boolean),
      objectLock: v.exactOptional(
        section({
          mode: oneOf(['compliance', 'governance']),
          days: parsed((text) => parseWhole(text, 1, MOST_LOCK_DAYS)),
        }),
      ),
      conditionalWrites: v.exactOptional(oneOf(['required', 'versioned'])),
      accessKeyId: v.exactOptional(parsed(parseAccessKeyId)),
      secretAccessKeyFile: v.exactOptional(path),
      secretAccessKey: v.exactOptional(parsed((text) => parseSecretReference(text))),
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown>;
      const has = (key: string): boolean => Object.hasOwn(input, key);
      const wrong = (key: string, message: string): void => {
        addIssue({ message, path: [{ type: 'object', origin: 'key', input, key, value: input[key] }] });
      };
      if (!has('region') && !has('endpoint')) wrong('region', 'is missing; only where endpoint is set it may be');
      if (has('secretAccessKey') && has('secretAccessKeyFile'))
        wrong('secretAccessKey', 'stands beside secretAccessKeyFile; remove one of the two');
      const secret = ['secretAccessKeyFile', 'secretAccessKey'].find(has);
      if (has('accessKeyId') && secret === undefined)
        wrong(
          'accessKeyId',
          'needs secretAccessKeyFile beside it; without both, the credentials of the machine are used',
        );
      if (!has('accessKeyId') && secret !== undefined) wrong(secret, 'needs accessKeyId beside it');
    }),
  );
  const directory = keysOf({ type: v.literal('directory'), path });
  return v.pipe(
    anySection('type and what belongs to it'),
    v.variant('type', [s3, directory], (issue) => {
      const types = ['s3', 'directory'];
      if (issue.input === undefined) return 'is missing; write "s3" or "directory"';
      if (issue.input === null) return EMPTY;
      return `must be "s3" or "directory"${typeof issue.input === 'string' ? didYouMean(issue.input, types) : ''}`;
    }),
  );
}

function rootSchema(base: string) {
  const path = parsed((text) => parsePath(text, base));
  const root = section({
    user: v.exactOptional(parsed(parseUser)),
    listen: v.exactOptional(parsed(parseListen)),
    hostKeys: v.exactOptional(listOf(path)),
    ssh: v.exactOptional(
      section({
        extraCiphers: v.exactOptional(listOf(oneOf(['chacha20-poly1305@openssh.com']))),
        limits: v.exactOptional(
          section({
            unauthenticated: v.exactOptional(limit),
            unauthenticatedPerAddress: v.exactOptional(limit),
            loginSeconds: v.exactOptional(limit),
            maxDelaySeconds: v.exactOptional(parsed((text) => parseWhole(text, 0, 60))),
            channels: v.exactOptional(limit),
            idleSeconds: v.exactOptional(limit),
            keepaliveSeconds: v.exactOptional(limit),
          }),
        ),
      }),
    ),
    // Their entries are checked one by one, so that what is right can be compared with others whatever is wrong elsewhere.
    stores: v.exactOptional(v.nullable(anySection('a name for each store'))),
    clients: v.exactOptional(v.nullable(anySection('a name for each client'))),
    audit: v.exactOptional(
      section({
        file: v.exactOptional(path),
        maxSize: v.exactOptional(parsed(parseAuditSize)),
        keep: v.exactOptional(parsed((text) => (text === 'all' ? text : parseWhole(text, 1, MOST_KEPT)))),
        copy: v.exactOptional(
          section({
            store: lineText,
            prefix: v.pipe(prefix, v.nonEmpty('must not be empty: the copy needs a place of its own')),
            every: v.exactOptional(parsed(parseDuration)),
          }),
        ),
        syslog: v.exactOptional(
          section({ address: parsed(parseSyslogAddress), facility: v.exactOptional(oneOf(FACILITIES)) }),
        ),
      }),
    ),
    metrics: v.exactOptional(
      v.pipe(
        section({
          listen: parsed((text) => parseListen(text, LOOPBACK)),
          tokenFile: v.exactOptional(path),
          token: v.exactOptional(parsed((text) => parseSecretReference(text, 'tokenFile'))),
        }),
        v.rawCheck(({ dataset, addIssue }) => {
          if (!dataset.typed) return;
          const { listen, token, tokenFile } = dataset.value;
          const wrong = (key: string, message: string): void => {
            const input = dataset.value as Record<string, unknown>;
            addIssue({ message, path: [{ type: 'object', origin: 'key', input, key, value: input[key] }] });
          };
          if (token !== undefined && tokenFile !== undefined)
            wrong('token', 'stands beside tokenFile; remove one of the two');
          if (token === undefined && tokenFile === undefined && !isLoopback(listen.host))
            wrong(
              'listen',
              'others than this machine can reach that address: add tokenFile, the file of a token that they must bring, or listen on 127.0.0.1',
            );
        }),
      ),
    ),
    state: v.exactOptional(path),
    memory: v.exactOptional(
      v.pipe(
        section({
          total: v.exactOptional(parsed((text) => parseSizeFrom(text, LEAST_MEMORY, '80MiB'))),
          perClient: v.exactOptional(parsed((text) => parseSizeFrom(text, LEAST_MEMORY_PER_CLIENT, '20MiB'))),
        }),
        v.rawCheck(({ dataset, addIssue }) => {
          if (!dataset.typed) return;
          const { total = DEFAULT_MEMORY, perClient } = dataset.value;
          if (perClient === undefined || perClient * 2 <= total) return;
          const input = dataset.value as Record<string, unknown>;
          addIssue({
            message: `must be at most half of memory.total (${total / 2 ** 20}MiB), so that no client can take what all others need`,
            path: [{ type: 'object', origin: 'value', input, key: 'perClient', value: perClient }],
          });
        }),
      ),
    ),
    maxSessions: v.exactOptional(parsed((text) => parseWhole(text, 1, MOST_SESSIONS))),
    workers: v.exactOptional(parsed((text) => parseWorkers(text, MOST_WORKERS))),
    drainSeconds: v.exactOptional(parsed((text) => parseWhole(text, 0, MOST_DRAIN_SECONDS))),
  });
  return v.pipe(
    root,
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { workers, memory } = dataset.value;
      const total = memory?.total ?? DEFAULT_MEMORY;
      if (typeof workers !== 'number' || total >= workers * LEAST_MEMORY_OF_WORKER) return;
      const input = dataset.value as Record<string, unknown>;
      addIssue({
        message: `are too many for memory.total (${total / 2 ** 20}MiB): each of them needs 40MiB of it`,
        path: [{ type: 'object', origin: 'value', input, key: 'workers', value: workers }],
      });
    }),
  );
}

// From what stands in the file to what the gateway works with.

/** The file without its entries of `stores` and `clients`, which are handed on as they are. */
export type Root = Omit<GatewayConfig, 'file' | 'stores' | 'clients'>;

/** Checks the whole but the entries of its stores and clients. @param base - directory that relative paths start from */
export function checkRoot(raw: unknown, base: string): Checked<Root> {
  return check(rootSchema(base), raw, [], ({ hostKeys, ssh, audit, metrics, ...root }) => ({
    ...(root.user !== undefined && { user: root.user }),
    listen: root.listen ?? DEFAULT_LISTEN,
    hostKeys: hostKeys ?? [],
    ssh: { extraCiphers: ssh?.extraCiphers ?? [], ...(ssh?.limits !== undefined && { limits: ssh.limits }) },
    audit: auditOf(audit ?? {}),
    ...(metrics && { metrics: metricsOf(metrics) }),
    state: root.state ?? join(dirname(audit?.file ?? DEFAULT_AUDIT_FILE), 'state'),
    maxSessions: root.maxSessions ?? DEFAULT_ALL_SESSIONS,
    workers: root.workers ?? 1,
    drainSeconds: root.drainSeconds ?? DEFAULT_DRAIN_SECONDS,
  }));
}

/** RFC 5424, table 1: `local0` has 16. */
const FACILITIES = [
  ...(['auth', 'authpriv', 'daemon', 'user'] as const),
  ...(['local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7'] as const),
] as const;
const NUMBERS: Readonly<Record<string, number>> = { user: 1, daemon: 3, auth: 4, authpriv: 10 };

function facilityOf(name: (typeof FACILITIES)[number]): number {
  return NUMBERS[name] ?? 16 + Number(name.slice('local'.length));
}

function auditOf({
  file = DEFAULT_AUDIT_FILE,
  maxSize = DEFAULT_AUDIT_SIZE,
  keep = 'all',
  copy,
  syslog,
}: {
  readonly file?: string;
  readonly maxSize?: number | 'none';
  readonly keep?: number | 'all';
  readonly copy?: { readonly store: string; readonly prefix: string; readonly every?: number };
  readonly syslog?: {
    readonly address: Omit<SyslogConfig, 'facility'>;
    readonly facility?: (typeof FACILITIES)[number];
  };
}): GatewayConfig['audit'] {
  return {
    file,
    ...(maxSize !== 'none' && { maxSize }),
    ...(keep !== 'all' && { keep }),
    ...(copy && { copy: { store: copy.store, prefix: copy.prefix, everyMs: copy.every ?? DEFAULT_COPY_MS } }),
    ...(syslog && { syslog: { ...syslog.address, facility: facilityOf(syslog.facility ?? 'authpriv') } }),
  };
}

function metricsOf({
  listen,
  tokenFile: file,
  token: variable,
}: {
  readonly listen: GatewayConfig['listen'];
  readonly tokenFile?: string;
  readonly token?: string;
}): NonNullable<GatewayConfig['metrics']> {
  if (file !== undefined) return { listen, token: { file } };
  return { listen, ...(variable !== undefined && { token: { variable } }) };
}

/** The entries of `stores` or `clients` by name, as they stand in the file. */
export function entriesOf(raw: unknown, key: 'stores' | 'clients'): (readonly [name: string, raw: unknown])[] {
  const entries = isSection(raw) ? raw[key] : undefined;
  return isSection(entries) ? Object.entries(entries) : [];
}

/** A function that checks one entry of `stores`. @param base - directory that relative paths start from */
export function storeChecker(base: string): (name: string, raw: unknown) => Checked<StoreConfig> {
  const schema = storeSchema(base);
  return (name, raw) =>
    checkEntry(schema, 'stores', name, raw, (entry): StoreConfig => {
      if (entry.type === 'directory') return { type: entry.type, name, path: entry.path };
      const { type, bucket, endpoint, accessKeyId, secretAccessKeyFile: file, secretAccessKey: variable } = entry;
      let secret: NonNullable<S3StoreConfig['credentials']>['secret'] | undefined;
      if (file !== undefined) secret = { file };
      else if (variable !== undefined) secret = { variable };
      return {
        type,
        name,
        bucket,
        region: entry.region ?? DEFAULT_REGION,
        ...(endpoint !== undefined && { endpoint }),
        forcePathStyle: entry.forcePathStyle ?? endpoint !== undefined,
        ...(entry.objectLock !== undefined && { objectLock: entry.objectLock }),
        ...(entry.conditionalWrites !== undefined && { conditionalWrites: entry.conditionalWrites }),
        ...(accessKeyId !== undefined && secret !== undefined && { credentials: { accessKeyId, secret } }),
      };
    });
}

/** Checks one entry of `clients`. `claim` is what can be told of its claims even when something else in it is wrong. */
export function checkClient(name: string, raw: unknown): { checked: Checked<ClientConfig>; claim: Claim } {
  let claim: Claim | undefined;
  const checked = checkEntry(CLIENT, 'clients', name, raw, (entry): ClientConfig => {
    const {
      keys,
      expires,
      quota,
      expectEvery,
      bandwidth: pace,
      requests,
      sessions,
      smallObjects,
      shared = false,
    } = entry;
    const place = { store: entry.repository.store, prefix: entry.repository.prefix ?? name };
    claim = { client: name, keys: keys.map((key, index) => ({ index, key })), repository: place, shared };
    return {
      name,
      keys,
      repository: place,
      access: entry.access ?? 'append-only',
      addKeys: entry.addKeys ?? false,
      maxSessions: entry.maxSessions ?? DEFAULT_MAX_SESSIONS,
      ...(quota !== undefined && { quota }),
      maxLocks: entry.maxLocks ?? DEFAULT_MAX_LOCKS,
      ...(pace !== undefined && { bandwidth: pace }),
      ...(requests !== undefined && { requests }),
      ...(sessions !== undefined && { sessions }),
      ...(smallObjects !== undefined && { smallObjects }),
      from: entry.from ?? [],
      ...(expires !== undefined && { expires }),
      disabled: entry.disabled ?? false,
      ...(expectEvery !== undefined && { expectEvery }),
    };
  });
  return { checked, claim: claim ?? salvage(name, isSection(raw) ? raw : {}) };
}

function salvage(client: string, raw: Record<string, unknown>): Claim {
  const keys = Array.isArray(raw['keys']) ? raw['keys'] : [];
  const place = v.safeParse(repository, raw['repository']);
  const shared = v.safeParse(boolean, raw['shared']);
  return {
    client,
    keys: keys.flatMap((line, index) => {
      const key = v.safeParse(parsed(parsePublicKey, filledText), line);
      return key.success ? [{ index, key: key.output }] : [];
    }),
    repository: place.success ? { store: place.output.store, prefix: place.output.prefix ?? client } : undefined,
    shared: shared.success && shared.output,
  };
}

function checkEntry<T, C>(
  schema: v.GenericSchema<unknown, T>,
  under: 'stores' | 'clients',
  name: string,
  raw: unknown,
  build: (entry: T) => C,
): Checked<C> {
  const path = [under, name];
  const checked = check(schema, raw, path, build);
  try {
    parseName(name);
    return checked;
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    const wrongName: PathProblem = { path, part: 'key', message: error.message };
    return { problems: [wrongName, ...('problems' in checked ? checked.problems : [])] };
  }
}

function check<T, C>(
  schema: v.GenericSchema<unknown, T>,
  raw: unknown,
  under: Path,
  build: (entry: T) => C,
): Checked<C> {
  const result = v.safeParse(schema, raw);
  if (result.success) return { value: build(result.output) };
  return {
    problems: result.issues.map(({ path = [], message }) => ({
      path: [...under, ...path.map(({ key }) => key as string | number)],
      part: path.at(-1)?.origin === 'key' ? 'key' : 'value',
      message,
    })),
  };
}
