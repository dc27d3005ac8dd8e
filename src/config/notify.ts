/** The keys of `notify`: whom the gateway tells that something is wrong, of what, and when. */
import { isIPv6 } from 'node:net';
import * as v from 'valibot';
import { invalid } from './problems.ts';
import { isLoopback, parseBoolean, parseDuration, parseDurationOrNone, parsePath, parseProxy } from './values.ts';
import {
  anySection,
  keysOf,
  listOf,
  needed,
  oneOf,
  oneOrList,
  optional,
  parsed,
  section,
  withDefault,
} from './words.ts';

/** What a target can be told of. */
export const NOTIFY_EVENTS = ['late', 'anomaly', 'scrub', 'retention', 'quota', 'copy', 'gateway'] as const;
export type NotifyEvent = (typeof NOTIFY_EVENTS)[number];

/** How bad something is; a target of `critical` hears of that alone. */
export type NotifySeverity = 'warning' | 'critical';

const FORMATS = ['json', 'slack', 'mattermost', 'teams'] as const;

/** The days of the week as `Date` counts them. */
const DAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'] as const;

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Below this, reminders would be noise, and pings would keep a receiver busy. */
const LEAST_REMINDER_MS = 60 * MINUTE_MS;
/** Unless the config says otherwise; the last of them is that of all further ones. */
const REMINDERS = [DAY_MS, 3 * DAY_MS, 7 * DAY_MS] as const;
const PING_EVERY_MS = 5 * 60_000;

/** Where a client's name goes in the URL of a ping. */
export const CLIENT_PLACE = '{client}';

/** A text that may be a secret: as it stands in the config, or the absolute path of the file that holds it. */
export type TextSource = { readonly text: string } | SecretFile;

/** A secret by the absolute path of its file. */
interface SecretFile {
  readonly file: string;
}

/** How HTTP gets there. */
interface HttpWay {
  /** Absolute path of the only CAs that may vouch for the server. */
  readonly caFile?: string;
  /** A URL, or `none`. Undefined: by the environment. */
  readonly proxy?: string;
}

export interface WebhookChannel extends HttpWay {
  readonly type: 'webhook';
  readonly url: TextSource;
  readonly format: (typeof FORMATS)[number];
  /** What messages are signed with. */
  readonly secret?: SecretFile;
}

export interface EmailChannel {
  readonly type: 'email';
  readonly to: readonly string[];
  readonly from: string;
  readonly server: { readonly host: string; readonly port: number; readonly tls: 'implicit' | 'starttls' | 'none' };
  readonly login?: { readonly user: string; readonly password: SecretFile };
  readonly caFile?: string;
}

interface NtfyChannel extends HttpWay {
  readonly type: 'ntfy';
  readonly url: string;
  readonly topic: TextSource;
  readonly token?: SecretFile;
}

interface PingChannel extends HttpWay {
  readonly type: 'ping';
  readonly url: TextSource;
  /** At which interval the gateway's own check is pinged, in ms. */
  readonly every: number;
}

/** How a target is reached. */
type NotifyChannel = WebhookChannel | EmailChannel | NtfyChannel | PingChannel;

/** An entry of `notify`. */
export interface NotifyTarget {
  readonly name: string;
  readonly channel: NotifyChannel;
  readonly events: readonly NotifyEvent[];
  readonly severity: NotifySeverity;
  /** Names, or patterns with `*`; undefined: all. */
  readonly clients?: readonly string[];
  /** In minutes since midnight; `to` may be before `from`. */
  readonly quietHours?: { readonly from: number; readonly to: number };
  /** An IANA name; undefined: that of the machine. */
  readonly timeZone?: string;
  /** Distances in ms, the last of which is that of all further ones; empty: none. */
  readonly reminders: readonly number[];
  /** Day of the week, from 0 for Sunday; undefined: no digest. */
  readonly digest?: number;
}

/** A URL that messages are sent to: no credentials and no fragment in it. */
export function parseTargetUrl(text: string): string {
  const url = /^https?:\/\//i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^[\x21-\x7e]+$/.test(text))
    throw invalid('must be a URL that begins with https:// or http://, such as https://hooks.example.com/backups');
  if (url.username !== '' || url.password !== '')
    throw invalid('must hold no user and no password; a URL that is a secret goes into a file of its own: urlFile');
  if (url.hash !== '') throw invalid('must not have a part after "#", which is not sent');
  return text;
}

