/** The web listener on a real port: who is let in, what is answered, and what it does with requests that nobody's browser sends. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { WebRoute } from '../../src/ports/web.ts';
import { openWebListener, type WebListener } from '../../src/web/listener.ts';

const TOKEN = 'f3a9c1d2-correct-horse';

const errors: string[] = [];
const log = {
  info: () => undefined,
  warn: () => undefined,
  error: (_fields: unknown, message: string) => {
    errors.push(message);
  },
};
/** An answer that is given again as the same object. */
const LONG = { status: 200, headers: {}, body: 'what the clients did. '.repeat(20_000) };
const ROUTES: readonly WebRoute[] = [
  { path: /^\/healthz$/, open: true, answer: () => ({ status: 200, headers: {}, body: 'ok\n' }) },
  {
    path: /^\/$/,
    open: false,
    answer: ({ query }) => ({
      status: 200,
      headers: { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': "default-src 'self'" },
      body: `<p>${query.get('a') ?? 'é'}`,
    }),
  },
  {
    path: /^\/clients\/([^/]+)$/,
    open: false,
    answer: ({ parts }) => ({ status: 200, headers: {}, body: parts[0] ?? '' }),
  },
  { path: /^\/long$/, open: false, answer: () => LONG },
  { path: /^\/unsayable$/, open: false, answer: () => ({ status: 200, headers: { 'x-name': 'a\nb' }, body: '' }) },
  { path: /^\/endless$/, open: false, answer: () => new Promise<never>(() => undefined) },
  {
    path: /^\/broken$/,
    open: false,
    answer: () => {
      throw new Error('the secret is hush-hush');
    },
  },
];

let listener: WebListener | undefined;
afterEach(async () => {
  await listener?.close();
  listener = undefined;
  errors.length = 0;
});

async function listen(token?: string, host = '127.0.0.1'): Promise<WebListener> {
  listener = await openWebListener({ listen: { host, port: 0 }, token, routes: ROUTES, log });
  return listener;
}

/** Sends bytes as they are, and resolves to all that comes back until the other end is closed. */
function exchange(port: number, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      resolve(answer);
    });
    socket.write(bytes, 'latin1');
  });
}

