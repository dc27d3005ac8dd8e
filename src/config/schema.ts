/**
 * What may stand in a config file: every key with its type, default and description, and the one place that knows them. A new key is one
 * line here: the config's types, the reference in the docs and the JSON Schema for editors come from it (`npm run docs` writes both).
 *
 * Shapes and single values are checked here, entry by entry; `cross-checks.ts` compares entries with one another.
 */
import * as v from 'valibot';
import { ACCESS_LEVELS, ROLES } from '../core/principal.ts';
import { DEFAULT_LIMITS, OWN_LIMITS, whole } from './client-limits.ts';
import { parseAuthorityKey } from './authority-key.ts';
import { didYouMean } from './problems.ts';
import { parsePublicKey } from './public-key.ts';
import { PROTECT, REMOVALS, RETENTION, TRASH } from './retention.ts';
import {
  isLoopback,
  parseAccessKeyId,
  parseAuditSize,
  parseBalancers,
  parseBoolean,
  parseBucket,
  parseDatabaseUrl,
  parseDuration,
  parseEndpoint,
  parseExpiry,
  parseListen,
  parseListenAll,
  parseName,
  parsePath,
  parsePrefix,
  parsePrincipal,
  parseProxy,
  parseRegion,
  parseRevocation,
  parseSecretReference,
  parseSizeFrom,
  parseSyslogAddress,
  parseUser,
  parseWhole,
  parseWorkers,
} from './values.ts';
import {
  anySection,
  anyText,
  EMPTY,
  filledText,
  keysOf,
  lineText,
  listOf,
  needed,
  oneOf,
  oneOrList,
  optional,
  parsed,
  section,
  withDefault,
} from './words.ts';

/** Where metrics are served when only a port is given. */
const LOOPBACK = '127.0.0.1';
/** The audit log's file, unless the config names another. */
const DEFAULT_AUDIT_FILE = '/var/log/restic-gateway/audit.jsonl';

/** Below these, in bytes, one run of restic could not move at its full speed, and a process of `serve` needs room for two clients. */
const LEAST_MEMORY_PER_CLIENT = 20 * 2 ** 20;
const LEAST_MEMORY_OF_WORKER = 2 * LEAST_MEMORY_PER_CLIENT;
const DEFAULT_MEMORY = 512 * 2 ** 20;
const DAY_MS = 24 * 60 * 60 * 1000;
const LEAST_MEMORY = 4 * LEAST_MEMORY_PER_CLIENT;

// The types of values.

/** What makes two values the same. */
const written = (value: unknown): string =>
  JSON.stringify(value, (_key, each: unknown) => (typeof each === 'bigint' ? each.toString() : each));
/** Where the SSH server listens: all of them, none twice. */
const LISTEN = v.pipe(
  oneOrList(parsed('HOST:PORT', parseListenAll), written, 'HOST:PORT or PORT, or a list of them'),
  v.transform((given) => [...new Map(given.flat().map((endpoint) => [written(endpoint), endpoint])).values()]),
);
const boolean = parsed('`true`, `false`', parseBoolean);
const duration = parsed('time', parseDuration);
const publicKey = parsed('public key', parsePublicKey, filledText);
const prefix = parsed('path', parsePrefix, anyText);
const secretVariable = (file: string) => parsed('`${NAME}`', (text) => parseSecretReference(text, file));
/** @param base - the directory that relative paths start from */
const pathsFrom = (base: string) => (form: string) => parsed(form, (text) => parsePath(text, base));

/** RFC 5424, table 1, by the names of syslog.conf. */
const FACILITIES = {
  ...{ user: 1, daemon: 3, auth: 4, authpriv: 10 },
  ...{ local0: 16, local1: 17, local2: 18, local3: 19, local4: 20, local5: 21, local6: 22, local7: 23 },
} as const;
const facility = v.pipe(
  oneOf(Object.keys(FACILITIES) as (keyof typeof FACILITIES)[]),
  v.transform((name) => FACILITIES[name]),
);

// The keys.

/** `repository` of a client. */
export const REPOSITORY = section({
  store: needed(lineText, { about: 'a name below `stores`' }),
  prefix: optional(prefix, { about: 'its path in the store', unless: "the client's name" }),
});

