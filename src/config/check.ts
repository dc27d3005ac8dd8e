/** Holds what stands in a config file to the schema, and makes of it what the gateway works with. */
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { GatewayError } from '../core/errors.ts';
import { clientLimits, withoutLimits } from './client-limits.ts';
import { targetOf, targetSchema, type NotifyTarget } from './notify.ts';
import type { Path } from './problems.ts';
import {
  CLIENT_FILE,
  clientSchema,
  ID,
  PRINCIPAL,
  PUBLIC_KEY,
  REPOSITORY,
  rootSchema,
  SHARED,
  storeSchema,
} from './schema.ts';
import { removalRules } from './retention.ts';
import type {
  ClientConfig,
  ClientEntry,
  GatewayConfig,
  PublicKey,
  ClientDefaults,
  SecretSource,
  StoreConfig,
} from './types.ts';
import { parseName } from './values.ts';
import { isSection } from './words.ts';

/** An S3 server outside AWS often has no regions, but a signature names one, and by custom it is this. */
const DEFAULT_REGION = 'us-east-1';

/** Something wrong at a path: with the key itself, or with its value. */
export interface PathProblem {
  readonly path: Path;
  readonly part: 'key' | 'value';
  readonly message: string;
  /** Absolute path of the file of `clientsDirectory` that it is in; undefined for the config's own. */
  readonly file?: string;
  /** What it clashes with, where that is in another file. */
  readonly other?: { readonly file?: string; readonly path: Path };
}

/** A part of the config that is right, or what is wrong with it. */
type Checked<T> = { readonly value: T } | { readonly problems: readonly PathProblem[] };

/** What one client lays claim to, to be compared with what others do. */
export interface Claim {
  readonly client: string;
  /** Undefined when it is not known. */
  readonly id: string | undefined;
  /** With the place of each in the client's list. */
  readonly keys: readonly { readonly index: number; readonly key: PublicKey }[];
  /** With the place of each in the client's list. */
  readonly principals: readonly { readonly index: number; readonly principal: string }[];
  /** Undefined when it is not known. */
  readonly repository: ClientConfig['repository'] | undefined;
  /** Whether others may have the same repository, or one that lies in it or around it. */
  readonly shared: boolean;
}

/** The file without its entries of `stores`, `clients` and `notify`, which are handed on as they are. */
interface Root {
  readonly config: Omit<GatewayConfig, 'file' | 'stores' | 'clients' | 'notify'>;
  readonly defaults: ClientDefaults;
}

/** Checks the whole but the entries of its stores, clients and targets of `notify`. @param base - directory that relative paths start from */
export function checkRoot(raw: unknown, base: string): Checked<Root> {
  return check(rootSchema(base), raw, [], ({ stores: _stores, clients: _clients, notify: _notify, ...entry }): Root => {
    const { defaults = {}, audit, metrics, database, state, ...root } = entry;
    const { maxSize, keep, syslog, ...rest } = audit;
    const config = {
      ...root,
      audit: {
        ...rest,
        ...(maxSize !== 'none' && { maxSize }),
        ...(keep !== 'all' && { keep }),
        ...(syslog && { syslog: { ...syslog.address, facility: syslog.facility } }),
      },
      ...(metrics && {
        metrics: {
          listen: metrics.listen,
          ...(metrics.mostClients !== undefined && { mostClients: metrics.mostClients }),
          ...secretOf('token', metrics.tokenFile, metrics.token),
        },
      }),
      ...(database && { database: databaseOf(database) }),
      state: state ?? join(dirname(audit.file), 'state'),
    };
    return { config, defaults };
  });
}

/** Checks a file of `clientsDirectory` but the entries of its clients. An empty one is no way to say that there are none: it may be cut off. */
export function checkClientFile(raw: unknown): readonly PathProblem[] {
  const message = 'the file is empty; write its clients, or remove it';
  if (raw === null) return [{ path: [], part: 'value', message }];
  const checked = check(CLIENT_FILE, raw, [], () => undefined);
  return 'problems' in checked ? checked.problems : [];
}

/** A secret by the name that the config gives it; nothing where there is none. */
function secretOf<K extends string>(
  name: K,
  file: string | undefined,
  variable: string | undefined,
): { readonly [name in K]?: SecretSource } {
  const secret = file !== undefined ? { file } : variable !== undefined ? { variable } : undefined;
  return (secret === undefined ? {} : { [name]: secret }) as { readonly [name in K]?: SecretSource };
}