/** One request in a connection that ends with it. */
async function ask(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ status: number; headers: Record<string, string>; body: string }> {
  const port = listener?.address.port ?? 0;
  const lines = Object.entries({ host: `127.0.0.1:${port}`, connection: 'close', ...headers });
  const answer = await exchange(
    port,
    `${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  const [head = '', body = ''] = answer.split('\r\n\r\n', 2);
  const [first = '', ...rest] = head.split('\r\n');
  return {
    status: Number(first.split(' ')[1]),
    headers: Object.fromEntries(
      rest.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
    ),
    body: Buffer.from(body, 'latin1').toString(),
  };
}

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

describe('an answer', () => {
  test('is kept, framed, sniffed and followed by nobody, unless its route says so', async () => {
    await listen();
    const strict = {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    };
    expect((await ask('GET', '/healthz')).headers).toMatchObject({
      ...strict,
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
      'content-type': 'text/plain; charset=utf-8',
      'content-length': '3',
    });
    const page = await ask('GET', '/?a=1');
    expect(page.headers).toMatchObject({ ...strict, 'content-security-policy': "default-src 'self'" });
    expect(page.body).toBe('<p>1');
    for (const path of ['/nowhere', '/broken'])
      expect((await ask('GET', path)).headers).toMatchObject({
        ...strict,
        'content-type': 'text/plain; charset=utf-8',
      });
  });

  test('to HEAD is that of GET without its body', async () => {
    await listen();
    const [get, head] = [await ask('GET', '/'), await ask('HEAD', '/')];
    expect([get.body, head.body]).toEqual(['<p>é', '']);
    expect(head.headers['content-length']).toBe('5');
  });

  test.each([
    ['GET', '/clients/a%2Fb', 200, 'a/b'],
    ['GET', '/clients/%ff', 404, 'there is no such page\n'],
    ['GET', '/clients/a/b', 404, 'there is no such page\n'],
    ['GET', '/../etc/passwd', 404, 'there is no such page\n'],
    ['GET', '//healthz', 404, 'there is no such page\n'],
    ['GET', '/healthz/', 404, 'there is no such page\n'],
    ['GET', 'http://127.0.0.1/healthz', 400, 'the path is not valid\n'],
    ['OPTIONS', '*', 400, 'the path is not valid\n'],
    ['POST', '/healthz', 405, 'this only serves reading\n'],
    ['DELETE', '/clients/a', 405, 'this only serves reading\n'],
    ['TRACE', '/', 405, 'this only serves reading\n'],
    ['CONNECT', '127.0.0.1:22', 405, ''],
  ])('to %s %s', async (method, path, status, body) => {
    await listen();
    const answer = await ask(method, path);
    expect({ status: answer.status, body: answer.body }).toEqual({ status, body });
    if (status === 405) expect(answer.headers['allow']).toBe('GET, HEAD');
  });

  test('says nothing of what went wrong, which the log does', async () => {
    await listen();
    const answer = await ask('GET', '/broken');
    expect([answer.status, answer.body]).toEqual([500, 'the gateway failed; its log says why\n']);
    expect(errors).toEqual(['a request to the metrics or the status page failed']);
  });
});

describe('what goes wrong with one connection costs no other', () => {
  const expectServed = async (): Promise<void> => {
    expect((await ask('GET', '/healthz')).status).toBe(200);
  };

  test('an answer that HTTP cannot say', async () => {
    await listen();
    expect(await exchange(listener?.address.port ?? 0, 'GET /unsayable HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')).toBe('');
    expect(errors).toEqual(['a request to the metrics or the status page could not be answered']);
    await expectServed();
  });

  test.each(['CONNECT x:1', 'GET /', 'GET /endless', 'POST /'])('a client that resets it in %s', async (request) => {
    await listen();
    for (let times = 0; times < 20; times++) {
      const socket = connect(listener?.address.port ?? 0, '127.0.0.1');
      socket.on('error', () => undefined);
      const lines = `${request} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n`;
      await new Promise((resolve) => socket.write(lines, resolve));
      socket.resetAndDestroy();
      await expectServed();
    }
  });

  test('a client that asks for a tunnel, and stays', async () => {
    await listen();
    const socket = connect({ port: listener?.address.port ?? 0, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => undefined).resume();
    socket.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'end');
    // Nobody is there any more to take what it sends.
    await new Promise<void>((resolve) => {
      socket.once('close', () => {
        clearInterval(timer);
        resolve();
      });
      const timer = setInterval(() => socket.write('x'), 10);
    });
  });
});

describe('without a token', () => {
  test.each(['127.0.0.1', 'localhost:9150', 'LOCALHOST', '[::1]:9150', '192.0.2.7:80'])(
    '%s is let in',
    async (host) => {
      await listen();
      expect((await ask('GET', '/', { host })).status).toBe(200);
    },
  );

  test.each([
    'attacker.example',
    'attacker.example:9150',
    '127.0.0.1.attacker.example',
    'localhost.attacker.example',
    '',
  ])('a page that calls it %j by its own name is not', async (host) => {
    await listen();
    for (const path of ['/', '/healthz']) expect((await ask('GET', path, { host })).status).toBe(421);
  });

  test('nor who names nothing, as HTTP/1.0 may', async () => {
    const { address } = await listen();
    expect(await exchange(address.port, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 421 /);
  });
});

describe('with a token', () => {
  test.each([
    ['Bearer', `Bearer ${TOKEN}`],
    ['bearer, as some write it', `bearer  ${TOKEN}`],
    ['Basic, whoever it is', basic(`admin:${TOKEN}`)],
    ['Basic of nobody', basic(`:${TOKEN}`)],
  ])('%s opens it under any name', async (_what, authorization) => {
    await listen(TOKEN);
    expect((await ask('GET', '/', { authorization, host: 'gateway.example.com' })).status).toBe(200);
  });

  test.each([
    ['nothing', undefined],
    ['an empty one', 'Bearer '],
    ['another one', `Bearer ${TOKEN.slice(0, -1)}x`],
    ['the beginning of it', `Bearer ${TOKEN.slice(0, -1)}`],
    ['more than it', `Bearer ${TOKEN}x`],
    ['it as the user', basic(`${TOKEN}:`)],
    ['it without a colon', basic(TOKEN)],
    ['another scheme', `Digest ${TOKEN}`],
    ['two', `Bearer x, Bearer ${TOKEN}`],
  ])('%s does not', async (_what, authorization) => {
    await listen(TOKEN);
    for (const path of ['/', '/clients/a', '/nowhere']) {
      const answer = await ask('GET', path, authorization === undefined ? {} : { authorization });
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toBe('Basic realm="restic-gateway", charset="UTF-8"');
      expect(answer.body).not.toContain(TOKEN);
    }
  });

  test('what is open stays open', async () => {
    await listen(TOKEN);
    expect((await ask('GET', '/healthz', { host: 'gateway.example.com' })).status).toBe(200);
  });

  test('another one counts from the next request on', async () => {
    const opened = await listen(TOKEN);
    opened.setToken('another-token-of-now');
    const status = async (token: string) => (await ask('GET', '/', { authorization: `Bearer ${token}` })).status;
    expect([await status(TOKEN), await status('another-token-of-now')]).toEqual([401, 200]);
  });
});

describe('hostile input', () => {
  const alive = async (): Promise<void> => {
    expect((await ask('GET', '/healthz')).status).toBe(200);
    expect(errors).toEqual([]);
  };

  test.each([
    ['what is not HTTP', 'SSH-2.0-OpenSSH_10.0\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['a TLS greeting', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', /^HTTP\/1\.1 400 /],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /^HTTP\/1\.1 (400|505) /],
    ['a long header', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ['a long path', `GET /${'x'.repeat(17_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ['a header with a bare line feed', 'GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n', /^HTTP\/1\.1 400 /],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
      /^HTTP\/1\.1 400 /,
    ],
    [
      'a length and chunks',
      'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      /^HTTP\/1\.1 400 /,
    ],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 /],
  ])('%s', async (_what, bytes, expected) => {
    const { address } = await listen();
    expect(await exchange(address.port, bytes)).toMatch(expected);
    await alive();
  });

  test('a body is not taken for another request', async () => {
    const { address } = await listen();
    const inner = 'GET /clients/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const answer = await exchange(
      address.port,
      `GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
    );
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200']);
    // Nor is it waited for, as it may have no end.
    expect(answer).toMatch(/^connection: close\r$/im);
    await alive();
  });

  test.each([
    ['say nothing', ''],
    ['begin a request and do not end it', 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: '],
    ['stay after an answer', 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'],
    ['ask for an answer that does not end', 'GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'],
  ])('150 connections from three addresses that %s do not keep a scraper out', async (_what, bytes) => {
    const { address } = await listen();
    const open = new Set<Socket>();
    let cut = 0;
    const come = (from: string): void => {
      const socket = connect({ port: address.port, host: '127.0.0.1', localAddress: from });
      open.add(socket);
      socket.on('error', () => undefined);
      socket.resume();
      if (bytes !== '') socket.write(bytes);
      socket.once('close', () => {
        open.delete(socket);
        cut++;
      });
    };
    for (let i = 0; i < 150; i++) come(`127.1.${i % 3}.9`);
    while (cut < 50) await sleep(5);
    for (let i = 0; i < 10; i++) {
      // Whoever was cut for the scraper comes again.
      come('127.1.0.9');
      expect((await ask('GET', '/healthz')).status).toBe(200);
    }
    for (const socket of open) socket.destroy();
    expect(errors).toEqual([]);
  });
});

test('a port that is taken is told as such', async () => {
  const { address } = await listen();
  await expect(openWebListener({ listen: address, token: undefined, routes: ROUTES, log })).rejects.toThrow(
    `metrics.listen: 127.0.0.1:${address.port}: the port is in use by another program; stop that one or choose another port`,
  );
});

describe('compression', () => {
  const coded = async (accepted: string, headers: Record<string, string> = {}, where = '/long') => {
    const { port } = listener?.address ?? { port: 0 };
    const request = await fetch(`http://127.0.0.1:${port}${where}`, {
      headers: { 'accept-encoding': accepted, ...headers },
    });
    return {
      ...{ status: request.status, coding: request.headers.get('content-encoding'), vary: request.headers.get('vary') },
      ...{ text: await request.text(), length: Number(request.headers.get('content-length')) },
    };
  };

  test.each([
    ['gzip', 'gzip'],
    ['gzip, deflate, br, zstd', 'gzip'],
    ['br;q=1.0, GZIP;q=0.5', 'gzip'],
    ['*', 'gzip'],
    ['identity', null],
    ['br', null],
    ['gzip;q=0', null],
    ['gzip;q=0, *', null],
    ['gzip;q=x', null],
    [',;=', null],
  ])('for Accept-Encoding: %s it is %s', async (accepted, coding) => {
    await listen();
    const answer = await coded(accepted);
    expect([answer.coding, answer.vary, answer.text]).toEqual([coding, 'accept-encoding', LONG.body]);
    if (coding === null) expect(answer.length).toBe(LONG.body.length);
    else expect(answer.length).toBeLessThan(LONG.body.length / 10);
  });

  test('is not for who has no token, nor for what is short', async () => {
    await listen('the-token');
    expect(await coded('gzip')).toMatchObject({ status: 401, coding: null, vary: null });
    const bearer = { authorization: 'Bearer the-token' };
    expect(await coded('gzip', bearer)).toMatchObject({ status: 200, coding: 'gzip', text: LONG.body });
    expect(await coded('gzip', bearer, '/')).toMatchObject({ status: 200, coding: null, vary: null });
  });

  test('a flood of readers gets the page whole, compressed or not', async () => {
    await listen();
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => coded(index % 2 === 0 ? 'gzip' : 'br')));
    expect(answers.every(({ text }) => text === LONG.body)).toBe(true);
    expect(answers.map(({ coding }) => coding)).toEqual(answers.map((_, index) => (index % 2 === 0 ? 'gzip' : null)));
  });
});