/** The same, without a query, and without a slash at its end. */
function parseBaseUrl(text: string): string {
  const url = parseTargetUrl(text);
  if (url.includes('?')) throw invalid('must not have a query');
  return url.replace(/\/+$/, '');
}

/** As ntfy takes them. */
export function parseTopic(text: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(text)) throw invalid('a topic is 1 to 64 letters, digits, "_" or "-"');
  return text;
}

const ADDRESS =
  /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$/;

/** An address without a name beside it. */
function parseMailAddress(text: string): string {
  if (!ADDRESS.test(text)) throw invalid('must be an e-mail address alone, such as backups@example.com');
  return text;
}

const SERVER = /^(smtps?):\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::([1-9]\d{0,4}))?\/?$/;
const PORTS = { smtp: 587, smtps: 465 } as const;

/** `smtp://HOST`, which goes over to TLS (STARTTLS), or `smtps://HOST`, which begins with it. */
function parseMailServer(text: string): {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
} {
  const [, scheme, host = '', port] = SERVER.exec(text) ?? [];
  const bare = host.replace(/^\[|\]$/g, '');
  if ((scheme !== 'smtp' && scheme !== 'smtps') || Number(port ?? 0) > 65_535 || (host !== bare && !isIPv6(bare)))
    throw invalid('must be smtp://HOST, smtp://HOST:PORT, smtps://HOST or smtps://HOST:PORT');
  return { host: bare, port: port === undefined ? PORTS[scheme] : Number(port), secure: scheme === 'smtps' };
}

/** `22:00-07:00`. */
function parseHours(text: string): { readonly from: number; readonly to: number } {
  const [, ...parts] = /^([01]\d|2[0-3]):([0-5]\d) ?[-–] ?([01]\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  const [fromHour, fromMinute, toHour, toMinute] = parts.map(Number);
  if (fromHour === undefined || fromMinute === undefined || toHour === undefined || toMinute === undefined)
    throw invalid('must be two times of day, such as 22:00-07:00');
  const hours = { from: fromHour * 60 + fromMinute, to: toHour * 60 + toMinute };
  if (hours.from === hours.to) throw invalid('must end at another time than they begin');
  return hours;
}

/** A time zone by its IANA name. */
function parseTimeZone(text: string): string {
  try {
    if (!/^[A-Za-z0-9_+/-]{1,64}$/.test(text)) throw new RangeError();
    return new Intl.DateTimeFormat('en', { timeZone: text }).resolvedOptions().timeZone;
  } catch {
    throw invalid('must be a time zone such as Europe/Berlin or UTC');
  }
}

/** A client's name, or a pattern of names with `*`. */
function parsePattern(text: string): string {
  if (!/^[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}$/.test(text))
    throw invalid('must be the name of a client, or a pattern of names such as web-*');
  return text;
}

function parseReminder(text: string): number | 'none' {
  const ms = parseDurationOrNone(text);
  if (ms !== 'none' && ms < LEAST_REMINDER_MS) throw invalid('must be an hour or more');
  return ms;
}

function parsePingInterval(text: string): number {
  const ms = parseDuration(text);
  if (ms < MINUTE_MS || ms > DAY_MS) throw invalid('must be from 1min to 1d');
  return ms;
}

/** The text is one of the two, and not both. */
function eitherOf<T>(one: string, other: string) {
  return v.rawCheck<T>(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const input = dataset.value as Record<string, unknown>;
    const [first, second] = [one, other].map((key) => Object.hasOwn(input, key));
    if (first !== second) return;
    const key = first === true ? other : one;
    addIssue({
      message: first === true ? `stands beside ${one}; remove one of the two` : `is missing; write ${one} or ${other}`,
      path: [{ type: 'object', origin: 'key', input, key, value: input[key] }],
    });
  });
}

const KINDS = ['webhook', 'email', 'ntfy', 'ping'] as const;

