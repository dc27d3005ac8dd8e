/**
 * The configuration as the rest of the gateway sees it: checked, resolved and deep-frozen. `load.ts` makes it from the YAML.
 */
import type { Access } from '../core/principal.ts';

/** An `ssh-ed25519` public key (RFC 8709). */
export interface PublicKey {
  readonly type: 'ssh-ed25519';
  /** The key in SSH wire format, base64: what stands in authorized_keys after the type. */
  readonly blob: string;
  /** As `ssh-keygen -l` prints it: `SHA256:` and 43 characters of base64 without padding. */
  readonly fingerprint: string;
  /** The words after the key, possibly empty. */
  readonly comment: string;
}

/** Where a secret is: the absolute path of a file that only its owner can read, or the name of an environment variable. */
export type SecretSource = { readonly file: string } | { readonly variable: string };

/** Storage on S3. Secrets are not in it: `secrets.ts` reads them when the store is opened. */
export interface S3StoreConfig {
  readonly type: 's3';
  readonly name: string;
  readonly bucket: string;
  readonly region: string;
  /** http(s) URL; undefined for AWS. */
  readonly endpoint?: string;
  /** Bucket in the path instead of the host name; by default true where `endpoint` is set. */
  readonly forcePathStyle: boolean;
  /** How long what is stored can be removed by nobody, locks excepted; undefined: the gateway asks for no retention. */
  readonly objectLock?: { readonly mode: 'compliance' | 'governance'; readonly days: number };
  /**
   * What append-only clients need of a storage for their uploads to be taken: `required`, that it honours conditional writes (undefined:
   * the same); `versioned`, that it does or that its bucket keeps what is overwritten as an older version.
   */
  readonly conditionalWrites?: 'required' | 'versioned';
  /** Where the credentials come from; undefined: the SDK's own credential chain. */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secret: SecretSource;
  };
}

/** Storage in a directory of this machine. */
export interface DirectoryStoreConfig {
  readonly type: 'directory';
  readonly name: string;
  /** Absolute path; each repository is a directory below it. */
  readonly path: string;
}

/** One entry of `stores:`. */
export type StoreConfig = S3StoreConfig | DirectoryStoreConfig;

/** One entry of `clients:`. */
export interface ClientConfig {
  readonly name: string;
  readonly keys: readonly PublicKey[];
  readonly repository: {
    /** Name of an entry of `stores:`. */
    readonly store: string;
    /** Path below the store without slashes at its ends; empty for the store's root. */
    readonly prefix: string;
  };
  readonly access: Access;
  /** Whether an append-only client may add key files after `init`. */
  readonly addKeys: boolean;
  /** Sessions at once. */
  readonly maxSessions: number;
  /** The most bytes that its repository may have in use, locks not counted; undefined for no limit. */
  readonly quota?: number;
  /** Locks under 30 minutes old that it may have in its repository. */
  readonly maxLocks: number;
  /** Bytes a second that all of its sessions on this machine may move together; undefined for no limit. */
  readonly bandwidth?: { readonly upload?: number; readonly download?: number };
  /** Requests a second, sessions an hour, and objects under 1 MiB an hour; undefined for the defaults of the limits. */
  readonly requests?: number;
  readonly sessions?: number;
  readonly smallObjects?: number;
  /** Address ranges in CIDR notation it may come from; empty: from anywhere. */
  readonly from: readonly string[];
  /** The last moment at which the key works; for a day, its end, UTC. */
  readonly expires?: Date;
  readonly disabled: boolean;
  /** A snapshot is expected at least this often, in ms; undefined: as often as is usual for it. */
  readonly expectEvery?: number;
}

/** A copy of the audit in a bucket. */
export interface AuditCopyConfig {
  /** Name of an S3 store, whose `objectLock` holds for the copy too. */
  readonly store: string;
  /** Path in its bucket, not empty. Each gateway host has its own. */
  readonly prefix: string;
  /** How often what is new is copied, in ms. */
  readonly everyMs: number;
}

/** A receiver of syslog messages. */
export interface SyslogConfig {
  /** As it stands in the file. */
  readonly address: string;
  readonly to:
    | { readonly transport: 'udp' | 'tcp' | 'tls'; readonly host: string; readonly port: number }
    /** Absolute path of the socket of this machine's syslog or journal. */
    | { readonly transport: 'unix'; readonly path: string };
  /** RFC 5424, table 1: 0 to 23. */
  readonly facility: number;
}

/** The whole configuration. */
export interface GatewayConfig {
  /** Absolute path of the file it came from. */
  readonly file: string;
  /** The user that the gateway runs as, by name or number: root's commands go on as this one. Undefined: root's stay root's. */
  readonly user?: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** Absolute paths of OpenSSH private keys; read by the SSH door alone. */
  readonly hostKeys: readonly string[];
  readonly ssh: {
    /** Ciphers beside AES-GCM that the SSH door offers. */
    readonly extraCiphers: readonly 'chacha20-poly1305@openssh.com'[];
    /** What stands in the file of the door's limits, which has defaults for the rest. */
    readonly limits?: {
      /** Connections at once that have not proved a key yet: of all addresses, and of one. */
      readonly unauthenticated?: number;
      readonly unauthenticatedPerAddress?: number;
      /** How long a connection may take to prove a key. */
      readonly loginSeconds?: number;
      /** The longest that an address waits after failing again and again; 0 for never. */
      readonly maxDelaySeconds?: number;
      /** Open channels of one connection. */
      readonly channels?: number;
      /** How long a connection stays open without a session. */
      readonly idleSeconds?: number;
      /** After four times this without a sign of life, a connection is dead. */
      readonly keepaliveSeconds?: number;
    };
  };
  /** By name; an object without a prototype. */
  readonly stores: Readonly<Record<string, StoreConfig>>;
  /** By name; an object without a prototype. */
  readonly clients: Readonly<Record<string, ClientConfig>>;
  readonly audit: {
    /** Absolute path of the audit file. */
    readonly file: string;
    /** At how many bytes it is rotated; undefined: never, by the gateway. */
    readonly maxSize?: number;
    /** How many of the files that the gateway has rotated stay; undefined: all. */
    readonly keep?: number;
    /** Where `serve` copies it to. */
    readonly copy?: AuditCopyConfig;
    /** Where `serve` sends each line. */
    readonly syslog?: SyslogConfig;
  };
  /** Where metrics and the status page are served; undefined: nowhere. */
  readonly metrics?: {
    readonly listen: { readonly host: string; readonly port: number };
    /** What whoever reads them must bring; there wherever `listen` is beyond loopback. */
    readonly token?: SecretSource;
  };
  /**
   * Absolute path of the directory where the gateway's processes on this machine keep what they share: counts, live sessions, how far a
   * scrub has come. By default `state` beside the audit file. All of it can be made anew from the stores; made when it is first needed.
   */
  readonly state: string;
  /** Bytes that `serve` may hold for its clients, over all its processes; what stands in the file, which has defaults for the rest. */
  readonly memory?: { readonly total?: number; readonly perClient?: number };
  /** Sessions at once of all clients, over all processes of this machine. */
  readonly maxSessions: number;
  /** How many processes of `serve` share the port; `auto`: as many as the machine has cores for it. */
  readonly workers: number | 'auto';
  /** How long `serve` lets sessions go on once it is told to stop, in seconds. */
  readonly drainSeconds: number;
}
