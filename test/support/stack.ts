/** A whole gateway in this process, without a front end: a principal's session on a loopback socket, on a real directory store. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ClientConfig, GatewayConfig, StoreConfig } from '../../src/config/types.ts';
import type { Principal } from '../../src/core/principal.ts';
import { createGateway, type Gateway } from '../../src/gateway/gateway.ts';
import type { Session, SessionRequest } from '../../src/ports/sessions.ts';
import type { Duplex } from 'node:stream';
import { resticClient, type ResticClient } from './restic-client.ts';
import { testClient, testGateway } from './test-client.ts';

/** One line of the audit, as written. */
export type AuditLine = Readonly<Record<string, unknown>>;

/** A client of the stack, connected. */
export interface StackClient extends ResticClient {
  readonly served: Session;
  /** What the person at the client was told. */
  readonly reported: readonly string[];
  readonly socket: Socket;
}

/** What a session may ask for beside its principal. */
type Asked = Pick<SessionRequest, 'overrideProtect'>;

/** A gateway in this process. */
export interface Stack {
  readonly directory: string;
  readonly gateway: Gateway;
  /** What it was started with. */
  readonly config: GatewayConfig;
  /** Connects as a client of the config. */
  connect(client: string, principal?: Partial<Principal>, asked?: Asked): Promise<StackClient>;
  /** Serves a client on the other end of a stream that is in the test's hands. */
  serve(client: string, stream: Duplex): Promise<Session>;
  audit(): AuditLine[];
  /** Path of a file of a repository in the store. */
  file(client: string, key: string): string;
  close(): Promise<void>;
}

/** Starts a stack; `clients` have a repository of their own name in one store. */
export async function startStack(
  clients: Readonly<Record<string, Partial<ClientConfig>>>,
  makeStore: (directory: string) => StoreConfig = (directory) => ({
    type: 'directory',
    name: 'store',
    path: path.join(directory, 'store'),
  }),
  overrides: Partial<GatewayConfig> = {},
): Promise<Stack> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gateway-stack-'));
  mkdirSync(path.join(directory, 'store'));
  const config = testGateway(directory, {
    stores: { store: makeStore(directory) },
    clients: Object.fromEntries(Object.entries(clients).map(([name, client]) => [name, testClient(name, client)])),
    ...overrides,
  });
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const gateway = await createGateway({ config, log: silent });
  const listener = createServer({ noDelay: true, allowHalfOpen: true });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as AddressInfo;
  const open: ResticClient[] = [];
  let pairing: Promise<unknown> = Promise.resolve();

  return {
    directory,
    gateway,
    config,
    connect: async (client, principal = {}, asked = {}) => {
      // One after the other, so that each gets its own other end.
      const paired = pairing.then(async () => {
        const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve));
        return { socket: connect({ port, host: '127.0.0.1', noDelay: true }), stream: await accepted };
      });
      pairing = paired;
      const { socket, stream } = await paired;
      const reported: string[] = [];
      const served = await gateway
        .openSession({
          principal: { client, via: 'ssh', ...principal },
          stream,
          notify: (line) => reported.push(line),
          ending: () => undefined,
          ...asked,
        })
        .catch((error: unknown) => {
          socket.destroy();
          stream.destroy();
          throw error;
        });
      const connected = { ...resticClient(socket), served, reported, socket };
      open.push(connected);
      return connected;
    },
    serve: (client, stream) =>
      gateway.openSession({
        principal: { client, via: 'ssh' },
        stream,
        notify: () => undefined,
        ending: () => undefined,
      }),
    audit: () =>
      readFileSync(config.audit.file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as AuditLine),
    file: (client, key) => path.join(directory, 'store', client, key),
    close: async () => {
      for (const client of open) client.close();
      await gateway.close();
      await new Promise((resolve) => listener.close(resolve));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