/** `keys` of a client: one of them. */
export const PUBLIC_KEY = publicKey;
/** `principals` of a client: one of them. */
export const PRINCIPAL = parsed('name', parsePrincipal);
/** `id` of a client. */
export const ID = parsed('name', parseName);
/** `shared` of a client. */
export const SHARED = boolean;

/** An entry of `clients`. @param base - the directory that relative paths start from */
export function clientSchema(base: string) {
  return section({
    keys: needed(
      listOf(publicKey, (key) => key.blob),
      { about: '`ssh-ed25519 AAAA… comment`; a key belongs to one client' },
    ),
    principals: withDefault(listOf(PRINCIPAL), [], {
      about: 'whose certificates of `trustedUserCAKeys` are this client: [certificates.md](certificates.md)',
    }),
    repository: needed(REPOSITORY, { about: 'its one repository' }),
    id: optional(ID, {
      about: 'under which its history is kept, whatever its name becomes: [clients.md](clients.md#rename-a-client)',
      unless: 'its name',
    }),
    role: withDefault(oneOf(ROLES), 'backup', {
      about: '`probe`: it runs `restic-gateway probe`, and no snapshot is expected: [probe.md](probe.md#monitoring)',
    }),
    access: withDefault(oneOf(ACCESS_LEVELS), 'append-only', {
      about: 'what the client may do: [clients.md](clients.md#permissions)',
    }),
    addKeys: withDefault(boolean, 'false', { about: 'may it add repository passwords after `init`?' }),
    ...OWN_LIMITS,
    expires: optional(parsed('date', parseExpiry), { about: 'the last day on which its keys work', unless: 'never' }),
    disabled: withDefault(boolean, 'false', { about: 'refuses the client, and ends its sessions' }),
    shared: withDefault(boolean, 'false', {
      about: 'must be true for each client of a repository, or of nested prefixes, that several share',
    }),
    retention: optional(RETENTION, {
      about: 'which snapshots `forget` keeps, by when they arrived: [retention.md](retention.md)',
      unless: 'as in `defaults`',
    }),
    protect: optional(PROTECT, {
      about: 'how long a snapshot cannot be removed after it arrived, by anyone',
      unless: 'as in its store or `defaults`',
    }),
    trash: optional(TRASH, {
      about: 'how long what is removed can be brought back',
      unless: 'as in its store or `defaults`',
    }),
    removals: optional(REMOVALS, {
      about: 'what becomes of its removals with access `append-only`; `deferred` moves what it removes to the trash',
      unless: 'as in `defaults`',
    }),
    passwordFile: optional(pathsFrom(base)('file, mode 0600'), {
      about: "the repository's password, for `forget` and `prune` by a timer; root's alone where root runs them",
    }),
  });
}

/** What an entry of `stores` says for its clients. */
const OF_ITS_CLIENTS = {
  protect: optional(PROTECT, { about: '`protect` of its clients', unless: 'as in `defaults`' }),
  trash: optional(TRASH, { about: '`trash` of its clients', unless: 'as in `defaults`' }),
};

