/** What each kind of target gets, by real receivers: HTTP with and without TLS, SMTP with TLS and login, a proxy. */
import { createHmac } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import type { NotifyTarget } from '../../src/config/notify.ts';
import { messageOf, testMessage, type Message } from '../../src/notify/message.ts';
import type { Draft, Item } from '../../src/notify/plan.ts';
import { openSender } from '../../src/notify/send.ts';
import { tempDir } from '../support/lab.ts';
import { receiveHttp, receiveMail } from '../support/notify-receivers.ts';
import { makeCertificate } from '../support/tls-front.ts';

const NOW = Date.parse('2026-03-02T12:00:00Z');
const ITEM: Item = {
  ...{ key: 'late-1/appsrv', state: 'new', event: 'late', rule: 'late', severity: 'warning', client: 'appsrv' },
  ...{ since: NOW - 3_600_000, what: 'No snapshot for 30 h.', advice: 'See whether its backup runs.' },
};
const draft = (...items: Item[]): Draft => ({ kind: 'change', number: 7, at: NOW, severity: 'critical', items });
const message = (...items: Item[]): Message => messageOf(draft(...items), 'admins', 'gw1');
/** What a client may try to put into a message: by the names of its checks, objects, addresses. */
const HOSTILE =
  'x <!channel> <http://evil|click> @all @channel **b** [a](http://evil) ![i](http://evil) &amp;\r\nBcc: all@example.com\u001b[2J\u202e';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A target as a config has it. */
function targetOf(entry: object): NotifyTarget {
  const found = parseConfig(stringify({ notify: { admins: entry } }), '/gateway.yaml').notify['admins'];
  if (found === undefined) throw new Error('there is none');
  return found;
}

async function send(entry: object, one: Message = message(ITEM)): Promise<void> {
  const sender = openSender(targetOf(entry), new AbortController().signal);
  try {
    await sender.send(one);
  } finally {
    sender.close();
  }
}

const whySent = (entry: object, one?: Message): Promise<unknown> =>
  send(entry, one).then(
    () => 'sent',
    (error: unknown) => ({ message: (error as Error).message, refused: (error as { refused?: boolean }).refused }),
  );

function secret(text: string): string {
  const file = path.join(tempDir(), 'secret');
  writeFileSync(file, `${text}\n`);
  chmodSync(file, 0o600);
  return file;
}

async function http(tls?: Parameters<typeof receiveHttp>[1]): ReturnType<typeof receiveHttp> {
  const receiver = await receiveHttp(0, tls);
  closing.push(() => receiver.close());
  return receiver;
}

describe('a webhook', () => {
  test('gets JSON', async () => {
    const { url, received } = await http();
    await send({ webhook: { url: `${url}/hook?x=1` } });
    expect(received).toMatchObject([
      { method: 'POST', path: '/hook?x=1', headers: { 'content-type': 'application/json' } },
    ]);
    expect(JSON.parse(received[0]?.body ?? '')).toEqual({
      ...{ v: 1, kind: 'change', at: '2026-03-02T12:00:00.000Z', gateway: 'gw1', severity: 'critical', more: 0 },
      ...{ id: expect.stringMatching(/^[0-9a-f]{32}$/), title: 'CRITICAL: appsrv: late' },
      items: [{ ...ITEM, since: '2026-03-02T11:00:00.000Z' }],
    });
  });

  test.each(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'a plain text-without spaces'.replaceAll(' ', '-')])(
    'signed with %s',
    async (text) => {
      const { url, received } = await http();
      await send({ webhook: { url, secretFile: secret(text) } });
      const { headers = {}, body = '' } = received[0] ?? {};
      const key = text.startsWith('whsec_') ? Buffer.from(text.slice(6), 'base64') : Buffer.from(text);
      const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
      expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', key).update(signed).digest('base64')}`);
      expect(headers['webhook-id']).toBe((JSON.parse(body) as Message).id);
    },
  );

  test('the same again has the same id, something else another one', () => {
    expect(message(ITEM).id).toBe(message(ITEM).id);
    expect(message({ ...ITEM, since: NOW }).id).not.toBe(message(ITEM).id);
    expect(message({ ...ITEM, state: 'over' }).id).not.toBe(message(ITEM).id);
  });

  test.each<[string, (body: string) => string]>([
    ['slack', (body) => (JSON.parse(body) as { text: string }).text],
    ['mattermost', (body) => (JSON.parse(body) as { text: string }).text],
    [
      'teams',
      (body) => {
        const { type, attachments } = JSON.parse(body) as {
          type: string;
          attachments: { contentType: string; content: { type: string; body: { text: string }[] } }[];
        };
        expect([type, attachments[0]?.contentType]).toEqual(['message', 'application/vnd.microsoft.card.adaptive']);
        return attachments[0]?.content.body.map(({ text }) => text).join('\n') ?? '';
      },
    ],
  ])('of format %s: words, and nothing in them mentions, links or formats', async (format, textOf) => {
    const { url, received } = await http();
    await send({ webhook: { url, format } }, message({ ...ITEM, what: HOSTILE }));
    const text = textOf(received[0]?.body ?? '');
    expect(text).toContain('appsrv');
    if (format === 'slack') expect(text).not.toMatch(/<|>|&(?!amp;|lt;|gt;)/);
    else expect(text).not.toMatch(/(?<!\\)[[\]!<>_]|@(?!\u200b)/);
    for (const steering of ['\r', '\u001b', '\u202e']) expect(text).not.toContain(steering);
  });

  test('a long list is cut, and counted', async () => {
    const { url, received } = await http();
    const many = Array.from({ length: 5000 }, (_, index) => ({ ...ITEM, client: `c${index}`, what: 'x'.repeat(2000) }));
    await send({ webhook: { url, format: 'slack' } }, message(...many));
    await send({ ntfy: { url, topic: 'backups' } }, message(...many));
    const [slack, ntfy] = received.map(
      ({ body }) => JSON.parse(body) as { text: string; message: string; title: string },
    );
    expect(slack?.text.length).toBeLessThan(15_000);
    expect(slack?.text).toMatch(/And 49\d\d more: restic-gateway status/);
    expect(Buffer.byteLength(ntfy?.message ?? '')).toBeLessThanOrEqual(3800);
    expect(ntfy?.title).toBe('restic-gateway gw1: CRITICAL: 5000 new: c0, c1, c2 and 4997 more');
  });
});