/** The kinds of targets. @param base - the directory that relative paths start from */
function channelSchemas(base: string) {
  const path = (form: string) => parsed(form, (text) => parsePath(text, base));
  const secretFile = path('file, mode 0600');
  const url = parsed('http(s) URL', parseTargetUrl);
  const way = {
    caFile: optional(path('file of certificates in PEM'), {
      about: 'the only CAs that may vouch for the server',
      unless: "Node's own and the system's",
    }),
    proxy: optional(parsed('http(s) URL or `none`', parseProxy), {
      about: 'the proxy that leads there',
      unless: '`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` of the environment',
    }),
  };
  const urlOrFile = (about: string) => ({
    url: optional(url, { about, unless: '' }),
    urlFile: optional(secretFile, { about: 'a file that holds the URL, where the URL is a secret', unless: '' }),
  });
  const webhook = v.pipe(
    section({
      ...urlOrFile('where each message is sent by POST'),
      format: withDefault(oneOf(FORMATS), 'json', {
        about: 'the form of the messages: [notifications.md](notifications.md#webhook)',
      }),
      secretFile: optional(secretFile, {
        about:
          'what messages of format `json` are signed with: [notifications.md](notifications.md#verify-the-signature)',
        unless: 'no signature',
      }),
      ...way,
    }),
    eitherOf('url', 'urlFile'),
  );
  const email = v.pipe(
    section({
      to: needed(
        oneOrList(parsed('address', parseMailAddress), (address) => address, 'e-mail address, or a list of them'),
        { about: 'whom mail goes to' },
      ),
      from: needed(parsed('e-mail address', parseMailAddress), { about: 'whom it comes from' }),
      server: needed(parsed('smtp://HOST[:PORT], smtps://HOST[:PORT]', parseMailServer), {
        about: 'the mail server: `smtp` goes over to TLS by STARTTLS (port 587), `smtps` begins with TLS (port 465)',
      }),
      startTls: withDefault(parsed('`true`, `false`', parseBoolean), 'true', {
        about: '`false` sends to a server of `smtp` without TLS',
      }),
      user: optional(parsed('text', parseMailUser), { about: 'user to log in as', unless: 'no login' }),
      passwordFile: optional(secretFile, { about: 'the password of `user`', unless: '' }),
      caFile: way.caFile,
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { user, passwordFile, server, startTls } = dataset.value;
      const input = dataset.value as Record<string, unknown>;
      const wrong = (key: string, message: string): void => {
        addIssue({ message, path: [{ type: 'object', origin: 'key', input, key, value: input[key] }] });
      };
      if (user !== undefined && passwordFile === undefined) wrong('user', 'needs passwordFile beside it');
      if (user === undefined && passwordFile !== undefined) wrong('passwordFile', 'needs user beside it');
      if (passwordFile !== undefined && !server.secure && !startTls && !isLoopback(server.host))
        wrong('startTls', 'would send the password unencrypted; remove startTls or the login');
    }),
  );
  const ntfy = v.pipe(
    section({
      url: needed(parsed('http(s) URL', parseBaseUrl), { about: 'the ntfy server' }),
      topic: optional(parsed('name', parseTopic), { about: 'the topic', unless: '' }),
      topicFile: optional(secretFile, { about: 'a file that holds the topic, where it is a secret', unless: '' }),
      tokenFile: optional(secretFile, { about: 'the access token', unless: 'no login' }),
      ...way,
    }),
    eitherOf('topic', 'topicFile'),
  );
  const ping = v.pipe(
    section({
      ...urlOrFile('what is pinged; `{client}` in it stands for the name of each client'),
      every: withDefault(parsed('time, from `1min` to `1d`', parsePingInterval), '5min', {
        about: "interval at which the gateway's own check is pinged",
      }),
      ...way,
    }),
    eitherOf('url', 'urlFile'),
  );
  return { webhook, email, ntfy, ping };
}

