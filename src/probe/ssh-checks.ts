/** What a client tries below restic: other ways to log in, weak algorithms, and all that SSH offers beside one command. */
import type { Algorithms, Client } from 'ssh2';
import { messageOf } from '../core/errors.ts';
import { within } from '../core/waiting.ts';
import { execute, logIn, type Target } from './connection.ts';
import { notTried, row, type Row } from './rows.ts';

/** Printed with the sum worked out by a shell only: an echo of the input shows the sum itself. */
const SHELL_LINE = 'echo restic-gateway-probe-$((6*7))';
const SHELL_ANSWER = 'restic-gateway-probe-42';
/** How long a server that has opened something is listened to, in ms. */
const LISTEN_MS = 1500;

/** Broken or long deprecated; what OpenSSH itself still offers by default is not counted. */
const WEAK: readonly (readonly [string, Algorithms])[] = [
  [
    'key exchange with SHA-1',
    { kex: ['diffie-hellman-group14-sha1', 'diffie-hellman-group1-sha1', 'diffie-hellman-group-exchange-sha1'] },
  ],
  ['CBC ciphers, 3DES', { cipher: ['3des-cbc', 'aes128-cbc', 'aes192-cbc', 'aes256-cbc'] }],
  [
    'MACs with MD5 or cut to 96 bits',
    {
      cipher: ['aes128-ctr', 'aes256-ctr'],
      hmac: ['hmac-md5', 'hmac-md5-96', 'hmac-sha1-96', 'hmac-sha2-256-96', 'hmac-sha2-512-96'],
    },
  ],
];

/** Ways in without the key. */
export async function tryLogins(target: Target): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [check, options] of [
    ['log in without authentication', { authHandler: ['none'] }],
    ['log in with a password', { authHandler: ['password'], password: 'restic-gateway-probe' }],
  ] as const) {
    const login = await logIn(target, { ...options, authHandler: [...options.authHandler] });
    if (login.in) login.client.destroy();
    rows.push(row(check, !login.in && login.handshake, login.in ? 'it was let in' : login.why));
  }
  for (const [what, algorithms] of WEAK) {
    const login = await logIn(target, { algorithms, authHandler: ['none'] });
    if (login.in) login.client.destroy();
    const held = !login.in && !login.handshake && login.level !== 'client-timeout';
    rows.push(row(`weak algorithms: ${what}`, held, login.in || login.handshake ? 'it agreed to them' : login.why));
  }
  return rows;
}

/** Everything but restic, each on a connection of its own: some servers cut one that tries such things. @param enter - logs in */
export async function tryChannels(enter: () => Promise<Client>, { port, timeoutMs }: Target): Promise<Row[]> {
  const on = async <T>(attempt: (client: Client) => Promise<T>): Promise<T | undefined> => {
    const client = await enter();
    const cut = new Promise<undefined>((resolve) => {
      client.once('close', () => {
        resolve(undefined);
      });
    });
    try {
      return await within(timeoutMs, Promise.race([attempt(client), cut]));
    } finally {
      client.destroy();
    }
  };
  const shell = (client: Client) =>
    new Promise<Channel | Error>((resolve) => {
      client.shell(false, (error, channel) => {
        resolve(error ?? channel);
      });
    });
  const rows = [
    commandRow('a shell', await on(async (client) => listen(await shell(client)))),
    commandRow('a command of its own', await on(async (client) => listen(await execute(client, SHELL_LINE)))),
  ];

  const pty = await on(async (client) => !((await execute(client, SHELL_LINE, { pty: true })) instanceof Error));
  rows.push(row('a terminal (pty)', pty !== true, pty === true ? 'it was given' : 'declined'));
  const sftp = await on((client) => within(Math.min(timeoutMs, 2 * LISTEN_MS), sftpOf(client)));
  rows.push(row('SFTP', sftp !== true, sftp === true ? 'it was given' : 'declined'));
  // A server may leave the request unanswered: what it would start, it starts at once.
  const second = await on((client) => within(LISTEN_MS, secondCommand(client)));
  rows.push(row('a second command in one channel', second !== true, second === true ? 'it was started' : 'declined'));

  const to = await on((client) => forwarded((done) => client.forwardOut('127.0.0.1', 0, '127.0.0.1', port, done)));
  // A server that tried, and found nobody there, would have connected to somebody.
  const reached = to === 'open' || to === 'failed';
  rows.push(row('forwarding to another address', !reached, reached ? 'it was done' : 'declined'));
  const back = await on((client) => forwarded((done) => client.forwardIn('127.0.0.1', 0, done)));
  rows.push(row('a port opened on the server', back !== 'open', back === 'open' ? 'it was done' : 'declined'));
  const socket = await on((client) =>
    forwarded((done) => client.openssh_forwardOutStreamLocal('/restic-gateway-probe', done)),
  );
  const socketRow = 'forwarding to a socket of the server';
  // OpenSSH says "failed" for what it forbids, too.
  if (socket === 'failed')
    rows.push(notTried(socketRow, 'this server does not say whether it forbids it or finds none'));
  else rows.push(row(socketRow, socket !== 'open', socket === 'open' ? 'it was done' : 'declined'));
  return rows;
}