function databaseOf({
  passwordFile,
  password,
  ...rest
}: NonNullable<v.InferOutput<ReturnType<typeof rootSchema>>['database']>): NonNullable<GatewayConfig['database']> {
  return { ...rest, ...secretOf('password', passwordFile, password) };
}

/** The entries of `stores`, `clients` or `notify` by name, as they stand in the file. */
export function entriesOf(
  raw: unknown,
  key: 'stores' | 'clients' | 'notify',
): (readonly [name: string, raw: unknown])[] {
  const entries = isSection(raw) ? raw[key] : undefined;
  return isSection(entries) ? Object.entries(entries) : [];
}

/** A function that checks one entry of `stores`. @param base - directory that relative paths start from */
export function storeChecker(base: string): (name: string, raw: unknown) => Checked<StoreConfig> {
  const schema = storeSchema(base);
  return (name, raw) =>
    checkEntry(schema, 'stores', name, raw, (entry): StoreConfig => {
      if (entry.type === 'directory') return { name, ...entry };
      const { accessKeyId, secretAccessKeyFile, secretAccessKey, ...rest } = entry;
      const { secret } = secretOf('secret', secretAccessKeyFile, secretAccessKey);
      return {
        name,
        ...rest,
        region: entry.region ?? DEFAULT_REGION,
        forcePathStyle: entry.forcePathStyle ?? entry.endpoint !== undefined,
        ...(accessKeyId !== undefined && secret !== undefined && { credentials: { accessKeyId, secret } }),
      };
    });
}

/** A function that checks one entry of `notify`. @param base - directory that relative paths start from */
export function targetChecker(base: string): (name: string, raw: unknown) => Checked<NotifyTarget> {
  const schema = targetSchema(base);
  return (name, raw) => checkEntry(schema, 'notify', name, raw, (entry) => targetOf(name, entry));
}

/**
 * A function that checks one entry of `clients`. `claim` is what is known of its claims even when something else in it is wrong.
 * @param base - directory that relative paths start from
 */
export function clientChecker(
  base: string,
): (name: string, raw: unknown) => { checked: Checked<ClientEntry>; claim: Claim } {
  const schema = clientSchema(base);
  return (name, raw) => {
    let claim: Claim | undefined;
    const checked = checkEntry(schema, 'clients', name, raw, (entry): ClientEntry => {
      const { shared, repository, id = name, ...rest } = entry;
      const place = { store: repository.store, prefix: repository.prefix ?? name };
      const keys = rest.keys.map((key, index) => ({ index, key }));
      const principals = rest.principals.map((principal, index) => ({ index, principal }));
      claim = { client: name, id, keys, principals, repository: place, shared };
      return { name, id, ...rest, shared, repository: place };
    });
    return { checked, claim: claim ?? salvage(name, isSection(raw) ? raw : {}) };
  };
}

/** A client with what its store and `defaults` say for it. */
export function resolveClient(entry: ClientEntry, store: StoreConfig, defaults: ClientDefaults): Checked<ClientConfig> {
  const { retention, protect, trash, removals, shared, ...rest } = withoutLimits(entry);
  const said = { access: entry.access, shared, retention, protect, trash, removals };
  const { rules, problem } = removalRules(said, store, defaults);
  if (problem === undefined) return { value: { ...rest, ...clientLimits(entry, defaults), ...rules } };
  const path = ['clients', entry.name, ...(problem.key === undefined ? [] : [problem.key])];
  return { problems: [{ path, part: problem.key === undefined ? 'key' : 'value', message: problem.message }] };
}

function salvage(client: string, raw: Record<string, unknown>): Claim {
  const keys = Array.isArray(raw['keys']) ? raw['keys'] : [];
  const principals = Array.isArray(raw['principals']) ? raw['principals'] : [];
  const place = v.safeParse(REPOSITORY, raw['repository']);
  const id = v.safeParse(ID, raw['id'] ?? client);
  const shared = v.safeParse(SHARED, raw['shared']);
  return {
    client,
    id: id.success ? id.output : undefined,
    keys: keys.flatMap((line, index) => {
      const key = v.safeParse(PUBLIC_KEY, line);
      return key.success ? [{ index, key: key.output }] : [];
    }),
    principals: principals.flatMap((one, index) => {
      const principal = v.safeParse(PRINCIPAL, one);
      return principal.success ? [{ index, principal: principal.output }] : [];
    }),
    repository: place.success ? { store: place.output.store, prefix: place.output.prefix ?? client } : undefined,
    shared: shared.success && shared.output,
  };
}

function checkEntry<T, C>(
  schema: v.GenericSchema<unknown, T>,
  under: 'stores' | 'clients' | 'notify',
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