describe('an answer that is not 2xx', () => {
  test.each([
    [
      { status: 500, body: 'oops\u001b[2J' },
      { message: expect.stringMatching(/answers 500: oops\ufffd/), refused: false },
    ],
    [{ status: 429 }, { refused: false }],
    [{ status: 404 }, { message: expect.stringMatching(/answers 404$/), refused: true }],
    [
      { status: 302, headers: { location: 'http://127.0.0.1:1/' } },
      { message: expect.stringMatching(/redirect/), refused: true },
    ],
    [{ status: 204 }, 'sent'],
  ])('%j', async (answer, outcome) => {
    const receiver = await http();
    receiver.answer = answer;
    const found = await whySent({ webhook: { urlFile: secret(`${receiver.url}/services/T0/SECRET`) } });
    if (typeof outcome === 'string') expect(found).toBe(outcome);
    else expect(found).toMatchObject(outcome);
    expect(JSON.stringify(found)).not.toContain('SECRET');
    expect(receiver.received).toHaveLength(1);
  });

  test('one without end is not read to its end', async () => {
    const receiver = await http();
    receiver.answer = { status: 500, body: 'x'.repeat(50_000_000) };
    expect(await whySent({ webhook: { url: receiver.url } })).toMatchObject({ refused: false });
  });

  test('nobody there', async () => {
    const receiver = await http();
    await receiver.close();
    expect(await whySent({ webhook: { url: receiver.url } })).toMatchObject({
      message: expect.stringMatching(/cannot be reached: .*ECONNREFUSED/),
    });
  });
});

test('TLS is verified, by the CAs of the config', async () => {
  const certificate = await makeCertificate();
  const { url, received } = await http(certificate);
  expect(await whySent({ webhook: { url } })).toMatchObject({ message: expect.stringMatching(/self-signed/) });
  expect(received).toEqual([]);
  await send({ webhook: { url, caFile: certificate.certificate } });
  expect(received).toHaveLength(1);
});

describe('ntfy', () => {
  test('gets JSON with the topic, and its token', async () => {
    const { url, received } = await http();
    await send({ ntfy: { url: `${url}/`, topicFile: secret('backups-7'), tokenFile: secret('tk_secret') } });
    expect(received).toMatchObject([{ method: 'POST', path: '/', headers: { authorization: 'Bearer tk_secret' } }]);
    expect(JSON.parse(received[0]?.body ?? '')).toEqual({
      ...{
        topic: 'backups-7',
        title: 'restic-gateway gw1: CRITICAL: appsrv: late',
        priority: 5,
        tags: ['rotating_light'],
      },
      message:
        'New, warning: appsrv: late, since 2026-03-02 11:00 UTC\nNo snapshot for 30 h.\nSee whether its backup runs.',
    });
  });
});

