/** Sends a message to a target, in the form that it takes. */
import { createHmac } from 'node:crypto';
import { parseTargetUrl, parseTopic, type NotifyTarget, type WebhookChannel } from '../config/notify.ts';
import { readSecret, readText } from '../config/secrets.ts';
import { messageOf as whatWentWrong } from '../core/errors.ts';
import { openPoster, SendError, type Poster } from './http.ts';
import { MARKDOWN, PLAIN, SLACK, wordsOf, type Markup, type Message } from './message.ts';
import { pingUrl, type PingKind } from './pings.ts';

/** A target that can be sent to. */
export interface Sender {
  /** @throws SendError */
  send(message: Message): Promise<void>;
  /** Of a `ping`. @throws SendError */
  ping(ping: { readonly kind: PingKind; readonly client?: string; readonly body: string }): Promise<void>;
  /** The URL of a `ping` as its file has it now. @throws SendError */
  pingUrl(): string;
  close(): void;
}

/** ntfy makes an attachment of what is longer than 4,096 bytes. */
const MOST_NTFY_BYTES = 3800;
/** Below what chats take of one message. */
const MOST_CHAT_BYTES = 12_000;

/** @param signal - ends what is under way */
export function openSender({ channel }: NotifyTarget, signal: AbortSignal): Sender {
  let opened: Poster | undefined;
  const poster = (): Poster => (opened ??= openPoster(channel.type === 'email' ? {} : channel, signal));
  const post = (url: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<void> =>
    poster().post(url, { 'content-type': 'application/json', ...headers }, JSON.stringify(body));
  const urlNow = (): string =>
    orSendError(() => (channel.type === 'ping' ? readText(channel.url, 'URL', parseTargetUrl) : ''));
  return {
    send: async (message) => {
      switch (channel.type) {
        case 'webhook': {
          const url = orSendError(() => readText(channel.url, 'URL', parseTargetUrl));
          const body = JSON.stringify(webhookBody(channel.format, message));
          const headers = {
            'content-type': 'application/json',
            ...orSendError(() => signature(channel, message, body)),
          };
          await poster().post(url, headers, body);
          return;
        }
        case 'email': {
          const { sendMail } = await import('./mail.ts');
          await sendMail(channel, message).catch(toSendError);
          return;
        }
        case 'ntfy': {
          const topic = orSendError(() => readText(channel.topic, 'topic', parseTopic));
          const { token } = channel;
          const secret = token === undefined ? '' : orSendError(() => readSecret(token, process.env, 'token'));
          await post(
            `${channel.url}/`,
            ntfyBody(topic, message),
            secret === '' ? {} : { authorization: `Bearer ${secret}` },
          );
          return;
        }
        case 'ping':
          throw new SendError('a ping takes no messages', true);
      }
    },
    ping: async ({ kind, client, body }) => {
      await poster().post(pingUrl(urlNow(), client, kind), { 'content-type': 'text/plain; charset=utf-8' }, body);
    },
    pingUrl: urlNow,
    close: () => {
      opened?.close();
    },
  };
}

function webhookBody(format: WebhookChannel['format'], message: Message): unknown {
  const text = (markup: Markup): string =>
    `${markup.bold(markup.escape(headline(message)))}\n\n${wordsOf(message, markup, MOST_CHAT_BYTES)}`;
  switch (format) {
    case 'json':
      return jsonOf(message);
    case 'slack':
      return { text: text(SLACK), unfurl_links: false, unfurl_media: false };
    case 'mattermost':
      return { text: text(MARKDOWN) };
    case 'teams':
      return teamsBody(message);
  }
}

/** The body of a message of format `json`: docs/notifications.md has its fields. */
function jsonOf({ at, items, census, ...rest }: Message): unknown {
  return {
    v: 1,
    ...rest,
    at: new Date(at).toISOString(),
    ...(census !== undefined && { clients: census }),
    items: items.map(({ since, ...item }) => ({ ...item, since: new Date(since).toISOString() })),
  };
}

/** Source: https://learn.microsoft.com/power-automate/teams/send-a-message-in-teams, and the schema of Adaptive Cards 1.4 */
function teamsBody(message: Message): unknown {
  const block = (text: string, more: object = {}): object => ({ type: 'TextBlock', wrap: true, text, ...more });
  const words = wordsOf(message, MARKDOWN, MOST_CHAT_BYTES).split('\n\n');
  const body = [
    block(MARKDOWN.escape(headline(message)), { weight: 'Bolder', size: 'Medium' }),
    // A single line break is none in Markdown.
    ...words.map((text) => block(text.replaceAll('\n', '\n\n'))),
  ];
  const content = {
    $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
    type: 'AdaptiveCard',
    version: '1.4',
    body,
  };
  return {
    type: 'message',
    attachments: [{ contentType: 'application/vnd.microsoft.card.adaptive', contentUrl: null, content }],
  };
}

/** Source: https://docs.ntfy.sh/publish/#publish-as-json */
function ntfyBody(topic: string, message: Message): unknown {
  const { priority, tag } = {
    critical: { priority: 5, tag: 'rotating_light' },
    warning: { priority: 3, tag: 'warning' },
    ok: { priority: 2, tag: 'white_check_mark' },
  }[message.severity];
  return {
    ...{ topic, title: headline(message), message: wordsOf(message, PLAIN, MOST_NTFY_BYTES) || message.title },
    ...{ priority, tags: [tag] },
  };
}

function headline({ gateway, title }: Message): string {
  return `restic-gateway ${gateway}: ${title}`;
}

/** Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
function signature(
  { secret, format }: WebhookChannel,
  { id }: Message,
  body: string,
): Readonly<Record<string, string>> {
  if (secret === undefined || format !== 'json') return {};
  const text = readSecret(secret, process.env, 'secret');
  const key = text.startsWith('whsec_') ? Buffer.from(text.slice('whsec_'.length), 'base64') : Buffer.from(text);
  const timestamp = `${Math.floor(Date.now() / 1000)}`;
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` };
}

/** A secret that cannot be read is put right by the admin, and read again the next time. */
function orSendError<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    return toSendError(error);
  }
}

function toSendError(error: unknown): never {
  throw error instanceof SendError ? error : new SendError(whatWentWrong(error), false, error);
}