/** An entry of `notify`. @param base - the directory that relative paths start from */
export function targetSchema(base: string) {
  const { webhook, email, ntfy, ping } = channelSchemas(base);
  return v.pipe(
    anySection('webhook, email, ntfy or ping'),
    keysOf({
      webhook: optional(webhook, { about: 'a message by HTTP: JSON, or as a chat takes it', unless: '' }),
      email: optional(email, { about: 'a message by e-mail', unless: '' }),
      ntfy: optional(ntfy, { about: 'a message to phones and browsers by an ntfy server', unless: '' }),
      ping: optional(ping, {
        about:
          "a dead man's switch, by the protocol of healthchecks.io: [notifications.md](notifications.md#dead-mans-switch)",
        unless: '',
      }),
      events: optional(listOf(oneOf(NOTIFY_EVENTS)), {
        about: 'what it is told of: [notifications.md](notifications.md#what-is-told)',
        unless: 'all of them; with `clients`, all that are about clients',
      }),
      severity: withDefault(oneOf(['warning', 'critical']), 'warning', {
        about: 'the least severity that it is told of',
      }),
      clients: optional(listOf(parsed('name, or a pattern such as `web-*`', parsePattern)), {
        about: 'of which clients',
        unless: 'all',
      }),
      quietHours: optional(parsed('two times of day: `22:00-07:00`', parseHours), {
        about: 'when only what is critical is told at once, and all else afterwards',
        unless: 'none',
      }),
      timeZone: optional(parsed('IANA name', parseTimeZone), {
        about: 'time zone of `quietHours` and `digest`',
        unless: "the machine's",
      }),
      reminders: optional(
        oneOrList(parsed('time, `none`', parseReminder), (ms) => ms, 'time, a list of times, or `none`'),
        {
          about: 'after how long it is told again of what goes on',
          unless: '`[1d, 3d, 7d]`, and each 7 days after that',
        },
      ),
      digest: withDefault(oneOf([...DAYS, 'none']), 'monday', {
        about: 'the day of the week on which it gets a summary, at 8 in the morning; not of `ping`',
      }),
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown>;
      const wrong = (key: string, message: string): void => {
        addIssue({ message, path: [{ type: 'object', origin: 'key', input, key, value: input[key] }] });
      };
      const [first, second] = KINDS.filter((kind) => Object.hasOwn(input, kind));
      if (first === undefined) addIssue({ message: 'must have one of webhook, email, ntfy and ping' });
      else if (second !== undefined)
        wrong(second, `stands beside ${first}; a target is one of them, so make another target of the other`);
      if (!dataset.typed) return;
      const { reminders = [], events, clients, ping: pinged } = dataset.value;
      if (reminders.length > 1 && reminders.includes('none')) wrong('reminders', 'must be none alone, or times alone');
      if (events?.length === 0) wrong('events', 'is empty; remove the line for all events');
      if (clients?.length === 0) wrong('clients', 'is empty; remove the line for all clients');
      const alone = clients?.length === 1 && clients[0]?.includes('*') === false;
      if (pinged?.url !== undefined && clients !== undefined && !alone && !pinged.url.includes(CLIENT_PLACE))
        wrong('clients', 'may be one client by name where the URL of ping has no {client}: the URL is one check');
    }),
  );
}

/** The name to log in with: anything printable. */
function parseMailUser(text: string): string {
  if (text.length > 256) throw invalid('is too long for a user');
  return text;
}

type TargetEntry = v.InferOutput<ReturnType<typeof targetSchema>>;

/** An entry as the rest of the gateway has it. */
export function targetOf(name: string, entry: TargetEntry): NotifyTarget {
  const { events, severity, clients, quietHours, timeZone, reminders = [...REMINDERS], digest } = entry;
  const channel = channelOf(entry);
  const all = NOTIFY_EVENTS.filter((event) => clients === undefined || (event !== 'copy' && event !== 'gateway'));
  const day = DAYS.findIndex((one) => one === digest);
  return {
    ...{ name, channel, severity },
    events: events ?? all,
    ...(clients !== undefined && { clients }),
    ...(quietHours !== undefined && { quietHours }),
    ...(timeZone !== undefined && { timeZone }),
    reminders: reminders.filter((ms) => ms !== 'none'),
    ...(day >= 0 && channel.type !== 'ping' && { digest: day }),
  };
}

function channelOf({ webhook, email, ntfy, ping }: TargetEntry): NotifyChannel {
  if (webhook !== undefined) {
    const { url, urlFile, format, secretFile, ...way } = webhook;
    const secret = secretFile === undefined ? {} : { secret: { file: secretFile } };
    return { type: 'webhook', url: sourceOf(url, urlFile), format, ...secret, ...way };
  }
  if (email !== undefined) {
    const { to, from, server, startTls, user, passwordFile, caFile } = email;
    const { secure, ...place } = server;
    return {
      ...{ type: 'email', to, from },
      server: { ...place, tls: secure ? 'implicit' : startTls ? 'starttls' : 'none' },
      ...(user !== undefined && passwordFile !== undefined && { login: { user, password: { file: passwordFile } } }),
      ...(caFile !== undefined && { caFile }),
    };
  }
  if (ntfy !== undefined) {
    const { url, topic, topicFile, tokenFile, ...way } = ntfy;
    const token = tokenFile === undefined ? {} : { token: { file: tokenFile } };
    return { type: 'ntfy', url, topic: sourceOf(topic, topicFile), ...token, ...way };
  }
  const { url, urlFile, every = PING_EVERY_MS, ...way } = ping ?? {};
  return { type: 'ping', url: sourceOf(url, urlFile), every, ...way };
}

function sourceOf(text: string | undefined, file: string | undefined): TextSource {
  return file === undefined ? { text: text ?? '' } : { file };
}