describe('e-mail', () => {
  const entry = (port: number, more: object = {}, scheme = 'smtp'): object => ({
    email: {
      to: ['a@example.com', 'b@example.com'],
      from: 'gw@example.com',
      server: `${scheme}://127.0.0.1:${port}`,
      ...more,
    },
  });
  const mail = async (options: Parameters<typeof receiveMail>[0]): ReturnType<typeof receiveMail> => {
    const receiver = await receiveMail(options);
    closing.push(() => receiver.close());
    return receiver;
  };
  const login = { user: 'gateway', password: 'pässword with spaces' };

  test.each([false, true])('with TLS (from the start: %j) and login', async (implicit) => {
    const tls = await makeCertificate();
    const { port, mails } = await mail({ tls, implicit, login });
    const scheme = implicit ? 'smtps' : 'smtp';
    const way = { caFile: tls.certificate, user: 'gateway', passwordFile: secret(login.password) };
    await send(entry(port, way, scheme));
    expect(mails).toMatchObject([
      { from: 'gw@example.com', to: ['a@example.com', 'b@example.com'], user: 'gateway', secure: true },
    ]);
    const { text = '' } = mails[0] ?? {};
    expect(text).toMatch(/^Subject: restic-gateway gw1: CRITICAL: appsrv: late\r$/m);
    expect(text).toMatch(/^Auto-Submitted: auto-generated\r$/m);
    expect(text).toMatch(new RegExp(`^Message-ID: <${message(ITEM).id}@`, 'm'));
    expect(text).toMatch(/^See whether its backup runs\.\r$/m);
    // A wrong password is none to be tried again and again, and stays secret.
    const wrong = { ...way, passwordFile: secret('wrong-password') };
    const found = await whySent(entry(port, wrong, scheme));
    expect(found).toMatchObject({ message: expect.stringMatching(/Invalid login|535/), refused: true });
    expect(JSON.stringify(found)).not.toContain('wrong-password');
  });

  test('not to a server without TLS, unless the config says so; and never a password', async () => {
    const { port, mails } = await mail({});
    expect(await whySent(entry(port))).toMatchObject({ message: expect.stringMatching(/STARTTLS/i) });
    expect(mails).toEqual([]);
    await send(entry(port, { startTls: false }));
    expect(mails).toMatchObject([{ secure: false, user: undefined }]);
    const plain = { startTls: false, user: 'u', passwordFile: '/x' };
    expect(() =>
      targetOf({ email: { to: 'a@example.com', from: 'b@example.com', server: 'smtp://mail', ...plain } }),
    ).toThrow(/would send the password unencrypted/);
  });

  test('not to a server with a certificate of nobody known', async () => {
    const { port, mails } = await mail({ tls: await makeCertificate() });
    expect(await whySent(entry(port))).toMatchObject({ message: expect.stringMatching(/self-signed/) });
    expect(mails).toEqual([]);
  });

  test('no text of a client begins a header or a mail of its own', async () => {
    const { port, mails } = await mail({});
    const hostile = { ...ITEM, rule: HOSTILE, what: `${HOSTILE}\r\n.\r\nMAIL FROM:<x@example.com>` };
    await send(entry(port, { startTls: false }), message(hostile));
    expect(mails).toHaveLength(1);
    const [head = ''] = mails[0]?.text.split('\r\n\r\n') ?? [];
    expect(head).not.toMatch(/^Bcc/m);
    expect(mails[0]?.to).toEqual(['a@example.com', 'b@example.com']);
  });
});

describe('a ping', () => {
  test.each([
    ['/ping/key/{client}?create=1', 'web 1', 'success', '/ping/key/web%201?create=1'],
    ['/ping/key/{client}?create=1', 'appsrv', 'fail', '/ping/key/appsrv/fail?create=1'],
    ['/ping/uuid/', undefined, 'start', '/ping/uuid/start'],
    ['/ping/uuid', undefined, 'success', '/ping/uuid'],
    ['', undefined, 'log', '/log'],
  ] as const)('%s of %s, %s: %s', async (place, client, kind, wanted) => {
    const { url, received } = await http();
    const sender = openSender(targetOf({ ping: { url: `${url}${place}` } }), new AbortController().signal);
    await sender.ping({ kind, body: 'why', ...(client !== undefined && { client }) });
    sender.close();
    expect(received).toMatchObject([{ method: 'POST', path: wanted, body: 'why' }]);
  });
});

test('a secret that is others to read is used by no sender', async () => {
  const { url } = await http();
  const file = secret('token');
  chmodSync(file, 0o644);
  expect(await whySent({ ntfy: { url, topic: 'x', tokenFile: file } })).toMatchObject({
    message: expect.stringMatching(/chmod 600/),
  });
});

test('a test says that it is one', async () => {
  const { url, received } = await http();
  await send({ webhook: { url } }, testMessage('gw1', NOW, 'id'));
  expect(JSON.parse(received[0]?.body ?? '')).toMatchObject({ kind: 'test', severity: 'ok', items: [] });
});