/** An entry of `stores`. @param base - the directory that relative paths start from */
export function storeSchema(base: string) {
  const path = pathsFrom(base);
  const s3 = v.pipe(
    keysOf({
      type: needed(v.literal('s3'), { about: 'kind of store' }),
      bucket: needed(parsed('name', parseBucket), { about: 'for `s3`' }),
      region: optional(parsed('name', parseRegion), {
        about: 'required on AWS',
        unless: '`us-east-1` with `endpoint`',
      }),
      endpoint: optional(parsed('http(s) URL', parseEndpoint), { about: 'URL of any other S3 server', unless: 'AWS' }),
      forcePathStyle: optional(boolean, {
        about: 'bucket in the path instead of the host name',
        unless: 'true with `endpoint`',
      }),
      caFile: optional(path('file of certificates in PEM'), {
        about: 'the only CAs that may vouch for the endpoint: [s3.md](s3.md#a-ca-of-your-own)',
        unless: "Node's own and the system's",
      }),
      proxy: optional(parsed('http(s) URL or `none`', parseProxy), {
        about: 'the proxy that leads to the endpoint: [s3.md](s3.md#behind-a-proxy)',
        unless: '`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` of the environment',
      }),
      objectLock: optional(
        section({
          mode: needed(oneOf(['compliance', 'governance']), {
            about: 'who may end the retention early: nobody, or whoever has the permission',
          }),
          // A hundred years, the most that AWS takes.
          days: needed(whole(1, 36_500), { about: 'length of the retention' }),
          extend: optional(duration, {
            about:
              '`serve` renews daily what is in use and retained for less than this: [s3.md](s3.md#renew-retention)',
            unless: '`serve` renews nothing',
          }),
        }),
        { about: 'retention of everything but locks: [s3.md](s3.md#object-lock)' },
      ),
      conditionalWrites: optional(oneOf(['required', 'versioned']), {
        about:
          '`versioned` accepts a server that ignores them, in a bucket with versioning: [s3.md](s3.md#storage-that-ignores-conditional-writes)',
        unless: '`required`',
      }),
      accessKeyId: optional(parsed('text', parseAccessKeyId), {
        about: 'without it: instance role, `~/.aws`, environment …',
        unless: "the SDK's default chain",
      }),
      secretAccessKeyFile: optional(path('file, mode 0600'), {
        about: 'the secret that belongs to `accessKeyId`',
        unless: '',
      }),
      secretAccessKey: optional(secretVariable('secretAccessKeyFile'), {
        about: 'the same, from an environment variable; never the secret itself',
        unless: '',
      }),
      ...OF_ITS_CLIENTS,
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown>;
      const has = (key: string): boolean => Object.hasOwn(input, key);
      const wrong = (key: string, message: string): void => {
        addIssue({ message, path: [{ type: 'object', origin: 'key', input, key, value: input[key] }] });
      };
      const { days, extend } = dataset.typed ? (dataset.value.objectLock ?? {}) : {};
      if (extend !== undefined && days !== undefined && extend > days * DAY_MS)
        wrong('objectLock', `extend must not be longer than the ${days} days: everything would be renewed each time`);
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
  const directory = keysOf({
    type: needed(v.literal('directory'), { about: 'kind of store' }),
    path: needed(path('directory'), { about: 'for `directory`: must exist; repositories are directories below it' }),
    ...OF_ITS_CLIENTS,
  });
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

const SSH_LIMITS = section({
  unauthenticated: optional(whole(1, 100_000), {
    about: 'concurrent connections before login, over all workers; at most a quarter of the open files',
    unless: '`2000`',
  }),
  unauthenticatedPerAddress: optional(whole(1, 100_000), {
    about: 'the same for one address (IPv6: one /64)',
    unless: '`1000`',
  }),
  loginSeconds: optional(whole(1, 100_000), { about: 'time to log in', unless: '`30`' }),
  maxDelaySeconds: optional(whole(0, 60), {
    about: 'longest delay of an address that fails again and again',
    unless: '`10`',
  }),
  channels: optional(whole(1, 100_000), { about: 'channels of one connection', unless: '`20`' }),
  idleSeconds: optional(whole(1, 100_000), {
    about: 'how long a connection without a session is kept',
    unless: '`60`',
  }),
  keepaliveSeconds: optional(whole(1, 100_000), {
    about: 'interval of keepalives; after four without an answer, a connection gives way to another one of its client',
    unless: '`15`',
  }),
  lostSeconds: optional(whole(1, 100_000), {
    about: 'a connection that has not been heard of for so long, and for two keepalives at least, is closed',
    unless: '`600`',
  }),
});

function metricsSection(path: ReturnType<typeof pathsFrom>) {
  return v.pipe(
    section({
      listen: needed(
        parsed('HOST:PORT, or a port of 127.0.0.1', (text) => parseListen(text, LOOPBACK)),
        { about: 'address of the HTTP listener', restart: true },
      ),
      tokenFile: optional(path('file, mode 0600'), {
        about: 'token that callers must send; required if `listen` is not loopback',
      }),
      token: optional(secretVariable('tokenFile'), { about: 'the same, from an environment variable' }),
      mostClients: optional(whole(0, 1_000_000), {
        about:
          'with more clients than this, only clients that need a look have metrics of their own: [metrics.md](metrics.md#many-clients)',
        unless: 'all clients have',
      }),
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
  );
}

function databaseSection(path: ReturnType<typeof pathsFrom>) {
  return v.pipe(
    section({
      url: needed(parsed('postgresql://USER@HOST/DATABASE', parseDatabaseUrl), {
        about: 'the database; other machines are asked over TLS alone. `?host=/run/postgresql` for a socket',
      }),
      passwordFile: optional(path('file, mode 0600'), { about: "the role's password" }),
      password: optional(secretVariable('passwordFile'), { about: 'the same, from an environment variable' }),
      caFile: optional(path('file of certificates in PEM'), {
        about: 'the only CAs that may vouch for the server',
        unless: "Node's own",
      }),
      gateway: optional(parsed('name', parseName), {
        about: "this gateway's name, which no other one has",
        unless: "the machine's name",
      }),
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { password, passwordFile } = dataset.value;
      if (password === undefined || passwordFile === undefined) return;
      const input = dataset.value as Record<string, unknown>;
      addIssue({
        message: 'stands beside passwordFile; remove one of the two',
        path: [{ type: 'object', origin: 'key', input, key: 'password', value: password }],
      });
    }),
  );
}

const MEMORY = v.pipe(
  section({
    total: optional(
      parsed('size, from `80MiB`', (text) => parseSizeFrom(text, LEAST_MEMORY, '80MiB', '512MiB')),
      { about: 'buffers of all workers together; each needs 40MiB of it', unless: '`512MiB`' },
    ),
    perClient: optional(
      parsed('size, from `20MiB` to half of the total', (text) =>
        parseSizeFrom(text, LEAST_MEMORY_PER_CLIENT, '20MiB', '128MiB'),
      ),
      {
        about: 'buffers of one client, all of its sessions together',
        unless: 'a quarter of the total',
      },
    ),
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
);

function auditSection(path: ReturnType<typeof pathsFrom>) {
  return section({
    file: withDefault(path('file'), DEFAULT_AUDIT_FILE, { about: 'the audit log' }),
    // Evidence is not removed unasked: all rotated files stay.
    maxSize: withDefault(parsed('size, `none`', parseAuditSize), '100MiB', {
      about: 'size at which it is rotated',
    }),
    keep: withDefault(
      parsed('1 – 100000, `all`', (text) => (text === 'all' ? text : parseWhole(text, 1, 100_000))),
      'all',
      { about: 'how many rotated files are kept' },
    ),
    copy: optional(
      section({
        store: needed(lineText, { about: 'a name below `stores`' }),
        prefix: needed(v.pipe(prefix, v.nonEmpty('must not be empty: the copy needs a place of its own')), {
          about: 'a path that no client uses',
        }),
        // A minute of the audit is the most that an intruder on the gateway host could change unseen.
        every: withDefault(duration, '1min', { about: 'interval at which new lines are copied' }),
      }),
      { about: 'a copy in a bucket that this host cannot change: [audit.md](audit.md#copy-to-s3)' },
    ),
    syslog: optional(
      section({
        address: needed(parsed('udp://, tcp:// or tls://HOST:PORT, or unix:///dev/log', parseSyslogAddress), {
          about: 'the receiver',
        }),
        facility: withDefault(facility, 'authpriv', { about: 'syslog facility' }),
      }),
      { about: 'also sends each line to syslog: [audit.md](audit.md#syslog-and-the-systemd-journal)' },
    ),
  });
}

/** What holds for each client that does not say otherwise, and of removals whose store does not. */
const DEFAULTS = section({
  ...DEFAULT_LIMITS,
  retention: optional(RETENTION, {
    about: 'which snapshots `forget` keeps, by when they arrived: [retention.md](retention.md)',
    unless: '`forget` removes nothing',
  }),
  protect: optional(PROTECT, {
    about: 'how long a snapshot cannot be removed after it arrived, by anyone',
    unless: '`14d` with `retention` or `removals: deferred`, else `none`',
  }),
  trash: optional(TRASH, { about: 'how long what is removed can be brought back', unless: '`14d`' }),
  removals: optional(REMOVALS, { about: '`removals` of clients of access `append-only`', unless: '`refused`' }),
});

/** A file of `clientsDirectory`. Its entries are checked one by one. */
export const CLIENT_FILE = section({
  clients: needed(anySection('a name for each client'), { about: 'clients by name' }),
});

/** The whole file, but for the entries of `stores` and `clients`. @param base - the directory that relative paths start from */
export function rootSchema(base: string) {
  const path = pathsFrom(base);
  const root = section({
    user: optional(parsed('name or number of a user', parseUser), {
      about: "user that root's commands switch to: [below](#root-and-the-user)",
    }),
    listen: withDefault(LISTEN, '2222', {
      about: 'addresses of the SSH server; a port alone is that port of all addresses, IPv4 and IPv6',
      restart: true,
    }),
    hostKeys: withDefault(listOf(path('file')), [], {
      about: 'ed25519 host keys of `serve`, mode 0600: the first is used, the others are announced',
      restart: true,
    }),
    ssh: withDefault(
      section({
        extraCiphers: withDefault(listOf(oneOf(['chacha20-poly1305@openssh.com'])), [], {
          about: 'offered beside AES-GCM',
        }),
        limits: optional(SSH_LIMITS, {
          about: 'limits before login and of connections: [limits.md](limits.md#connections-that-have-not-logged-in)',
        }),
      }),
      {},
      { about: 'the SSH server', restart: true },
    ),
    proxyProtocol: optional(
      section({
        from: needed(listOf(parsed('address or range', parseBalancers)), {
          about: 'balancers, which must begin each connection with a PROXY header (v1 or v2); nobody else may',
        }),
      }),
      { about: "connections with their clients' own addresses: [operate.md](operate.md#behind-a-balancer)" },
    ),
    database: optional(databaseSection(path), {
      about: 'PostgreSQL, by which several gateways are one: [high-availability.md](high-availability.md)',
      restart: true,
    }),
    trustedUserCAKeys: withDefault(
      listOf(parsed('public key', parseAuthorityKey, filledText), (key) => key.blob),
      [],
      {
        about: 'keys of CAs; the certificates they sign log in by their principals: [certificates.md](certificates.md)',
      },
    ),
    revokedCertificates: withDefault(listOf(parsed('`id:…`, `serial:…`, `SHA256:…`', parseRevocation), written), [], {
      about: 'certificates that are refused: [certificates.md](certificates.md#revoke-a-certificate)',
    }),
    // Their entries, and those of `notify`, are checked one by one, so that what is right can be compared with others whatever is wrong elsewhere.
    stores: optional(v.nullable(anySection('a name for each store')), { about: 'stores by name', unless: '' }),
    clients: optional(v.nullable(anySection('a name for each client')), {
      about: 'clients by name (A–Z a–z 0–9 `. _ -`, at most 64 characters)',
      unless: '',
    }),
    clientsDirectory: optional(path('directory'), {
      about: 'more clients, in its files `*.yaml`: [clients.md](clients.md#one-file-for-each-client)',
    }),
    defaults: optional(DEFAULTS, { about: 'for all clients that do not say otherwise', unless: '' }),
    audit: withDefault(auditSection(path), {}, { about: '[audit.md](audit.md)' }),
    notify: optional(v.nullable(anySection('a name for each target')), {
      about: 'whom the gateway tells of problems, by name: [notifications.md](notifications.md)',
      unless: '',
    }),
    metrics: optional(metricsSection(path), {
      about: 'health checks, metrics and status page over HTTP: [monitoring.md](monitoring.md#health-checks)',
    }),
    state: optional(path('directory'), {
      about: 'files that the processes of the machine share; on a local disk',
      unless: '`state` beside the audit log',
    }),
    memory: optional(MEMORY, {
      about: 'buffers between clients and storage: [limits.md](limits.md#memory)',
      unless: '',
    }),
    // Sessions of all clients: with a pack under way in each, what a machine of 16 GiB bears.
    maxSessions: withDefault(whole(1, 100_000), '1000', {
      about: 'concurrent sessions of all clients, over all processes of the machine',
    }),
    workers: withDefault(
      parsed('1 – 256, `auto`', (text) => parseWorkers(text, 256)),
      '1',
      {
        about: 'processes of `serve`; `auto`: one for each core, and at most one for each 40MiB of `memory.total`',
        restart: true,
      },
    ),
    // Half a minute below the 90 s after which systemd and most others kill what they have told to stop.
    drainSeconds: withDefault(whole(0, 86_400), '60', {
      about: 'how long `serve` waits for sessions when it stops',
    }),
  });
  return v.pipe(
    root,
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { workers, memory: limits } = dataset.value;
      const total = limits?.total ?? DEFAULT_MEMORY;
      if (typeof workers !== 'number' || total >= workers * LEAST_MEMORY_OF_WORKER) return;
      const input = dataset.value as Record<string, unknown>;
      addIssue({
        message: `are too many for memory.total (${total / 2 ** 20}MiB): each of them needs 40MiB of it`,
        path: [{ type: 'object', origin: 'value', input, key: 'workers', value: workers }],
      });
    }),
  );
}
