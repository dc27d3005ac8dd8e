/**
 * The configuration as the rest of the gateway sees it: checked, resolved and deep-frozen. `load.ts` makes it from the YAML, and
 * the schema says what each key is.
 */
import type { InferOutput } from 'valibot';
import type { PublicKey } from './public-key.ts';
import type { ClientLimits } from './client-limits.ts';
import type { NotifyTarget } from './notify.ts';
import type { RemovalRules } from './retention.ts';
import type { clientSchema, rootSchema, storeSchema } from './schema.ts';
import type { SyslogAddress } from './values.ts';

export type { PublicKey };
export type { CalendarSpan, GroupKey, RetentionPolicy } from './retention.ts';

/** Where a secret is: the absolute path of a file that only its owner can read, or the name of an environment variable. */
export type SecretSource = { readonly file: string } | { readonly variable: string };

/** The schema's own entries, as the file has them once they are read. */
type S3Entry = Known<Extract<InferOutput<ReturnType<typeof storeSchema>>, { readonly type: 's3' }>>;
type RootEntry = InferOutput<ReturnType<typeof rootSchema>>;

/** Storage on S3. Secrets are not in it: `secrets.ts` reads them when the store is opened. */
export type S3StoreConfig = DeepReadonly<
  Omit<S3Entry, 'accessKeyId' | 'secretAccessKeyFile' | 'secretAccessKey' | 'region' | 'forcePathStyle'> & {
    name: string;
    region: string;
    /** Bucket in the path instead of the host name; by default true where `endpoint` is set. */
    forcePathStyle: boolean;
    /** Where the credentials come from; undefined: the SDK's own credential chain. */
    credentials?: { accessKeyId: string; secret: SecretSource };
  }
>;

/** Storage in a directory of this machine. */
export interface DirectoryStoreConfig {
  readonly type: 'directory';
  readonly name: string;
  /** Absolute path; each repository is a directory below it. */
  readonly path: string;
  /** As in the file: `protectMs` and `trashMs` of a client are what holds. */
  readonly protect?: number | 'none';
  readonly trash?: number | 'none';
}

/** One entry of `stores:`. */
export type StoreConfig = S3StoreConfig | DirectoryStoreConfig;

/** One entry of `clients:` by itself. */
export type ClientEntry = DeepReadonly<
  Omit<InferOutput<ReturnType<typeof clientSchema>>, 'repository' | 'id'> & {
    name: string;
    /** Under which its history is kept: its name, unless the config says another. */
    id: string;
    /** An entry of `stores:` by its name, and the path below it without slashes at its ends; empty for the store's root. */
    repository: { store: string; prefix: string };
  }
>;

/** `defaults:`, for clients that do not say otherwise. */
export type ClientDefaults = DeepReadonly<NonNullable<RootEntry['defaults']>>;

/** One entry of `clients:` with what its store and `defaults` say for it; the schema says what each key means. */
export type ClientConfig = Omit<ClientEntry, 'shared' | 'protect' | keyof RemovalRules | 'trash' | keyof ClientLimits> &
  RemovalRules &
  ClientLimits & {
    /** The other gateway that has it disabled, where its own entry has not: see `src/database`. */
    readonly disabledBy?: string;
  };

/** A copy of the audit in a bucket. Its prefix is not empty, and each gateway host has its own; `every` is in ms. */
export type AuditCopyConfig = DeepReadonly<NonNullable<RootEntry['audit']['copy']>>;

/** A receiver of syslog messages, and the number of its facility (RFC 5424, table 1). */
export type SyslogConfig = SyslogAddress & { readonly facility: number };

/** The whole configuration; the schema says what each key means. */
export type GatewayConfig = DeepReadonly<
  Omit<RootEntry, 'stores' | 'clients' | 'defaults' | 'notify' | 'audit' | 'metrics' | 'database' | 'state'> & {
    /** Absolute path of the file it came from. */
    file: string;
    /** By name; objects without a prototype. */
    stores: Record<string, StoreConfig>;
    clients: Record<string, ClientConfig>;
    /** Who is told of problems, by name. */
    notify: Record<string, NotifyTarget>;
    audit: Omit<RootEntry['audit'], 'maxSize' | 'keep' | 'copy' | 'syslog'> & {
      /** At how many bytes it is rotated; undefined: never, by the gateway. */
      maxSize?: number;
      /** How many of the files that the gateway has rotated stay; undefined: all. */
      keep?: number;
      /** Where `serve` copies it to. */
      copy?: AuditCopyConfig;
      /** Where `serve` sends each line. */
      syslog?: SyslogConfig;
    };
    /** Where metrics and the status page are served; undefined: nowhere. */
    metrics?: {
      listen: { host: string; port: number };
      /** With more clients than this, not all of them have metrics of their own. */
      mostClients?: number;
      /** What whoever reads them must bring; there wherever `listen` is beyond loopback. */
      token?: SecretSource;
    };
    /** PostgreSQL, by which several gateways are one; undefined: this one is alone. */
    database?: Omit<NonNullable<RootEntry['database']>, 'password' | 'passwordFile'> & { password?: SecretSource };
    /**
     * Absolute path of the directory where the gateway's processes on this machine keep what they share: counts, live sessions, how far a
     * scrub has come. By default `state` beside the audit file. All of it can be made anew from the stores; made when it is first needed.
     */
    state: string;
  }
>;

/** Without the index of a loose object. */
type Known<T> = { [K in keyof T as string extends K ? never : number extends K ? never : K]: T[K] };

/** Nothing of the config is ever changed. */
type DeepReadonly<T> = T extends Date | ((...args: never) => unknown)
  ? T
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;
