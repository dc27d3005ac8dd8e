/** A client and a gateway as a config has them, for tests: all that is not given is the default. */
import path from 'node:path';
import type { ClientConfig, GatewayConfig } from '../../src/config/types.ts';

/** A client with a repository of its own name in the store `store`. */
export function testClient(name = 'appsrv', given: Partial<ClientConfig> = {}): ClientConfig {
  return {
    ...{
      name,
      id: name,
      role: 'backup',
      keys: [],
      principals: [],
      repository: { store: 'store', prefix: name },
      access: 'append-only',
      addKeys: false,
    },
    ...{ maxSessions: 10, maxLocks: 200, from: [], disabled: false, removals: 'refused' },
    ...given,
  };
}

/** A gateway on a free port of the loopback, with everything of its own in a directory. */
export function testGateway(directory: string, given: Partial<GatewayConfig> = {}): GatewayConfig {
  return {
    ...{ file: path.join(directory, 'gateway.yaml'), listen: [{ host: '127.0.0.1', port: 0 }], hostKeys: [] },
    ...{ ssh: { extraCiphers: [] }, maxSessions: 1000, workers: 1, drainSeconds: 60 },
    stores: { store: { type: 'directory', name: 'store', path: path.join(directory, 'store') } },
    clients: {},
    notify: {},
    trustedUserCAKeys: [],
    revokedCertificates: [],
    audit: { file: path.join(directory, 'audit.jsonl') },
    state: path.join(directory, 'state'),
    ...given,
  };
}