function sftpOf(client: Client): Promise<boolean> {
  return new Promise((resolve) => {
    client.sftp((error) => {
      resolve(error === undefined);
    });
  });
}

function forwarded(
  forward: (done: (error: Error | undefined) => void) => unknown,
): Promise<'open' | 'failed' | 'declined'> {
  return new Promise((resolve) => {
    forward((error) => {
      if (error === undefined) resolve('open');
      else resolve(isConnectFailure(error) ? 'failed' : 'declined');
    });
  });
}

function isConnectFailure(error: unknown): boolean {
  const reason = (error as { reason?: unknown } | undefined)?.reason;
  return reason === 2 || reason === 'CONNECT_FAILED';
}

type Channel = Exclude<Awaited<ReturnType<typeof execute>>, Error>;

/** What a channel says to a shell's line. */
async function listen(channel: Channel | Error): Promise<string> {
  if (channel instanceof Error) return messageOf(channel);
  let said = '';
  channel.stderr.on('data', (chunk: Buffer) => (said += chunk.toString().slice(0, 4096)));
  const ended = new Promise<void>((resolve) => {
    channel.on('data', (chunk: Buffer) => {
      said += chunk.toString().slice(0, 4096);
      if (said.includes(SHELL_ANSWER)) resolve();
    });
    channel.on('close', resolve);
    channel.on('error', () => {
      resolve();
    });
  });
  if (channel.writable) channel.write(`${SHELL_LINE}\n`);
  await within(LISTEN_MS, ended);
  channel.close();
  return said;
}

function commandRow(check: string, said: string | undefined): Row {
  const ran = said?.includes(SHELL_ANSWER) === true;
  return row(check, !ran, ran ? 'it was run' : 'nothing of it was run');
}

/** ssh2's client asks for one command a channel: a second one is sent by its internals, as the protocol would let a client. */
async function secondCommand(client: Client): Promise<boolean> {
  const channel = await execute(client, 'restic-gateway-probe');
  if (channel instanceof Error) return false;
  const { _client, _callbacks, outgoing } = channel as unknown as {
    readonly _client: { readonly _protocol: { exec(id: number, command: string, wantReply: boolean): void } };
    readonly _callbacks: ((refused: unknown) => void)[];
    readonly outgoing: { readonly id: number };
  };
  const started = await new Promise<boolean>((resolve) => {
    channel.on('close', () => {
      resolve(false);
    });
    channel.resume();
    channel.stderr.resume();
    _callbacks.push((refused) => {
      resolve(refused !== true && !(refused instanceof Error));
    });
    _client._protocol.exec(outgoing.id, SHELL_LINE, true);
  });
  channel.close();
  return started;
}
